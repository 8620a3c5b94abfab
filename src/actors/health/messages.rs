//! HealthMonitor's mailbox: one question.
//!
//! | message | from      | reply                              | may be lost |
//! |---------|-----------|------------------------------------|-------------|
//! | `Judge` | http, app | `Arc<Judgement>`, not older than a beat | yes    |
//! | `Ping`, `Crash` | health, operator | –                   | yes         |

use std::convert::Infallible;
use std::sync::Arc;

use actix::Message;

use super::Judgement;

/// Asks for the last judgement.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Arc<Judgement>, Infallible>")]
pub struct Judge;
