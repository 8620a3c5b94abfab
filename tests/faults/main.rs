//! What Waygate promises when things go wrong, chapter by chapter: faults are made in and around a real server process.

#[cfg(test)]
#[path = "../support/legacy.rs"]
mod legacy;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod actors;
#[cfg(test)]
mod confinement;
#[cfg(test)]
mod database;
#[cfg(test)]
mod exclusive;
#[cfg(test)]
mod file;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod load;
#[cfg(test)]
mod plugins;
#[cfg(test)]
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sessions_kept;
#[cfg(test)]
mod start;
#[cfg(test)]
mod stdio_link;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod system;
#[cfg(test)]
mod upstreams;
