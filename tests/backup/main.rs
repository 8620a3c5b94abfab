//! Backups and the verbs of the database, as the built program makes and restores them: sound ones, hostile ones, and those
//! that were cut off.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod database;
#[cfg(test)]
mod full;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod making;
#[cfg(test)]
#[cfg(feature = "postgres")]
mod on_postgres;
#[cfg(test)]
mod places;
#[cfg(test)]
mod restoring;
#[cfg(test)]
mod schedule;
