//! MetricsActor's mailbox: showing the numbers, in three forms.
//!
//! | message       | from      | reply                       | may be lost |
//! |---------------|-----------|-----------------------------|-------------|
//! | `Render`      | http      | Prometheus text             | yes         |
//! | `Performance` | http, app | JSON of `/diagnostics/performance` | yes  |
//! | `Ping`, `Crash` | health, operator | –                  | yes         |

use actix::Message;
use serde_json::Value;

use super::RenderError;

/// Samples and shows everything as Prometheus text.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<String, RenderError>")]
pub struct Render;

/// Samples and shows what a person asks first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Value, RenderError>")]
pub struct Performance;
