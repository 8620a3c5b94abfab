//! What is done once for a session that goes on from a server before this one: its client still waits to be told of changes.
//!
//! Must not know where sessions are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::door::{Door, Frame};
use super::super::listen;
use super::super::views::ANSWER_WITHIN;
use crate::actors::ask::ask;
use crate::actors::session::messages::{Subscribe, Tell};
use crate::actors::session::{News, SessionHandle};

/// For so long it is tried to watch again what was watched: a plugin may not be ready yet.
const WATCHED_WITHIN: Duration = Duration::from_secs(120);
/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Watches again what the client of a session watches; beside its request, and once.
pub fn renew(door: &Door, session: &Arc<SessionHandle>) {
    let uris = session.take_unwatched();
    if !uris.is_empty() {
        let watched = watch(Arc::clone(&door.frame), Arc::clone(session), uris);
        drop(actix_web::rt::spawn(watched));
    }
}

/// Tells the client of a session that much may have changed since a server before this one told it anything; once.
pub fn tell(door: &Door, session: &Arc<SessionHandle>) {
    if session.take_stale()
        && let Ok(actor) = session.actor(&door.frame.house.streams)
    {
        // One notice to a new actor: its mailbox has room.
        actor.do_send(Tell(News::Unknown));
    }
}

async fn watch(frame: Arc<Frame>, session: Arc<SessionHandle>, mut uris: Vec<Arc<str>>) {
    let (house, until) = (&frame.house, Instant::now() + WATCHED_WITHIN);
    let most = frame.limits.subscriptions_max;
    loop {
        // Whoever unsubscribed meanwhile does not watch it any more.
        uris.retain(|uri| session.watches(uri));
        for watching in listen::watch(house, session.view(), &uris).await {
            let uri = Arc::clone(watching.uri());
            let Ok(actor) = session.actor(&house.streams) else { return };
            if ask(&actor, Subscribe { watching, most }, ANSWER_WITHIN).await.is_ok() {
                uris.retain(|known| *known != uri);
                // Nobody watched it for a while.
                actor.do_send(Tell(News::Updated(uri)));
            }
        }
        if uris.is_empty() || session.has_ended() {
            return;
        }
        if Instant::now() >= until {
            log::warn!(session = &*session.label; "{} resources that a session watched are not there any more", uris.len());
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
