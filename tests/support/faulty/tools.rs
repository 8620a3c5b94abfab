//! What goes wrong, or right, without asking anybody.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::pending;
use serde_json::{Value, json};
use waygate_mcp::plugins::{Context, Outcome, PluginError};
use waygate_mcp::protocol::content::{self, ToolResult};
use waygate_mcp::protocol::{LogLevel, Raw};

type Answer = Result<Outcome, PluginError>;

fn says(text: &str) -> Answer {
    Ok(Outcome::Complete(content::text_result(text)))
}

fn number(given: &Value, key: &str, otherwise: u64) -> u64 {
    given.get(key).and_then(Value::as_u64).unwrap_or(otherwise)
}

fn word<'a>(given: &'a Value, key: &str) -> &'a str {
    given.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Calls a tool that neither asks nor changes anything.
pub async fn call(tool: &str, arguments: &Raw, given: &Value, context: &Context) -> Answer {
    match tool {
        "panic" => explode("the tool panicked, as it was asked to"),
        "panic_blocking" => context.blocking(|| explode("the thread panicked, as it was asked to")).await?,
        "hang" => pending().await,
        "hang_blocking" => hang_blocking(given, context).await,
        "flood" => flood(given, context),
        "nonsense" => nonsense(word(given, "kind")),
        "steps" => steps(given, context).await,
        "logs" => logs(context),
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(number(given, "ms", 1000))).await;
            says("slept")
        }
        "quiet" => quiet(given, context).await,
        "rich" => Ok(rich()),
        "repeat" => says(arguments.as_str()),
        "precise" => precise(),
        "shout" => shout(),
        "structured" => Ok(structured(number(given, "n", 1))),
        "mirrored" | "strict_schema" => says(&given.to_string()),
        "whoami" => Ok(whoami(context)),
        "fail" => Ok(Outcome::Complete(ToolResult::failed("it did not work").into_raw())),
        "refuse" => Err(refuse(word(given, "kind"))),
        unknown => Err(PluginError::Unknown(format!("tool {unknown}"))),
    }
}

#[expect(clippy::panic, reason = "the tests want to see what becomes of a panic")]
fn explode(why: &str) -> Answer {
    panic!("{why}")
}

/// Prints where only the protocol may be.
fn shout() -> Answer {
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(b"this is no message\n").and_then(|()| stdout.flush());
    printed.map_err(|error| PluginError::Failed(error.to_string()))?;
    says("shouted")
}

/// Blocks a thread for `ms`, without an argument for ever.
async fn hang_blocking(given: &Value, context: &Context) -> Answer {
    let nap = given.get("ms").and_then(Value::as_u64).map(Duration::from_millis);
    let work = move || match nap {
        Some(nap) => std::thread::sleep(nap),
        None => loop {
            std::thread::park();
        },
    };
    context.blocking(work).await?;
    says("the thread came back")
}

/// Says as much as it can without ever waiting.
fn flood(given: &Value, context: &Context) -> Answer {
    for n in 1..=number(given, "n", 100_000) {
        context.progress(n as f64, None, Some("more"));
        context.log(LogLevel::Info, "flood", n);
    }
    says("flooded")
}

async fn steps(given: &Value, context: &Context) -> Answer {
    let (n, ms) = (number(given, "n", 3), number(given, "ms", 0));
    for step in 1..=n {
        context.progress(step as f64, Some(n as f64), Some(&format!("step {step}")));
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    says("arrived")
}

/// Says that it will be quiet, and is, four times as long.
async fn quiet(given: &Value, context: &Context) -> Answer {
    let time = Duration::from_millis(number(given, "ms", 50));
    context.quiet_for(time);
    tokio::time::sleep(time * 4).await;
    says("quiet is over")
}

/// Blocks that came with one revision after another, and structure that only the newest knows.
fn rich() -> Outcome {
    let blocks = vec![content::audio("AAAA", "audio/wav"), content::link("test://counter", "counter")];
    Outcome::Complete(ToolResult::of(blocks).with_structured(json!(["one", 2])).into_raw())
}

/// Logs once on every level, and progress that goes back, halves and stands still.
fn logs(context: &Context) -> Answer {
    let levels = [
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Notice,
        LogLevel::Warning,
        LogLevel::Error,
        LogLevel::Critical,
        LogLevel::Alert,
        LogLevel::Emergency,
    ];
    for level in levels {
        context.log(level, "logs", json!({"level": level}));
    }
    for progress in [0.5, 0.25, 0.5, 1.0, f64::NAN, 1.5, 2.0] {
        context.progress(progress, None, None);
    }
    says("logged")
}

/// A result that no client may ever see.
fn nonsense(kind: &str) -> Answer {
    Ok(match kind {
        "no_object" => Outcome::Complete(Raw::value(&json!([]))),
        "no_content" => Outcome::Complete(Raw::value(&json!({"isError": false}))),
        "structured" => Outcome::Complete(ToolResult::structured(json!({"n": "no number"})).into_raw()),
        "unstructured" => Outcome::Complete(content::text_result("no structure")),
        "asks_nothing" => Outcome::InputRequired { requests: Vec::new(), state: None },
        _ => Outcome::Complete(ToolResult::structured(json!({"n": 1})).into_raw()),
    })
}

/// Numbers and members that no program of ours understands.
fn precise() -> Answer {
    let result = r#"{"content":[{"type":"text","text":"big","_meta":{"example.org/deep":1.50}}],"structuredContent":{"big":123456789012345678901234567890,"small":1e-400},"_meta":{"example.org/own":[1,2]},"unknown":true}"#;
    let result = Raw::parse(Bytes::from_static(result.as_bytes()));
    result.map(Outcome::Complete).map_err(|error| PluginError::Failed(error.to_string()))
}

fn structured(n: u64) -> Outcome {
    Outcome::Complete(ToolResult::structured(json!({"n": n})).into_raw())
}

fn whoami(context: &Context) -> Outcome {
    let trace = context.trace();
    Outcome::Complete(
        ToolResult::structured(json!({
            "caller": context.caller().0.to_string(),
            "operator": context.is_operator(),
            "traceparent": trace.parent,
            "tracestate": trace.state,
            "baggage": trace.baggage,
        }))
        .into_raw(),
    )
}

fn refuse(kind: &str) -> PluginError {
    let secret = "the password is swordfish".to_owned();
    match kind {
        "unknown" => PluginError::Unknown("such thing".to_owned()),
        "invalid" => PluginError::InvalidParams("that is wrong".to_owned()),
        "capability" => PluginError::MissingCapability(json!({"sampling": {}})),
        "unavailable" => PluginError::Unavailable(secret),
        _ => PluginError::Failed(secret),
    }
}
