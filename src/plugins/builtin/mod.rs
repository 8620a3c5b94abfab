//! Plugins that are part of the binary. Must not know actors, storage or HTTP.

pub mod echo;
pub mod files;
pub mod system;
pub mod waygate;
