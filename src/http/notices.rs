//! What a call says before its result, as notifications. Must not know how they travel.

use serde_json::Value;

use crate::actors::executor::messages::Notice;
use crate::protocol::{Object, Raw, Revision, render};

/// The notification that says `notice` to a client of `revision`; none where there is nothing to say.
pub fn worded(notice: &Notice, token: Option<&Raw>, revision: Revision) -> Option<Vec<u8>> {
    let mut params = Object::default();
    let method = match notice {
        Notice::Progress { progress, total, message } => {
            params.set("progressToken", token?.clone());
            params.put("progress", number(*progress));
            if let Some(total) = total {
                params.put("total", number(*total));
            }
            if let Some(message) = message.as_ref().filter(|_| revision.has_audio_and_annotations()) {
                params.put("message", message.as_str());
            }
            "notifications/progress"
        }
        Notice::Log { level, logger, data } => {
            params.put("level", serde_json::to_value(level).unwrap_or_default());
            params.put("logger", logger.as_str());
            params.put("data", data.clone());
            "notifications/message"
        }
        Notice::Quiet(_) => return None,
    };
    Some(render::notification(method, &params))
}

/// Whole numbers without a fraction.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    if value.fract() == 0.0 && value.abs() < 9e15 { Value::from(value as i64) } else { Value::from(value) }
}
