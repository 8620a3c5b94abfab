//! What is told to those who watch: metrics, logs, recent errors, traces, profiles. It is told, and never asks.

pub mod errors;
pub mod letters;
pub mod logging;
pub mod metrics;
pub mod profile;
pub mod redaction;
pub mod traces;
pub mod trust;
