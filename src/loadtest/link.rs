//! One client's connection: opened, with a session where the era has them, and asked again and again. Must not know when.

use std::time::Duration;

use tokio::time::timeout;

use super::Plan;
use super::answer::{Judged, judge};
use super::fault::Fault;
use super::request::{Era, Rendered, Renderer, write_id};
use super::wire::Wire;

/// What ends a session is told in passing.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// A connection that is ready for calls.
pub struct Link {
    wire: Wire,
    session: Option<String>,
    calls: Vec<Rendered>,
    last_id: u64,
    id: String,
    buffer: Vec<u8>,
}

/// A call that was answered.
pub struct Answered {
    /// How.
    pub judged: Judged,
    /// In so many bytes.
    pub bytes: u64,
    /// Whether the connection ends with it.
    pub is_last: bool,
}

impl Link {
    /// Connects, and opens a session where there are any.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn open(plan: &Plan) -> Result<Self, Fault> {
        let opened = timeout(plan.timeout, async {
            let mut wire = plan.target.connect().await.map_err(|error| Fault::unconnected(&error))?;
            let session = match plan.era {
                Era::Legacy => Some(begin(&mut wire, &plan.renderer()).await?),
                Era::Modern | Era::Streamed => None,
            };
            Ok((wire, session))
        });
        let (wire, session) = opened.await.map_err(|_elapsed| {
            let late = Fault::late(plan.timeout);
            Fault { what: "no connection".to_owned(), example: late.what.clone(), ..late }
        })??;
        let renderer = plan.renderer();
        let calls = plan.calls.iter().map(|call| renderer.call(call, session.as_deref())).collect();
        Ok(Self { wire, session, calls, last_id: 0, id: String::new(), buffer: Vec::new() })
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// What went wrong; it says whether this link can go on.
    pub async fn call(&mut self, kind: usize, within: Duration) -> Result<Answered, Fault> {
        match timeout(within, self.exchange(kind)).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(Fault::late(within)),
        }
    }

    async fn exchange(&mut self, kind: usize) -> Result<Answered, Fault> {
        let broken = |error: std::io::Error| Fault::broken(&error);
        self.last_id += 1;
        write_id(self.last_id, &mut self.id);
        let before = self.wire.received();
        if let Some(call) = self.calls.get(kind) {
            let rest = call.write(&self.id, &mut self.buffer);
            self.wire.send(&self.buffer).await.map_err(broken)?;
            if !rest.is_empty() {
                self.wire.send(rest).await.map_err(broken)?;
            }
            self.wire.flush().await.map_err(broken)?;
        }
        let head = self.wire.answer().await.map_err(broken)?;
        let judged = judge(head.status, head.is_stream, self.wire.body(), &self.id);
        // A session that is gone is opened anew with its connection.
        let ends = head.closes || self.session.is_some() && head.status == 404;
        match judged {
            Ok(judged) => Ok(Answered { judged, bytes: self.wire.received() - before, is_last: ends }),
            Err(fault) => Err(Fault { keeps_connection: fault.keeps_connection && !ends, ..fault }),
        }
    }

    /// Opens the stream on which nothing need ever come.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn listen(&mut self, plan: &Plan) -> Result<(), Fault> {
        let opened = timeout(plan.timeout, async {
            let broken = |error: std::io::Error| Fault::broken(&error);
            self.wire.send(&plan.renderer().listen(self.session.as_deref())).await.map_err(broken)?;
            self.wire.flush().await.map_err(broken)?;
            let head = self.wire.head().await.map_err(broken)?;
            if head.status == 200 && head.is_stream {
                return Ok(());
            }
            self.wire.rest(&head).await.map_err(broken)?;
            let refused = judge(head.status, head.is_stream, self.wire.body(), "listen").err();
            Err(refused.unwrap_or_else(|| Fault::strange("no stream", self.wire.body())))
        });
        opened.await.map_err(|_elapsed| Fault::late(plan.timeout))?
    }

    /// Holds the stream until the server ends it.
    pub async fn hold(&mut self) {
        // However it ends, it is not open any more.
        drop(self.wire.drain().await);
    }

    /// Ends the session, where there is one.
    pub async fn close(mut self, plan: &Plan) {
        if let Some(session) = &self.session {
            let bytes = plan.renderer().end(session);
            let told = async {
                self.wire.send(&bytes).await?;
                self.wire.flush().await?;
                self.wire.answer().await
            };
            // It would end by itself, too.
            drop(timeout(GOODBYE_WITHIN, told).await);
        }
    }
}

/// Opens a session.
async fn begin(wire: &mut Wire, renderer: &Renderer<'_>) -> Result<String, Fault> {
    let broken = |error: std::io::Error| Fault::broken(&error);
    let (mut id, mut bytes) = (String::new(), Vec::new());
    write_id(0, &mut id);
    let initialize = renderer.initialize();
    let rest = initialize.write(&id, &mut bytes).to_vec();
    bytes.extend_from_slice(&rest);
    wire.send(&bytes).await.map_err(broken)?;
    wire.flush().await.map_err(broken)?;
    let head = wire.answer().await.map_err(broken)?;
    judge(head.status, head.is_stream, wire.body(), &id).map_err(|fault| Fault::sessionless(&fault))?;
    let session = head.session.ok_or_else(|| {
        Fault::sessionless(&Fault::strange("initialize is answered without Mcp-Session-Id", wire.body()))
    })?;
    wire.send(&renderer.initialized(&session)).await.map_err(broken)?;
    wire.flush().await.map_err(broken)?;
    let head = wire.answer().await.map_err(broken)?;
    match head.status {
        200..=299 => Ok(session),
        status => Err(Fault::sessionless(&Fault::status(status, wire.body()))),
    }
}
