//! What a call says before its result, as notifications. Must not know how they travel.

use serde_json::Value;

use crate::actors::executor::messages::Notice;
use crate::protocol::modern::is_reserved;
use crate::protocol::{Object, Raw, Revision, render};

/// The notification that says `notice` to a client of `revision`; none where there is nothing to say.
pub fn worded(notice: &Notice, token: Option<&Raw>, revision: Revision) -> Option<Vec<u8>> {
    let mut params = Object::default();
    let method = match notice {
        Notice::Progress { said: Some(said), .. } => {
            params = theirs(said)?;
            params.set("progressToken", token?.clone());
            if !revision.has_audio_and_annotations() {
                params.remove("message");
            }
            "notifications/progress"
        }
        Notice::Log { said: Some(said), .. } => {
            params = theirs(said)?;
            "notifications/message"
        }
        Notice::Progress { progress, total, message, said: None } => {
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
        Notice::Log { level, logger, data, said: None } => {
            params.put("level", serde_json::to_value(level).unwrap_or_default());
            params.put("logger", logger.as_str());
            params.put("data", data.clone());
            "notifications/message"
        }
        Notice::Quiet(_) => return None,
    };
    Some(render::notification(method, &params))
}

/// What a server said, without what the protocol says in `_meta` of the way between it and Waygate.
fn theirs(said: &Raw) -> Option<Object> {
    let mut params = Object::open(said).ok()?;
    let Some(meta) = params.get("_meta") else { return Some(params) };
    let mut kept = Object::default();
    if let Ok(meta) = Object::open(meta) {
        let foreign = meta.members().filter(|(key, _)| !is_reserved(key));
        foreign.for_each(|(key, value)| kept.set(key, value.clone()));
    }
    if kept.is_empty() {
        params.remove("_meta");
    } else {
        params.set("_meta", kept.to_raw());
    }
    Some(params)
}

/// Whole numbers without a fraction.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    if value.fract() == 0.0 && value.abs() < 9e15 { Value::from(value as i64) } else { Value::from(value) }
}
