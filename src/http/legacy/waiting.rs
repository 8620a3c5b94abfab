//! One POST waits for its answer: JSON when nothing was said before it, an event stream from the first word on, or when
//! the answer takes its time.
//!
//! Must not know what is answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use tokio::time::Sleep;

use super::super::limits::Accepts;
use super::super::stream;
use super::answers::{self, Request};
use super::streams;
use super::voice::Voice;
use crate::actors::session::outbox::{Hold, LaneKind};
use crate::protocol::{Revision, modern};

/// An answer that takes longer comes on a stream, so that the connection shows signs of life and can be taken up again.
const STREAM_AFTER: Duration = Duration::from_secs(1);

/// Answers one request of a session.
pub async fn answer(request: Request, accepts: Accepts) -> HttpResponse {
    let session = Arc::clone(&request.session);
    let revision = session.agreed().map_or(Revision::NEWEST_LEGACY, |agreed| agreed.revision);
    let keep_alive = request.door.frame.limits.stream_keep_alive;
    let token = request.params.progress_token().map(modern::Member::raw);
    let voice = Arc::new(Voice::new(Arc::clone(&session), revision, token, accepts.events));
    let talk = Box::pin(answers::answer(request, Arc::clone(&voice)));
    match (Waiting { talk: Some(talk), voice, later: None }).await {
        Begun::Ended(Some(answer)) if accepts.json => stream::send(answer, accepts),
        // A client that takes streams alone can come back to them.
        Begun::Ended(Some(answer)) => {
            let hold = session.outbox.open(LaneKind::Reply);
            session.outbox.put(hold.lane, answer, false);
            session.outbox.end(hold.lane);
            streams::respond(session, hold, keep_alive, true)
        }
        // Cancelled: the client wants no answer, and its POST needs an end.
        Begun::Ended(None) if accepts.events => stream::events(""),
        Begun::Ended(None) => HttpResponse::Accepted().finish(),
        Begun::Speaks(hold) => streams::respond(session, hold, keep_alive, true),
    }
}

type Talk = Pin<Box<dyn Future<Output = Option<Vec<u8>>>>>;

enum Begun {
    Ended(Option<Vec<u8>>),
    Speaks(Hold),
}

/// Waits for the answer or for the first word before it. Whoever stops waiting leaves the rest of the work to itself: in
/// these revisions a disconnect is not a cancel.
struct Waiting {
    talk: Option<Talk>,
    voice: Arc<Voice>,
    later: Option<Pin<Box<Sleep>>>,
}

impl Future for Waiting {
    type Output = Begun;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Begun> {
        let this = &mut *self;
        let ended = match this.talk.as_mut() {
            Some(talk) => talk.as_mut().poll(cx),
            None => Poll::Ready(None),
        };
        if let Poll::Ready(answer) = ended {
            this.talk = None;
            // With an answer in hand no lane is open, and none can be opened any more.
            let hold = if answer.is_none() { this.voice.take_hold(cx) } else { None };
            return Poll::Ready(hold.map_or(Begun::Ended(answer), Begun::Speaks));
        }
        if let Some(hold) = this.voice.take_hold(cx) {
            this.detach();
            return Poll::Ready(Begun::Speaks(hold));
        }
        let later = this.later.get_or_insert_with(|| Box::pin(tokio::time::sleep(STREAM_AFTER)));
        if later.as_mut().poll(cx).is_ready()
            && this.voice.lane().is_some()
            && let Some(hold) = this.voice.take_hold(cx)
        {
            this.detach();
            return Poll::Ready(Begun::Speaks(hold));
        }
        Poll::Pending
    }
}

impl Waiting {
    fn detach(&mut self) {
        if let Some(talk) = self.talk.take() {
            drop(actix_web::rt::spawn(talk));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.talk.is_some() {
            self.voice.deafen();
            self.detach();
        }
    }
}
