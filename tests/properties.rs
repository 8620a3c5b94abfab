//! Arbitrary and mutated input to everything that reads what strangers send: it never panics, what it accepts reads the
//! same again, and over HTTP there is always an answer, after which the server still works.

#[cfg(test)]
#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use waygate_mcp::access::{SealError, Sealed, Sealer};
use waygate_mcp::catalog::{Manner, Seat, SeatLimits, Shelf};
use waygate_mcp::config::plugin::Curation;
use waygate_mcp::plugins::{Context, Inventory, Outcome, Plugin, PluginError, Request};
use waygate_mcp::protocol::headers::{Header, Headers, check_method, check_name, check_param, check_version};
use waygate_mcp::protocol::modern::{Member, Meta};
use waygate_mcp::protocol::render::ServerInfo;
use waygate_mcp::protocol::{Definition, Message, Method, Object, Raw};

use support::{Http, Server, message};

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

/// Any bytes, or bytes that JSON is made of, so that the parser gets beyond the first of them.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let tokens: Vec<&'static [u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\\u00",
        b"\\ud800",
        b"null",
        b"true",
        b"1e9",
        b"-0",
        b"18446744073709551616",
        b" ",
        b"\"id\"",
        b"\"a\":1",
        b"\"method\"",
        b"\"_meta\"",
        b"\xc3",
        b"\xef\xbb\xbf",
    ];
    prop_oneof![
        vec(any::<u8>(), 0..200),
        vec(proptest::sample::select(tokens), 0..60).prop_map(|tokens| tokens.concat()),
        mutated(),
    ]
}

/// A good call, with a few bytes put in, taken out or changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        Just(message("tools/call", json!({"name": "echo", "arguments": {"message": "hello"}}))),
        Just(message("tools/list", json!({"cursor": "dG9vbHM6NQ"}))),
        Just(message("resources/read", json!({"uri": "files://files/a", "requestState": "x"}))),
    ];
    let change = (any::<proptest::sample::Index>(), 0..4_u8, any::<u8>());
    (good, vec(change, 0..6)).prop_map(|(good, changes)| {
        let mut text = good.to_string().into_bytes();
        for (at, how, byte) in changes {
            let at = at.index(text.len().max(1)).min(text.len());
            match how {
                0 => text.insert(at, byte),
                1 => text.truncate(at),
                2 => text.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
                _ => drop(text.drain(at..(at + 1).min(text.len()))),
            }
        }
        text
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((".{0,6}", inner), 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

#[test]
fn raw_keeps_what_it_accepts_and_takes_all_that_is_json() {
    let kept = |data: Vec<u8>| {
        let Ok(raw) = Raw::parse(Bytes::from(data.clone())) else { return Ok(()) };
        prop_assert_eq!(raw.as_str().as_bytes(), &data[..]);
        let value: Value = raw.read().unwrap();
        if let Ok(object) = Object::open(&raw) {
            prop_assert_eq!(object.to_raw().read::<Value>().unwrap(), value);
        }
        Ok(())
    };
    runner(2000).run(&bytes(), kept).unwrap();
    // What serde_json writes has no doubled key and is not deep: it is taken, however it is spaced.
    let taken = |value: Value| {
        for text in [value.to_string(), format!("\t\r\n {value:#} ")] {
            let raw = Raw::parse(Bytes::from(text.clone()));
            prop_assert!(raw.is_ok(), "{} is refused: {:?}", text, raw);
            prop_assert_eq!(&raw.unwrap().read::<Value>().unwrap(), &value);
        }
        Ok(())
    };
    runner(500).run(&value(), taken).unwrap();
}

#[test]
fn a_message_that_is_accepted_reads_the_same_again() {
    let accepted = std::cell::Cell::new(0);
    let same = |data: Vec<u8>| {
        let Ok(Message::Request { id, method, params }) = Message::parse(Bytes::from(data.clone())) else {
            return Ok(());
        };
        accepted.set(accepted.get() + 1);
        let target = Method::parse(&method).and_then(|method| params.target(method));
        drop((Meta::open(&params), target, params.arguments(), params.responses(), params.state()));
        let body: Value = serde_json::from_slice(&data).unwrap();
        prop_assert_eq!(&body["id"], &id.raw().read::<Value>().unwrap());
        prop_assert_eq!(body["method"].as_str(), Some(&*method));
        let shown = |member: Option<Member<'_>>| member.map_or(Value::Null, |member| member.read().unwrap());
        for (key, member) in [
            ("_meta", params.meta()),
            ("name", params.name()),
            ("arguments", params.given()),
            ("cursor", params.cursor()),
            ("requestState", params.request_state()),
        ] {
            prop_assert_eq!(&body["params"][key], &shown(member), "{}", key);
        }
        Ok(())
    };
    runner(3000).run(&bytes(), same).unwrap();
    assert!(accepted.get() > 100, "hardly a message was accepted: {}", accepted.get());
}

/// The same header for whatever is asked.
struct Every(Option<Vec<u8>>);

impl Headers for Every {
    fn protocol_version(&self) -> Header<'_> {
        self.0.as_deref().map_or(Header::Absent, Header::Once)
    }
    fn method(&self) -> Header<'_> {
        self.protocol_version()
    }
    fn name(&self) -> Header<'_> {
        self.protocol_version()
    }
    fn param(&self, _name: &str) -> Header<'_> {
        self.protocol_version()
    }
}

#[test]
fn a_header_agrees_with_nothing_but_what_it_repeats() {
    let header = prop_oneof![
        vec(any::<u8>(), 0..40),
        "=\\?base64\\?[A-Za-z0-9+/=]{0,24}\\?=".prop_map(String::into_bytes),
        "[ -~]{0,20}".prop_map(String::into_bytes),
    ];
    let agrees = |(header, text, value): (Vec<u8>, String, Value)| {
        let every = Every(Some(header.clone()));
        for checked in [check_version(&every, &text), check_method(&every, &text)] {
            prop_assert!(checked.is_err() || header == text.as_bytes());
        }
        if check_name(&every, Method::ToolsCall, Some(&text)).is_ok() {
            let sentinel = format!("=?base64?{}?=", STANDARD.encode(&text));
            prop_assert!(header == text.as_bytes() || header == sentinel.as_bytes());
        }
        let sent = |value: &Value| serde_json::value::to_raw_value(value).expect("JSON");
        drop(check_param(&every, "X", Some(&sent(&value))));
        // However a text is made up, its encoded form agrees with it.
        let encoded = Every(Some(format!("=?base64?{}?=", STANDARD.encode(&text)).into_bytes()));
        prop_assert!(check_name(&encoded, Method::ToolsCall, Some(&text)).is_ok());
        prop_assert!(check_param(&encoded, "X", Some(&sent(&Value::from(text.as_str())))).is_ok());
        let longer = text.clone() + "x";
        prop_assert!(check_name(&encoded, Method::ToolsCall, Some(&longer)).is_err());
        Ok(())
    };
    runner(1000).run(&(header, ".{0,20}", value()), agrees).unwrap();
}

#[test]
fn a_seal_opens_for_its_own_and_for_nothing_else() {
    let sealer = Sealer::new([&b"one key"[..]]);
    let opens = |(token, state, at, byte): (String, Value, proptest::sample::Index, u8)| {
        prop_assert_eq!(sealer.open(&token, "", "", 0), Err(SealError::Broken));
        prop_assert_eq!(sealer.open(&URL_SAFE_NO_PAD.encode(&token), "", "", 0), Err(SealError::Broken));
        // A null state and none are the same once they were JSON.
        let state = Some(state).filter(|state| !state.is_null());
        let sealed = Sealed {
            principal: "p".to_owned(),
            request: "r".to_owned(),
            seat: None,
            round: 1,
            call_id: token,
            expires_at: 10,
            state,
        };
        let good = sealer.seal(&sealed).unwrap();
        prop_assert_eq!(sealer.open(&good, "p", "r", 10), Ok(sealed));
        prop_assert_eq!(sealer.open(&good, "q", "r", 10), Err(SealError::Foreign));
        prop_assert_eq!(sealer.open(&good, "p", "r", 11), Err(SealError::Expired));
        let mut bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
        let at = at.index(bytes.len());
        if let Some(old) = bytes.get_mut(at).filter(|old| **old != byte) {
            *old = byte;
            prop_assert_eq!(
                sealer.open(&URL_SAFE_NO_PAD.encode(bytes), "p", "r", 10),
                Err(SealError::Broken)
            );
        }
        Ok(())
    };
    runner(300).run(&(".{0,60}", value(), any::<proptest::sample::Index>(), any::<u8>()), opens).unwrap();
}

/// Offers, and does nothing.
struct Idle;

impl Plugin for Idle {
    fn inventory(&self) -> Inventory {
        Inventory::default()
    }
    fn handle(self: Arc<Self>, _: Request, _: Context) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(std::future::ready(Err(PluginError::Unknown("anything".to_owned()))))
    }
}

fn seat() -> Arc<Seat> {
    let limits = SeatLimits {
        concurrency: 1,
        queue_max: 1,
        queue_timeout: None,
        blocking_threads: 1,
        lost_threads_max: 1,
        timeout_seconds: 1,
        breaker: None,
        start_timeout: None,
        own: waygate_mcp::config::plugin::PluginLimits::default(),
    };
    let plain = Arc::new(Curation { plain: true, ..Curation::default() });
    Arc::new(Seat::new("idle", plain, Arc::new(Idle), limits))
}

#[test]
fn a_cursor_leads_to_a_page_of_its_own_list_or_nowhere() {
    let shelf = Shelf::new(Manner { page_size: 3, ttl_ms: 0, info: ServerInfo::new("s", "1") });
    let tool = |n: usize| Definition::tool(&format!("t{n}"), "A tool", json!({"type": "object"}));
    let look = |cursor: &str| {
        let now = shelf.keep();
        [&now.tools_list, &now.prompts_list].map(|list| list.page(Some(cursor)).is_ok())
    };
    let cursors = prop_oneof![
        ".{0,30}",
        ("(tools|prompts|)", "[:;]?", "-?[0-9]{0,25}")
            .prop_map(|(key, mark, offset)| { URL_SAFE_NO_PAD.encode(format!("{key}{mark}{offset}")) }),
    ];
    // Before anything is offered, too.
    let empty = |cursor: String| {
        prop_assert_eq!(look(&cursor)[0], cursor.is_empty() || cursor == URL_SAFE_NO_PAD.encode("tools:0"));
        Ok(())
    };
    runner(500).run(&"([A-Za-z0-9_-]{0,20}|dG9vbHM6M[A-D])", empty).unwrap();
    shelf.publish(&seat(), Inventory { tools: (0..8).map(tool).collect(), ..Inventory::default() });
    let leads = |cursor: String| {
        let [tools, prompts] = look(&cursor);
        let known = ["tools:0", "tools:3", "tools:6"].map(|known| URL_SAFE_NO_PAD.encode(known));
        // An offset may be written with leading zeros: harmless, for it leads to a page all the same.
        let text = URL_SAFE_NO_PAD.decode(&cursor).ok().and_then(|text| String::from_utf8(text).ok());
        let offset = text.as_deref().and_then(|text| text.strip_prefix("tools:")?.parse::<u64>().ok());
        prop_assert_eq!(tools, cursor.is_empty() || matches!(offset, Some(0 | 3 | 6)), "{:?}", text);
        prop_assert!(!known.contains(&cursor) || (tools && !prompts));
        Ok(())
    };
    runner(1000).run(&cursors, leads).unwrap();
    assert_eq!(look(&URL_SAFE_NO_PAD.encode("tools:6")), [true, false]);
}

#[test]
fn a_template_covers_its_expansions_and_never_panics() {
    let shelf = Shelf::new(Manner { page_size: 3, ttl_ms: 0, info: ServerInfo::new("s", "1") });
    let seat = seat();
    let covers = |(template, uri, segment): (String, String, String)| {
        let fixed = Definition::template("x://{one}/y/{+rest}", "fixed");
        let templates = vec![Definition::template(&template, "any"), fixed];
        shelf.publish(&seat, Inventory { templates, ..Inventory::default() });
        for asked in [&uri, &template] {
            let found = shelf.keep().resource(asked).is_some();
            prop_assert!(found || !asked.starts_with("x://a/y/"));
        }
        let expanded = format!("x://{segment}/y/{uri}");
        prop_assert!(shelf.keep().resource(&expanded).is_some(), "{}", expanded);
        Ok(())
    };
    let templates = prop_oneof![".{0,30}", "([a-z/:{}+*é]|\\{[+/?#]?[a-z]{0,3}\\}){0,10}"];
    runner(500).run(&(templates, "[a-z/:é{}%]{0,30}", "[a-zé%]{1,8}"), covers).unwrap();
}

#[test]
fn any_body_gets_an_answer_and_the_next_call_works() {
    let server = Server::start("echo");
    let good = || server.tool("echo", json!({"message": "still here"}));
    let answered = |body: Vec<u8>| {
        let mut request = Http::post(body);
        for (name, value) in
            [("MCP-Protocol-Version", support::MODERN), ("Mcp-Method", "tools/call"), ("Mcp-Name", "echo")]
        {
            request = request.header(name, value);
        }
        let reply = request.send(server.address);
        let json = reply.json();
        match reply.status {
            200 => prop_assert!(json["result"].is_object(), "{}", reply.text()),
            202 => prop_assert!(reply.body.is_empty()),
            400..=499 => {
                prop_assert!(json["error"]["code"].is_i64(), "{}", reply.text());
                for said in [
                    &json["error"]["message"],
                    &json["error"]["data"]["advice"],
                    &json["error"]["data"]["requestId"],
                ] {
                    prop_assert!(said.as_str().is_some_and(|said| !said.is_empty()), "{}", reply.text());
                }
            }
            other => prop_assert!(false, "status {other}: {}", reply.text()),
        }
        Ok(())
    };
    runner(400).run(&bytes(), answered).unwrap();
    assert_eq!(good()["content"][0]["text"], "still here");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
