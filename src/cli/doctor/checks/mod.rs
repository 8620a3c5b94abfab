//! The checks, each in a file of its own: a function that looks at the patient and gives what it found. Must not mend anything.

pub mod backups;
pub mod clock;
pub mod config;
pub mod crashes;
pub mod database;
pub mod disk;
pub mod files;
pub mod keys;
pub mod logs;
pub mod orphans;
pub mod permissions;
pub mod plugins;
pub mod port;
pub mod server;
pub mod stale;
pub mod streaming;
pub mod tls;
pub mod ulimits;
