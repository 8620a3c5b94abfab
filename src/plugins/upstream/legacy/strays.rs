//! What a server says that belongs to no request of ours, brought to the call that it was most likely meant for.
//!
//! A pipe has one way back for all calls, and some servers use a session's GET stream for everything. What cannot be
//! attributed is refused when it is a request, and passed over when it is not: a client must never see what was meant for
//! another. Must not know what a call makes of it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::session::Session;
use crate::plugins::upstream::compose;
use crate::plugins::upstream::exchange::METHOD_NOT_FOUND;
use crate::plugins::upstream::link::{Flow, LinkError, id_of};
use crate::protocol::{Incoming, Object, Raw};

/// What a server is told that asks for input on a session of several clients.
pub const SHARED: &str = "this session serves several clients: no client can be asked";
/// JSON-RPC's code for what is the answerer's own fault.
pub const INTERNAL: i64 = -32603;

/// Listens until the link ends, and notes how it ended.
pub async fn listen(session: Weak<Session>, mut flow: Flow) {
    loop {
        let said = flow.next().await;
        let Some(session) = session.upgrade() else { return };
        match said {
            Some(Ok(message)) => take(&session, message),
            Some(Err(error)) => return session.end_with(Err(error)),
            // Over HTTP a server may have no stream for what belongs to no request; the end of a pipe is the end of all.
            None if session.link().cancels_by_closing() => {
                if session.is_main() {
                    session.changes().note_deaf(true);
                }
                return session.end_with(Ok(()));
            }
            None => return session.end_with(Err(LinkError::Broken("it ended".to_owned()))),
        }
    }
}

fn take(session: &Arc<Session>, message: Incoming) {
    match message {
        Incoming::Response { .. } => {
            session.tally().ignored.fetch_add(1, Ordering::Relaxed);
        }
        Incoming::Request { ref id, ref method, .. } if !is_ask(method) => answer(session, id, method),
        Incoming::Request { ref id, .. } if session.is_shared() => refuse_shared(session, id),
        Incoming::Request { .. } => {
            if let Some(Incoming::Request { id, .. }) = session.hand_to_asker(message) {
                session.tally().refused.fetch_add(1, Ordering::Relaxed);
                let why = "no call is in work whose client could be asked";
                session.say(compose::refusal(&id, INTERNAL, why));
            }
        }
        Incoming::Notification { ref method, ref params } => match method.as_str() {
            "notifications/progress" => {
                let token = params.as_ref().and_then(|params| Object::open(params).ok());
                if let Some(id) =
                    token.as_ref().and_then(|params| params.get("progressToken")).and_then(id_of)
                {
                    session.hand_to(id, message);
                }
            }
            "notifications/message" => {
                session.hand_to_only(message);
            }
            "notifications/cancelled" => session.hand_to_all(&message),
            _ => note(session, method, params.as_ref()),
        },
    }
}

/// Whether a request is one that a client is asked.
pub fn is_ask(method: &str) -> bool {
    matches!(method, "elicitation/create" | "sampling/createMessage" | "roots/list")
}

/// Answers what needs no client.
pub fn answer(session: &Arc<Session>, id: &Raw, method: &str) {
    session.say(match method {
        "ping" => compose::answer(id, &Raw::empty_object()),
        _ => compose::refusal(id, METHOD_NOT_FOUND, "this client does not know that method"),
    });
}

/// Refuses to ask a client on a session of several.
pub fn refuse_shared(session: &Arc<Session>, id: &Raw) {
    session.tally().refused.fetch_add(1, Ordering::Relaxed);
    session.tally().refused_shared.fetch_add(1, Ordering::Relaxed);
    session.say(compose::refusal(id, METHOD_NOT_FOUND, SHARED));
}

/// Takes in notifications that concern the session as a whole, wherever they came.
pub fn note(session: &Arc<Session>, method: &str, params: Option<&Raw>) {
    let text = |key: &str| params.and_then(|params| Object::open(params).ok())?.text(key);
    match method {
        "notifications/elicitation/complete" => {
            if let Some(elicitation) = text("elicitationId") {
                session.note_done(elicitation);
            }
        }
        _ if session.is_main() => session.changes().hear(method, text("uri")),
        // What the main session hears need not be heard twice; what it cannot hear is heard beside calls.
        _ if session.changes().is_deaf() => session.changes().hear(method, None),
        _ => {}
    }
}
