//! `Message::parse` and what opens its parameters, on any bytes: no panic, and each member is what serde_json finds.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use waygate_mcp::protocol::modern::{Member, Meta};
use waygate_mcp::protocol::{Message, Method};

fuzz_target!(|data: &[u8]| {
    let Ok(Message::Request { id, method, params }) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    let target = Method::parse(&method).and_then(|method| params.target(method));
    let _read = (Meta::open(&params), target, params.arguments(), params.responses(), params.state());
    let body: Value = serde_json::from_slice(data).expect("what was accepted is JSON");
    assert_eq!(body["id"], id.raw().read::<Value>().expect("JSON"));
    assert_eq!(body["method"].as_str(), Some(&*method));
    let shown = |member: Option<Member<'_>>| member.map_or(Value::Null, |member| member.read().expect("JSON"));
    for (key, member) in [
        ("_meta", params.meta()),
        ("name", params.name()),
        ("uri", params.uri()),
        ("cursor", params.cursor()),
        ("arguments", params.given()),
        ("inputResponses", params.answers()),
        ("requestState", params.request_state()),
    ] {
        assert_eq!(body["params"][key], shown(member), "{key}");
    }
});
