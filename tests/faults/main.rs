//! What Waygate promises when things go wrong, chapter by chapter: faults are made in and around a real server process.

#[path = "../support/mod.rs"]
mod support;

mod actors;
mod database;
mod kill;
mod ledger;
mod load;
mod plugins;
mod start;
mod stop;
