//! One client's connection: opened, with a session where the era has them, and asked again and again. Must not know when.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{timeout, timeout_at};

use super::Plan;
use super::answer::{Judged, judge};
use super::fault::Fault;
use super::request::{Era, Rendered, Renderer, write_id};
use super::wire::Wire;

/// What ends a session is told in passing.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// A server closes connections that rest, and may not say so. One that rested so long and is found closed is no fault of it.
const RESTED: Duration = Duration::from_secs(1);

/// A client that is ready for calls. Its connection may end; its session lives on, over the next one.
pub struct Link {
    wire: Option<Wire>,
    place: usize,
    session: Option<String>,
    calls: Vec<Rendered>,
    last_id: u64,
    id: String,
    buffer: Vec<u8>,
    /// Since when nothing went over the connection.
    rests_since: Instant,
}

/// A call that was answered.
pub struct Answered {
    /// How.
    pub judged: Judged,
    /// In so many bytes.
    pub bytes: u64,
}

impl Link {
    /// Connects, and opens a session where there are any. It will be able to ask what there are bodies for.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn open(plan: &Plan, place: usize, bodies: &[Bytes], until: Instant) -> Result<Self, Fault> {
        let renderer = plan.renderer(place);
        let opened = timeout_at(until.into(), async {
            let mut wire = plan.target.connect().await.map_err(|error| Fault::unconnected(&error))?;
            let session = match plan.era {
                Era::Legacy => Some(begin(&mut wire, &renderer).await?),
                Era::Modern | Era::Streamed => None,
            };
            Ok((wire, session))
        });
        let (wire, session) = opened.await.map_err(|_elapsed| unconnected_in_time(plan))??;
        let calls = plan.calls.iter().zip(bodies);
        let calls = calls.map(|(call, body)| renderer.call(call, body, session.as_deref())).collect();
        let (id, buffer) = (String::new(), Vec::new());
        let rests_since = Instant::now();
        Ok(Self { wire: Some(wire), place, session, calls, last_id: 0, id, buffer, rests_since })
    }

    /// The session, where the era has them.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Connects again where the last connection has ended.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn connect(&mut self, plan: &Plan, until: Instant) -> Result<(), Fault> {
        if self.wire.is_none() {
            let connected = timeout_at(until.into(), plan.target.connect()).await;
            let connected = connected.map_err(|_elapsed| unconnected_in_time(plan))?;
            self.wire = Some(connected.map_err(|error| Fault::unconnected(&error))?);
            self.rests_since = Instant::now();
        }
        Ok(())
    }

    /// Sends one request and waits for its answer; once more, where the connection turns out to have been given up while it rested.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn call(&mut self, kind: usize, plan: &Plan, until: Instant) -> Result<Answered, Fault> {
        let rested = self.rests_since.elapsed() >= RESTED;
        match self.call_once(kind, plan, until).await {
            Err(fault) if rested && (fault.is_unheard || fault.is_of_patience()) => {
                self.wire = None;
                self.call_once(kind, plan, until).await
            }
            answered => answered,
        }
    }

    async fn call_once(&mut self, kind: usize, plan: &Plan, until: Instant) -> Result<Answered, Fault> {
        self.connect(plan, until).await?;
        let answered = timeout_at(until.into(), self.exchange(kind)).await;
        self.rests_since = Instant::now();
        answered.map_err(|_elapsed| Fault::late(plan.timeout))?
    }

    async fn exchange(&mut self, kind: usize) -> Result<Answered, Fault> {
        self.last_id += 1;
        write_id(self.last_id, &mut self.id);
        // It is put back when it can go on: not when this is given up, nor when it broke.
        let closed = || Fault::broken(&io::ErrorKind::NotConnected.into());
        let mut wire = self.wire.take().ok_or_else(closed)?;
        let before = wire.received();
        let head = match self.calls.get(kind) {
            Some(call) => ask(&mut wire, call, &self.id, &mut self.buffer).await,
            None => wire.answer().await,
        };
        let head =
            head.map_err(|error| Fault { is_unheard: wire.received() == before, ..Fault::broken(&error) })?;
        let bytes = wire.received() - before;
        let judged = judge(head.status, head.is_stream, wire.body(), &self.id);
        if !head.closes {
            self.wire = Some(wire);
        }
        Ok(Answered { judged: judged?, bytes })
    }

    /// Opens the stream on which nothing need ever come.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn listen(&mut self, plan: &Plan, until: Instant) -> Result<(), Fault> {
        self.connect(plan, until).await?;
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let bytes = plan.renderer(self.place).listen(self.session.as_deref());
        let opened = timeout_at(until.into(), async {
            let broken = |error: io::Error| Fault::broken(&error);
            wire.send(&bytes).await.map_err(broken)?;
            wire.flush().await.map_err(broken)?;
            let head = wire.head().await.map_err(broken)?;
            if head.status == 200 && head.is_stream {
                return Ok(());
            }
            wire.rest(&head).await.map_err(broken)?;
            let refused = judge(head.status, head.is_stream, wire.body(), "listen").err();
            Err(refused.unwrap_or_else(|| Fault::strange("no stream", wire.body())))
        });
        opened.await.map_err(|_elapsed| Fault::late(plan.timeout))?
    }

    /// Holds the stream until the server ends it.
    pub async fn hold(&mut self) {
        if let Some(wire) = &mut self.wire {
            // However it ends, it is not open any more.
            drop(wire.drain().await);
        }
    }

    /// Ends the session, where there is one; false when the server was not heard to have ended it.
    pub async fn close(self, plan: &Plan) -> bool {
        let (Some(session), Some(wire)) = (&self.session, self.wire) else { return self.session.is_none() };
        let told = end_session(plan, Some(wire), session, self.place);
        timeout(GOODBYE_WITHIN, told).await.is_ok_and(|told| told.is_ok())
    }
}

/// Ends a session over this connection, or over a new one, which is handed back where it can go on.
///
/// # Errors
/// What the network says.
pub async fn end_session(
    plan: &Plan,
    wire: Option<Wire>,
    session: &str,
    place: usize,
) -> io::Result<Option<Wire>> {
    let mut wire = match wire {
        Some(wire) => wire,
        None => plan.target.connect().await?,
    };
    wire.send(&plan.renderer(place).end(session)).await?;
    wire.flush().await?;
    let head = wire.answer().await?;
    Ok(Some(wire).filter(|_| !head.closes))
}

fn unconnected_in_time(plan: &Plan) -> Fault {
    let late = Fault::late(plan.timeout);
    Fault { what: "no connection".to_owned(), example: late.what.clone(), ..late }
}

async fn ask(
    wire: &mut Wire,
    call: &Rendered,
    id: &str,
    buffer: &mut Vec<u8>,
) -> io::Result<super::wire::Head> {
    let rest = call.write(id, buffer);
    wire.send(buffer).await?;
    if !rest.is_empty() {
        wire.send(rest).await?;
    }
    wire.flush().await?;
    wire.answer().await
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
