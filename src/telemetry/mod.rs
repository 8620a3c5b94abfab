//! What is told to those who watch: metrics, logs, recent errors. It is told, and never asks.

pub mod errors;
pub mod logging;
pub mod metrics;
pub mod redaction;
