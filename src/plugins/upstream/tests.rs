//! A server's lives as a plugin: how it is found out what it speaks, what of its lists is taken, how lives end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::inventory::Kinds;
use super::link::{Link, LinkError};
use super::probe::{Found, probe};
use super::speaker::Speaker;
use super::testing::{Asked, Reply, Scripted, context, until};
use super::{Opened, Parts, Upstream, Ways};
use crate::plugins::{
    Change, Context, Health, Inventory, LifeError, Outcome, Plugin, PluginError, Pulse, Request,
};
use crate::protocol::{Answers, Raw};

/// Gives out links one after the other.
struct Links(Mutex<VecDeque<Arc<Scripted>>>);

impl Links {
    fn of(links: impl IntoIterator<Item = Arc<Scripted>>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(links.into_iter().collect())))
    }
}

impl Ways for Links {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Link>, LinkError>> {
        let link = self.0.lock().unwrap().pop_front();
        let link = link.map(|link| link as Arc<dyn Link>).ok_or(LinkError::Unreachable("no more".into()));
        Box::pin(std::future::ready(link))
    }
}

/// A speaker that only says who it is.
struct Mute(Opened);

impl Speaker for Mute {
    fn perform(self: Arc<Self>, _: Request, _: Context) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(std::future::ready(Err(PluginError::Failed("mute".into()))))
    }
    fn list(self: Arc<Self>, _: Kinds, _: Inventory) -> BoxFuture<'static, Result<Inventory, LinkError>> {
        Box::pin(std::future::ready(Ok(Inventory::default())))
    }
    fn attend(self: Arc<Self>, _: mpsc::Sender<Change>) -> BoxFuture<'static, Result<(), LinkError>> {
        Box::pin(std::future::pending())
    }
    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        self.0.link.close()
    }
    fn revision(&self) -> &'static str {
        self.0.handshake.revision.name()
    }
    fn report(&self) -> Value {
        Value::Null
    }
}

fn plugin(links: Arc<Links>) -> Arc<Upstream> {
    Upstream::new(Parts {
        name: "p".into(),
        ways: links,
        sessions: Box::new(|opened, _| Arc::new(Mute(opened))),
        start_timeout: Duration::from_secs(20),
        uri_prefix: String::new(),
    })
}

fn begin(
    upstream: &Arc<Upstream>,
) -> (Pulse, tokio::task::JoinHandle<Result<(), crate::plugins::LifeError>>) {
    let pulse = Pulse::begin(CancellationToken::new());
    let life = tokio::spawn(Arc::clone(upstream).live(pulse.clone()));
    (pulse, life)
}

async fn ready(pulse: &Pulse) {
    let health = pulse.watch();
    until("a ready life", || *health.borrow() != Health::Starting).await;
}

fn discovered(capabilities: &Value) -> Reply {
    Reply::result(
        &json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities,
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}}),
    )
}

fn welcome(version: &str) -> Reply {
    Reply::result(
        &json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}),
    )
}

fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

async fn found(links: impl IntoIterator<Item = Arc<Scripted>>) -> Result<Found, super::exchange::ProbeError> {
    probe(&*Links::of(links), None, Instant::now() + Duration::from_secs(20)).await
}

#[tokio::test]
async fn every_way_to_refuse_the_question_leads_to_a_handshake_in_the_revision_that_the_server_answers() {
    let status = |status| Reply::Fail(LinkError::Status { status, retry_after_seconds: None, says: None });
    let refusals: [fn() -> Reply; 4] = [
        || Reply::error(-32601, "no"),
        || Reply::error(-32000, "not initialized"),
        || Reply::error(-32022, "other revisions"),
        || Reply::result(&json!({"supportedVersions": ["2025-11-25"]})),
    ];
    for refusal in refusals {
        let link = Scripted::new(move |asked| match asked.method {
            "server/discover" => refusal(),
            _ => welcome("2024-11-05"),
        });
        let Ok(Found::Legacy(opened)) = found([Arc::clone(&link)]).await else { panic!("no handshake") };
        assert_eq!(opened.handshake.revision.name(), "2024-11-05");
        assert_eq!(link.told()[0]["method"], "notifications/initialized");
        let shaken = link.asked_of("initialize").remove(0);
        assert_eq!(
            (&shaken.params["protocolVersion"], shaken.outgoing.version),
            (&json!("2025-11-25"), None)
        );
    }
    for code in [400, 404, 405, 415] {
        let link = Scripted::new(move |asked| match asked.method {
            "server/discover" => status(code),
            _ => welcome("2025-06-18"),
        });
        assert!(matches!(found([link]).await, Ok(Found::Legacy(_))), "{code}");
    }
    for code in [401, 403, 503] {
        let link = Scripted::new(move |_| status(code));
        assert!(found([Arc::clone(&link)]).await.is_err(), "{code}");
        assert!(link.asked_of("initialize").is_empty() && link.is_closed(), "{code}");
    }
}

#[tokio::test]
async fn a_server_that_dies_of_the_question_is_shaken_hands_with_over_a_fresh_link() {
    let dying = Scripted::pipe(|_| Reply::Fail(LinkError::Broken("exited".into())));
    let fresh = Scripted::pipe(|_| welcome("2025-03-26"));
    let Ok(Found::Legacy(_)) = found([Arc::clone(&dying), Arc::clone(&fresh)]).await else {
        panic!("no handshake")
    };
    assert!(dying.is_closed());
    assert_eq!(fresh.asked_of("server/discover").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_slowly_is_of_the_era_that_it_says_when_it_is_there() {
    // One that knows no handshake, and one that takes its time for that, too.
    let hands: [fn() -> Reply; 2] = [|| Reply::error(-32601, "no"), || Reply::Open(vec![])];
    for hand in hands {
        let link = Scripted::new(move |asked| match asked.method {
            "server/discover" => Reply::Open(vec![]),
            _ => hand(),
        });
        let finding = tokio::spawn(found([Arc::clone(&link)]));
        until("the handshake", || !link.asked_of("initialize").is_empty()).await;
        let id = link.asked_of("server/discover").remove(0).id;
        let says = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
        assert!(link.say(id, &json!({"id": "$id", "result": says})));
        assert!(matches!(finding.await.unwrap(), Ok(Found::Modern { .. })));
        assert!(!link.is_closed());
    }
    let mute = Scripted::new(|asked| match asked.method {
        "server/discover" => Reply::Open(vec![]),
        _ => Reply::error(-32601, "no"),
    });
    let why = found([Arc::clone(&mute)]).await.err().unwrap().to_string();
    assert!(why.contains("did not answer server/discover in time") && mute.is_closed(), "{why}");
}

#[tokio::test(start_paused = true)]
async fn what_is_concluded_from_silence_is_not_believed_in_the_next_life() {
    let silent = Scripted::pipe(|asked| match asked.method {
        "server/discover" => Reply::Open(vec![]),
        _ => welcome("2025-11-25"),
    });
    let awake = Scripted::pipe(|asked| match asked.method {
        "server/discover" => discovered(&json!({})),
        _ => welcome("2025-11-25"),
    });
    let upstream = plugin(Links::of([silent, awake]));
    for era in ["legacy", "modern"] {
        let (pulse, life) = begin(&upstream);
        ready(&pulse).await;
        assert_eq!(upstream.report()["era"], era);
        pulse.stop().cancel();
        life.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_server_of_a_revision_that_nobody_knows_is_refused_with_both_answers() {
    let link = Scripted::new(|asked| match asked.method {
        "server/discover" => Reply::error(-32601, "unknown method"),
        _ => welcome("2031-01-01"),
    });
    let why = found([link]).await.err().unwrap().to_string();
    assert!(why.contains("unknown method") && why.contains("2031-01-01"), "{why}");
}

#[tokio::test]
async fn lists_are_kept_raw_over_all_pages_and_what_is_no_tool_is_left_out() {
    let odd = r#"{"name":"odd","inputSchema":{"type":"object","big":123456789012345678901234567890},"x-z":1.50,"a":[]}"#;
    let link = Scripted::new(move |asked| match (asked.method, asked.params["cursor"].as_str()) {
        ("server/discover", _) => discovered(&json!({"tools": {}, "resources": {}, "prompts": {}})),
        ("tools/list", None) => Reply::text(&format!(
            r#"{{"tools":[{odd},{{"name":7}},{{"name":"no schema"}}],"nextCursor":""}}"#
        )),
        ("tools/list", Some("")) => Reply::result(&json!({"tools": [tool("second"), tool("odd"),
            {"name": "task", "inputSchema": {"type": "object"}, "execution": {"taskSupport": "required"}}]})),
        ("prompts/list", _) => Reply::error(-32603, "broken"),
        ("resources/list", cursor) => {
            let n: u64 = cursor.unwrap_or("0").parse().unwrap();
            Reply::result(
                &json!({"resources": [{"uri": format!("x://{n}"), "name": "n"}], "nextCursor": (n + 1).to_string()}),
            )
        }
        _ => Reply::error(-32601, "no"),
    });
    let upstream = plugin(Links::of([link]));
    let (pulse, _life) = begin(&upstream);
    ready(&pulse).await;
    let inventory = upstream.inventory();
    let names: Vec<String> = inventory.tools.iter().map(|tool| tool.name()).collect();
    assert_eq!(names, ["odd", "second"]);
    assert_eq!(inventory.tools[0].object().to_raw().as_str(), odd);
    assert_eq!(inventory.resources.len(), 100);
    let lists = &upstream.report()["speaker"]["lists"];
    assert_eq!((lists["dropped"].as_u64(), lists["troubles"].as_array().map(Vec::len)), (Some(4), Some(2)));
    assert_eq!(upstream.report()["server"], json!({"name": "s", "version": "1"}));
    pulse.stop().cancel();
}

fn call() -> Request {
    Request::Call { tool: "t".into(), arguments: Raw::empty_object(), answers: Answers::default() }
}

#[tokio::test]
async fn a_life_serves_until_its_link_ends_and_says_why_it_ended() {
    let serve = |asked: &Asked| match asked.method {
        "server/discover" => discovered(&json!({})),
        _ => Reply::result(&json!({"resultType": "complete", "content": []})),
    };
    let link = Scripted::pipe(serve);
    let upstream = plugin(Links::of([Arc::clone(&link)]));
    let (heard, _notices) = context(&json!({}));
    let early = Arc::clone(&upstream).handle(call(), heard.clone()).await;
    assert!(matches!(early, Err(PluginError::Away { why, .. }) if why.contains("not yet ready")));
    let (pulse, life) = begin(&upstream);
    ready(&pulse).await;
    assert!(Arc::clone(&upstream).handle(call(), heard.clone()).await.is_ok());
    link.end(Some(LinkError::Broken("it exited with code 3".into())));
    assert_eq!(life.await.unwrap().unwrap_err().to_string(), "it exited with code 3");
    assert!(link.is_closed());
    assert!(Arc::clone(&upstream).handle(call(), heard).await.is_err());
    assert_eq!(upstream.report()["lastError"], "it exited with code 3");
    let (_pulse, life) = begin(&upstream);
    assert!(life.await.unwrap().unwrap_err().to_string().contains("no more"));
}

#[tokio::test]
async fn a_server_that_says_in_a_loop_that_its_lists_changed_is_asked_seldom() {
    let link = Scripted::pipe(|asked| match asked.method {
        "server/discover" => discovered(&json!({"tools": {"listChanged": true}})),
        "subscriptions/listen" => Reply::Open(vec![
            json!({"method": "notifications/subscriptions/acknowledged", "params": {}}).to_string(),
        ]),
        _ => Reply::result(&json!({"tools": [tool(&format!("t{}", asked.id))]})),
    });
    let upstream = plugin(Links::of([Arc::clone(&link)]));
    let mut changes = upstream.changes();
    let (pulse, life) = begin(&upstream);
    ready(&pulse).await;
    assert_eq!(changes.recv().await, Ok(Change::Tools));
    until("the listen", || !link.asked_of("subscriptions/listen").is_empty()).await;
    let id = link.asked_of("subscriptions/listen").remove(0).id;
    for _ in 0..1000 {
        link.say(id, &json!({"method": "notifications/tools/list_changed"}));
    }
    assert_eq!(changes.recv().await, Ok(Change::Tools));
    // A thousand words within one list's time are one or two more lists, not a thousand.
    assert!(link.asked_of("tools/list").len() <= 4, "{}", link.asked_of("tools/list").len());
    pulse.stop().cancel();
    assert!(life.await.unwrap().is_ok());
    assert!(link.is_closed());
}

/// A way that the plugin's file describes wrongly.
struct Nowhere;

impl Ways for Nowhere {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Link>, LinkError>> {
        let why = "headers.Authorization: the variable TOKEN is not set".to_owned();
        Box::pin(std::future::ready(Err(LinkError::Misconfigured(why))))
    }
}

#[tokio::test]
async fn a_life_on_settings_that_cannot_be_used_says_that_another_would_be_no_better() {
    let upstream = Upstream::new(Parts {
        name: "p".into(),
        ways: Arc::new(Nowhere),
        sessions: Box::new(|opened, _| Arc::new(Mute(opened))),
        start_timeout: Duration::from_secs(20),
        uri_prefix: String::new(),
    });
    let (_pulse, life) = begin(&upstream);
    let Err(LifeError::Misconfigured(why)) = life.await.unwrap() else { panic!("it would be tried again") };
    assert!(why.contains("settings") && why.contains("the variable TOKEN is not set"), "{why}");
    assert_eq!(upstream.report()["lastError"], why);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_kind_has_that_kind_listed_anew_and_no_other() {
    let link = Scripted::pipe(|asked| match asked.method {
        "server/discover" => discovered(&json!({"tools": {"listChanged": true}, "prompts": {}})),
        "subscriptions/listen" => Reply::Open(vec![
            json!({"method": "notifications/subscriptions/acknowledged", "params": {}}).to_string(),
        ]),
        "prompts/list" => Reply::result(&json!({"prompts": [{"name": "p"}]})),
        _ => Reply::result(&json!({"tools": [tool(&format!("t{}", asked.id))]})),
    });
    let upstream = plugin(Links::of([Arc::clone(&link)]));
    let (pulse, _life) = begin(&upstream);
    ready(&pulse).await;
    until("the listen", || !link.asked_of("subscriptions/listen").is_empty()).await;
    let id = link.asked_of("subscriptions/listen").remove(0).id;
    link.say(id, &json!({"method": "notifications/tools/list_changed"}));
    until("the second list", || link.asked_of("tools/list").len() == 2).await;
    let name = format!("t{}", link.asked_of("tools/list")[1].id);
    until("its tools", || upstream.inventory().tools.iter().any(|tool| tool.name() == name)).await;
    assert_eq!((link.asked_of("prompts/list").len(), upstream.inventory().prompts.len()), (1, 1));
    pulse.stop().cancel();
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_lists_cannot_be_had_is_in_trouble_until_they_can() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let link = Scripted::pipe(move |asked| match asked.method {
        "server/discover" => discovered(&json!({"tools": {}})),
        "tools/list" if is_broken.load(std::sync::atomic::Ordering::Relaxed) => {
            Reply::error(-32603, "no room")
        }
        _ => Reply::result(&json!({"tools": [tool("t")]})),
    });
    let upstream = plugin(Links::of([Arc::clone(&link)]));
    let (pulse, _life) = begin(&upstream);
    ready(&pulse).await;
    let health = pulse.watch();
    let Health::Troubled(why) = health.borrow().clone() else { panic!("it is well") };
    assert!(why.contains("tools/list") && why.contains("no room"), "{why}");
    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    until("a good list", || *health.borrow() == Health::Ready).await;
    assert_eq!(upstream.inventory().tools.len(), 1);
    pulse.stop().cancel();
}

#[tokio::test]
async fn of_a_list_that_is_too_long_the_beginning_is_kept_however_it_is_cut_into_pages() {
    let link = Scripted::new(|asked| match asked.method {
        "server/discover" => discovered(&json!({"tools": {}, "prompts": {}})),
        "tools/list" => {
            let large = "x".repeat(1 << 20);
            let tool = |n: u32| json!({"name": format!("t{n}"), "description": large, "inputSchema": {"type": "object"}});
            Reply::result(&json!({"tools": (0..20).map(tool).collect::<Vec<_>>()}))
        }
        _ => {
            let prompts: Vec<Value> = (0..20_010).map(|n| json!({"name": format!("p{n}")})).collect();
            Reply::result(&json!({"prompts": prompts}))
        }
    });
    let upstream = plugin(Links::of([link]));
    let (pulse, _life) = begin(&upstream);
    ready(&pulse).await;
    let inventory = upstream.inventory();
    assert_eq!((inventory.tools.len(), inventory.prompts.len()), (15, 20_000));
    let troubles = &upstream.report()["speaker"]["lists"]["troubles"];
    assert_eq!(troubles.as_array().map(Vec::len), Some(2), "{troubles}");
    pulse.stop().cancel();
}

#[tokio::test]
async fn a_life_that_is_stopped_while_its_server_lists_ends_what_it_began() {
    let link = Scripted::new(|asked| match asked.method {
        "server/discover" => discovered(&json!({"tools": {}})),
        _ => Reply::Open(vec![]),
    });
    let upstream = plugin(Links::of([Arc::clone(&link)]));
    let (pulse, life) = begin(&upstream);
    until("the question", || !link.asked_of("tools/list").is_empty()).await;
    pulse.stop().cancel();
    assert!(life.await.unwrap().is_ok() && link.is_closed());
}
