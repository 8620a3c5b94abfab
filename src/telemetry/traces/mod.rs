//! Spans: what one hop of a traced request took and what became of it, for a collector of OpenTelemetry.
//!
//! A span is begun, told of, and queued when the last who holds it lets go; nobody ever waits for what becomes of it then.
//! While nobody collects, and in a build without the feature `otlp`, a span is nothing and costs nothing.
//! Must not know requests, nor where spans go: `otlp` does.

#[cfg(feature = "otlp")]
mod otlp;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;

use super::metrics::METRICS;
use crate::config::Telemetry;

/// How long a stop waits for the collector to take what is left.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// Whether anybody collects: looked at first, since it costs next to nothing.
static IS_ON: AtomicBool = AtomicBool::new(false);
/// Where spans go.
static QUEUE: ArcSwapOption<Queue> = ArcSwapOption::const_empty();

struct Queue {
    sender: SyncSender<Box<Work>>,
    sample_per_mille: u64,
}

/// Which side of a call a span shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that was asked.
    Server,
    /// The one that asks.
    Client,
}

/// A text that is often one of ours.
type Text = Cow<'static, str>;

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Nobody said so: whoever worked at it was stopped in the middle.
    Dropped,
    /// Well.
    Good,
    /// Not; `error.type`, and a word for people.
    Bad(Text, &'static str),
}

/// What is known of a span.
#[derive(Debug, Clone)]
pub struct Work {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// Its own number in the trace.
    pub id: u64,
    /// 16 hexadecimal digits; none at the root of a trace.
    pub parent: Option<String>,
    /// Which side it shows.
    pub side: Side,
    /// Its method, with which its name begins.
    pub method: &'static str,
    /// What its name goes on with: a tool or a prompt.
    pub target: Option<Arc<str>>,
    /// What else is known.
    pub attributes: Vec<(&'static str, Text)>,
    /// When it began.
    pub began: SystemTime,
    /// How long it took; none until it ended.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// A span that goes on as long as anybody holds it, or nothing.
#[derive(Clone, Default)]
pub struct Span(Option<Arc<Open>>);

struct Open {
    /// The trace context of what is done within it: `traceparent`, and `tracestate` as it came.
    onward: (String, Option<String>),
    /// None for one that is not to be collected.
    work: Option<Mutex<Work>>,
    clock: Instant,
}

impl Span {
    /// One that is nothing.
    pub const NONE: Self = Self(None);

    /// For a request that came in, below the `traceparent` and `tracestate` that came with it; without, a new trace begins.
    pub fn serve(method: &'static str, (parent, state): (Option<String>, Option<String>)) -> Self {
        if !is_on() {
            return Self::NONE;
        }
        match parent.as_deref().and_then(Parent::read) {
            Some(above) if above.is_sampled() => Self::begin(Side::Server, method, &above, state),
            // Whoever began the trace does not collect it: what is done here is a part of it all the same.
            Some(_) => Self(parent.map(|parent| Arc::new(Open::uncollected((parent, state))))),
            None => Self::root(method),
        }
    }

    /// For a request that is made while something is served, whose `traceparent` this is.
    pub fn ask(method: &'static str, parent: Option<&str>, state: Option<&str>) -> Self {
        if !is_on() {
            return Self::NONE;
        }
        match parent.and_then(Parent::read).filter(Parent::is_sampled) {
            Some(above) => Self::begin(Side::Client, method, &above, state.map(str::to_owned)),
            None => Self::NONE,
        }
    }

    fn root(method: &'static str) -> Self {
        let (Some(high), Some(low)) = (number(), number()) else { return Self::NONE };
        let trace = format!("{high:016x}{low:016x}");
        let per_mille = QUEUE.load().as_ref().map_or(0, |queue| queue.sample_per_mille);
        if is_chosen(low, per_mille) {
            return Self::begin(
                Side::Server,
                method,
                &Parent { trace: &trace, span: None, flags: SAMPLED },
                None,
            );
        }
        // Servers behind are told not to collect it either.
        let Some(id) = number() else { return Self::NONE };
        Self(Some(Arc::new(Open::uncollected((format!("00-{trace}-{id:016x}-00"), None)))))
    }

    fn begin(side: Side, method: &'static str, above: &Parent<'_>, state: Option<String>) -> Self {
        let Some(id) = number() else { return Self::NONE };
        let flags = above.flags & (SAMPLED | RANDOM);
        let onward = (format!("00-{}-{id:016x}-{flags:02x}", above.trace), state);
        let work = Work {
            trace: above.trace.to_owned(),
            id,
            parent: above.span.map(str::to_owned),
            side,
            method,
            target: None,
            attributes: Vec::new(),
            began: SystemTime::now(),
            took: Duration::ZERO,
            end: End::Dropped,
        };
        Self(Some(Arc::new(Open { onward, work: Some(Mutex::new(work)), clock: Instant::now() })))
    }

    /// What is to go with all that is done within it, if it is anything: `traceparent` and `tracestate`.
    pub fn onward(&self) -> Option<(&str, Option<&str>)> {
        self.0.as_ref().map(|open| (open.onward.0.as_str(), open.onward.1.as_deref()))
    }

    /// The id of its trace, if it is anything.
    pub fn trace_id(&self) -> Option<&str> {
        self.onward()?.0.split('-').nth(1)
    }

    /// Whether it will be collected, so that it is worth finding out more.
    pub fn is_collected(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.work.is_some())
    }

    /// Adds an attribute. What was asked with, and what nobody may see, is none.
    pub fn say(&self, key: &'static str, value: impl Into<Text>) {
        self.with(|work| work.attributes.push((key, value.into())));
    }

    /// Says which tool or prompt it is about; others have names without end, and none here.
    pub fn about(&self, name: &Arc<str>) {
        self.with(|work| {
            let key = match work.method {
                "tools/call" => "gen_ai.tool.name",
                "prompts/get" => "gen_ai.prompt.name",
                _ => return,
            };
            work.attributes.push((key, name.to_string().into()));
            if work.method == "tools/call" {
                work.attributes.push(("gen_ai.operation.name", "execute_tool".into()));
            }
            work.target = Some(Arc::clone(name));
        });
    }

    /// It came to a result.
    pub fn ended(&self, outcome: &'static str) {
        let end = match outcome {
            "tool_error" => End::Bad(outcome.into(), ""),
            _ => End::Good,
        };
        self.with(|work| work.end = end);
    }

    /// It came to an error with this code of JSON-RPC.
    pub fn refused(&self, code: i64, word: &'static str) {
        self.with(|work| {
            let code = code.to_string();
            work.attributes.push(("rpc.response.status_code", code.clone().into()));
            work.end = End::Bad(code.into(), word);
        });
    }

    /// It came to no answer at all.
    pub fn broke(&self, why: &'static str) {
        self.with(|work| work.end = End::Bad(why.into(), ""));
    }

    fn with(&self, tell: impl FnOnce(&mut Work)) {
        if let Some(work) = self.0.as_ref().and_then(|open| open.work.as_ref()) {
            tell(&mut work.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Span").field(&self.onward()).finish()
    }
}

impl Open {
    fn uncollected(onward: (String, Option<String>)) -> Self {
        Self { onward, work: None, clock: Instant::now() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        let mut work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
        work.took = self.clock.elapsed();
        // Nobody collects any more once a stop has come so far.
        let Some(queue) = QUEUE.load_full() else { return };
        if let Err(TrySendError::Full(_)) = queue.sender.try_send(Box::new(work)) {
            METRICS.spans.with_label_values(&["dropped"]).inc();
        }
    }
}

/// The flag of a `traceparent` that says that its trace is collected.
const SAMPLED: u8 = 1;
/// The flag that says that the trace's id is random: whoever goes on with the trace hands it on.
const RANDOM: u8 = 2;

/// What a `traceparent` says; its form was checked before.
struct Parent<'a> {
    trace: &'a str,
    /// None at the root of a trace.
    span: Option<&'a str>,
    flags: u8,
}

impl<'a> Parent<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut fields = text.split('-').skip(1);
        let (trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace, span: Some(span), flags })
    }

    fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Whether a trace that begins here is collected: all who see its id, and have the same ratio, decide alike.
fn is_chosen(low: u64, per_mille: u64) -> bool {
    (u128::from(low) * 1000) >> 64 < u128::from(per_mille)
}

/// A number that is not 0, as ids must not be.
fn number() -> Option<u64> {
    getrandom::u64().ok().filter(|number| *number != 0)
}

/// Whether anybody collects spans; asked before anything is found out for one.
pub fn is_on() -> bool {
    cfg!(feature = "otlp") && IS_ON.load(Ordering::Relaxed)
}

/// Collects spans as long as it is there.
#[derive(Default)]
pub struct Collecting {
    /// Told when all was sent; none where nothing is collected.
    sent: Option<oneshot::Receiver<()>>,
}

impl Collecting {
    /// Begins, if there is an endpoint; `instance` tells this server from others.
    ///
    /// # Errors
    /// A sentence, when the endpoint cannot be used or no thread can be had.
    #[cfg(feature = "otlp")]
    pub fn begin(config: &Telemetry, instance: &str) -> Result<Self, String> {
        let Some(exporter) = otlp::Exporter::of(config, instance)? else { return Ok(Self::default()) };
        let (sender, receiver) = std::sync::mpsc::sync_channel(config.queue_max);
        let (tell, sent) = oneshot::channel();
        let run = move || {
            exporter.run(&receiver);
            drop(tell);
        };
        std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(run)
            .map_err(|error| format!("no thread can be had that sends traces: {error}"))?;
        Ok(Self::into(sender, config.sample_per_mille, sent))
    }

    /// Begins nothing: this build collects no spans, and the configuration that asks for it was refused.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "otlp"))]
    pub fn begin(_: &Telemetry, _: &str) -> Result<Self, String> {
        Ok(Self::default())
    }

    /// Begins to put spans where `sender` leads; `sent` hears, or is let go of, when all of them are taken care of.
    pub fn into(sender: SyncSender<Box<Work>>, sample_per_mille: u32, sent: oneshot::Receiver<()>) -> Self {
        let sample_per_mille = u64::from(sample_per_mille);
        QUEUE.store(Some(Arc::new(Queue { sender, sample_per_mille })));
        IS_ON.store(true, Ordering::Relaxed);
        Self { sent: Some(sent) }
    }

    /// Ends, and waits a moment for the collector to take what is left.
    pub async fn end(&mut self) {
        let Some(sent) = self.sent.take() else { return };
        close();
        // That it was told nothing means that the thread has ended: that is all that is waited for.
        if tokio::time::timeout(FLUSH_WITHIN, sent).await.is_err() {
            log::warn!(
                "telemetry.otlp_endpoint did not take the last spans within {} s, and they are lost; see whether it answers",
                FLUSH_WITHIN.as_secs()
            );
        }
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        if self.sent.is_some() {
            close();
        }
    }
}

/// Takes no more spans. The thread sends what is left and ends.
fn close() {
    IS_ON.store(false, Ordering::Relaxed);
    QUEUE.store(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_says_whether_its_trace_is_collected() {
        let read = |flags: &str| {
            let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            Parent::read(&text)
                .map(|parent| (parent.trace.len(), parent.span.map(str::to_owned), parent.is_sampled()))
        };
        assert_eq!(read("01"), Some((32, Some("b7ad6b7169203331".to_owned()), true)));
        assert!(read("03").is_some_and(|(_, _, is_sampled)| is_sampled));
        assert!(read("02").is_some_and(|(_, _, is_sampled)| !is_sampled));
        assert!(Parent::read("nonsense").is_none());
    }

    #[test]
    fn the_ratio_chooses_its_share_none_and_all() {
        let ids = (0..100_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let share = |per_mille| ids.clone().filter(|id| is_chosen(*id, per_mille)).count();
        assert_eq!((share(0), share(1000)), (0, 100_000));
        assert!((9_500..10_500).contains(&share(100)), "{}", share(100));
        assert!(is_chosen(u64::MAX, 1000) && !is_chosen(0, 0));
    }

    #[test]
    fn while_nobody_collects_a_span_is_nothing() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
        let span = Span::serve("tools/call", (Some(parent), None));
        span.about(&"echo".into());
        assert_eq!((span.onward(), span.trace_id(), span.is_collected()), (None, None, false));
    }
}
