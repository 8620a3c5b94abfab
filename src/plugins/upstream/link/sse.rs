//! HTTP+SSE of 2024-11-05: one GET stream brings everything, each message of ours is a POST to the address that the
//! stream names first.
//!
//! Must not know what is asked. The stream cannot be taken up again: when it breaks, so does the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Uri};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::http::{
    Call, Extras, HttpCore, Kind, Landed, Next, Origin, Reader, Refusal, acknowledged, join, messages,
    wrong_kind,
};
use super::pending::Pending;
use super::{Flow, Link, LinkError, Outgoing};

/// Events before the one that names the address: a server that talks of other things has none.
const EVENTS_BEFORE_ADDRESS: usize = 32;

/// A link to a server of 2024-11-05.
pub struct SseLink {
    desk: Arc<Desk>,
    /// Ends the reading with the link.
    _closing: DropGuard,
}

struct Desk {
    core: HttpCore,
    /// Where our messages go.
    address: Uri,
    pending: Arc<Pending>,
    closed: CancellationToken,
    strays_taken: AtomicBool,
}

impl SseLink {
    /// Opens the stream and waits for the address. Whoever calls sets a deadline.
    ///
    /// # Errors
    /// No connection, no stream, or an address that is not the server's own.
    pub async fn open(core: &HttpCore) -> Result<Self, LinkError> {
        let mut extras = Extras::new();
        extras.push((ACCEPT, HeaderValue::from_static("text/event-stream")));
        let (uri, body) = (core.uri().clone(), Bytes::new());
        let answer = core
            .exchange(&Call { method: Method::GET, uri, body, modern: false, extras, session: None })
            .await?;
        if !answer.status().is_success() {
            return Err(Refusal::read(core, answer).await.error(core));
        }
        match Kind::of(answer.headers()) {
            Kind::Events => {}
            Kind::Json => return Err(wrong_kind("application/json")),
            Kind::Other(kind) => return Err(wrong_kind(&kind)),
        }
        let base = answer.extensions().get::<Landed>().map_or_else(|| core.uri().clone(), |at| at.0.clone());
        let mut reader = Reader::new(core, answer.into_body());
        let address = address(&mut reader, &base, core.home()).await?;
        let closed = CancellationToken::new();
        let desk = Arc::new(Desk {
            core: core.clone(),
            address,
            pending: Pending::new(),
            closed: closed.clone(),
            strays_taken: AtomicBool::new(false),
        });
        tokio::spawn(read(Arc::clone(&desk.pending), reader, closed.clone()));
        Ok(Self { desk, _closing: closed.drop_guard() })
    }
}

/// The address that the first event names.
async fn address(reader: &mut Reader, base: &Uri, home: &Origin) -> Result<Uri, LinkError> {
    let garbage = |why: &str| LinkError::Garbage(format!("its stream {why}"));
    for _ in 0..EVENTS_BEFORE_ADDRESS {
        let event = match reader.event().await? {
            Next::Some(event) => event,
            Next::End(_) => return Err(garbage("ended before it named where to send messages")),
        };
        if event.kind.as_deref() != Some("endpoint") {
            continue;
        }
        let data = event.data.unwrap_or_default();
        let text = std::str::from_utf8(&data).map_err(|_| garbage("names an address that is not UTF-8"))?;
        let address = join(base, text.trim())
            .map_err(|why| garbage(&format!("names an address that cannot be used: {why}")))?;
        let origin = Origin::of(&address);
        if origin.as_ref() != Some(home) {
            // It would get our credentials, or lead us where the server cannot go itself.
            let origin = origin.map(|origin| origin.to_string()).unwrap_or_default();
            return Err(garbage(&format!(
                "wants messages sent to another origin, {origin}, which is not done"
            )));
        }
        return Ok(address);
    }
    Err(garbage("does not name where to send messages"))
}

/// Gives what comes to whom it belongs, until the stream or the link ends.
async fn read(pending: Arc<Pending>, mut reader: Reader, closed: CancellationToken) {
    let why = loop {
        let event = tokio::select! {
            () = closed.cancelled() => {
                pending.end(LinkError::Broken("the link was closed".into()), true);
                return;
            }
            event = reader.event() => event,
        };
        match event {
            Ok(Next::Some(event)) => {
                let is_message = event.kind.as_deref().is_none_or(|kind| matches!(kind, "" | "message"));
                let data = event.data.filter(|data| is_message && !data.trim_ascii().is_empty());
                match data.map(|data| messages(Bytes::from(data))) {
                    None => {}
                    Some(Ok(said)) => said.into_iter().for_each(|message| pending.route(message)),
                    // Whose answer it was is not known; who waits for it runs into its deadline.
                    Some(Err(error)) => log::warn!("an event of a server is dropped: {error}"),
                }
            }
            Ok(Next::End(why)) => break LinkError::Broken(why),
            Err(error) => break error,
        }
    };
    pending.end(why, false);
}

impl Desk {
    async fn post(&self, body: Bytes) -> Result<(), LinkError> {
        let mut extras = Extras::new();
        extras.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        let call = Call {
            method: Method::POST,
            uri: self.address.clone(),
            body,
            modern: false,
            extras,
            session: None,
        };
        let answer = self.core.exchange(&call).await?;
        // The session stands in the address: there is always one.
        acknowledged(&self.core, true, answer).await
    }
}

impl Link for SseLink {
    fn ask(&self, request: Outgoing) -> BoxFuture<'static, Result<Flow, LinkError>> {
        let desk = Arc::clone(&self.desk);
        Box::pin(async move {
            let waiting = desk.pending.wait(request.id)?;
            desk.post(request.body).await?;
            Ok(Flow::of(waiting))
        })
    }

    fn tell(&self, message: Bytes, _: Option<&'static str>) -> BoxFuture<'static, Result<(), LinkError>> {
        let desk = Arc::clone(&self.desk);
        Box::pin(async move { desk.post(message).await })
    }

    fn strays(&self) -> Flow {
        if self.desk.strays_taken.swap(true, Ordering::Relaxed) {
            return Flow::none();
        }
        Flow::of(self.desk.pending.strays())
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        // The end of the stream is the end of the session.
        self.desk.closed.cancel();
        Box::pin(std::future::ready(()))
    }

    fn veiled(&self, text: &str) -> String {
        self.desk.core.veiled(text)
    }

    fn report(&self) -> serde_json::Value {
        let (requests, bytes_in, bytes_out) = self.desk.core.counts();
        let (waiting, dropped, unasked) = self.desk.pending.counts();
        json!({
            "transport": "sse",
            "url": self.desk.core.shown(),
            "session": true,
            "getStream": if self.desk.closed.is_cancelled() { "closed" } else { "open" },
            "requests": requests,
            "bytesIn": bytes_in,
            "bytesOut": bytes_out,
            "waiting": waiting,
            "dropped": dropped,
            "unasked": unasked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Act, Heard, Log, all, answer, events, json, outgoing, reach, serve, soon, until,
    };
    use super::*;

    /// A server whose stream says `first`, then what each POST's number makes it say.
    async fn server(first: &'static str, says: fn(usize) -> &'static str) -> (HttpCore, Arc<Log>) {
        let (sender, _) = tokio::sync::broadcast::channel::<&'static str>(16);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/sse", listener.local_addr().unwrap());
        let log = Arc::<Log>::default();
        let seen = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(stream_or_post(stream, first, says, sender.clone(), Arc::clone(&seen)));
            }
        });
        (HttpCore::open(&reach(&url), hyper::HeaderMap::new(), 1 << 16).unwrap(), log)
    }

    async fn stream_or_post(
        mut stream: tokio::net::TcpStream,
        first: &'static str,
        says: fn(usize) -> &'static str,
        sender: tokio::sync::broadcast::Sender<&'static str>,
        log: Arc<Log>,
    ) {
        use tokio::io::AsyncWriteExt as _;
        let mut start = [0; 4];
        stream.peek(&mut start).await.unwrap();
        if start.starts_with(b"GET") {
            let mut receiver = sender.subscribe();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            stream.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
            while let Ok(text) = receiver.recv().await {
                if text == "end" || stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            return;
        }
        let script = move |number: usize, _: &Heard| {
            let _ = sender.send(says(number));
            vec![answer(202, "text/plain", "", "Accepted")]
        };
        super::super::testing::converse(stream, Arc::new(script), log).await;
    }

    #[tokio::test]
    async fn messages_go_to_the_address_and_answers_come_on_the_stream() {
        let (core, log) = server("event: endpoint\ndata: messages?session=1\n\n", |number| match number {
            0 => "event: message\ndata: {\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1}}\n\n\
                  event: message\ndata: {\"id\":9,\"method\":\"ping\"}\n\n\
                  event: ping\ndata: hello\n\ndata: rubbish\n\n\
                  event: message\ndata: {\"id\":1,\"result\":{}}\n\n",
            _ => "data: {\"id\":2,\"error\":{\"code\":-5}}\n\n",
        })
        .await;
        let link = soon(SseLink::open(&core)).await.unwrap();
        let mut strays = link.strays();
        let said = all(soon(link.ask(outgoing(1, "tools/call", None))).await).await;
        assert_eq!(said, ["notice notifications/progress", "result {}"]);
        assert_eq!(all(soon(link.ask(outgoing(2, "tools/call", None))).await).await, ["error -5"]);
        assert!(matches!(soon(strays.next()).await, Some(Ok(crate::protocol::Incoming::Request { .. }))));
        let heard = log.heard();
        assert_eq!(heard[0].line, "POST /messages?session=1");
        assert!(!heard[0].headers.contains_key("mcp-method"));
        soon(link.close()).await;
        assert!(soon(strays.next()).await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_ends_breaks_what_waits_on_it() {
        let (core, _) = server("event: endpoint\ndata: /messages\n\n", |_| "end").await;
        let link = soon(SseLink::open(&core)).await.unwrap();
        let said = all(soon(link.ask(outgoing(1, "tools/call", None))).await).await;
        assert!(said.len() == 1 && said[0].starts_with("broken: "), "{said:?}");
        let said = all(soon(link.ask(outgoing(2, "tools/call", None))).await).await;
        assert!(said[0].starts_with("unreachable: "), "{said:?}");
    }

    #[tokio::test]
    async fn an_address_of_another_origin_is_refused() {
        for (first, says) in [
            ("event: endpoint\ndata: http://127.0.0.1:1/x\n\n", "another origin, http://127.0.0.1:1"),
            ("event: endpoint\ndata: //evil.example/x\n\n", "another origin"),
            ("event: endpoint\ndata: file:///x\n\n", "cannot be used"),
        ] {
            let (url, _) = serve(move |_, _: &Heard| vec![events(first), Act::Hang]).await;
            let core = HttpCore::open(&reach(&url), hyper::HeaderMap::new(), 1 << 16).unwrap();
            let error = soon(SseLink::open(&core)).await.err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_stream_is_refused_and_a_link_that_goes_closes_its_stream() {
        let (url, _) = serve(|_, _: &Heard| vec![json("{}")]).await;
        let core = HttpCore::open(&reach(&url), hyper::HeaderMap::new(), 1 << 16).unwrap();
        assert!(matches!(soon(SseLink::open(&core)).await, Err(LinkError::Garbage(_))));
        let (url, log) = serve(|_, _: &Heard| vec![events("event: endpoint\ndata: /m\n\n"), Act::Hang]).await;
        let core = HttpCore::open(&reach(&url), hyper::HeaderMap::new(), 1 << 16).unwrap();
        drop(soon(SseLink::open(&core)).await.unwrap());
        until("the stream is closed", || log.deserted.load(Ordering::SeqCst) == 1).await;
    }
}
