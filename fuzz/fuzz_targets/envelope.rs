//! `Message::parse` and what opens its parameters, on any bytes: no panic, and what is accepted reads the same again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use waygate_mcp::protocol::modern::{Meta, Params};
use waygate_mcp::protocol::{Message, Raw};

fuzz_target!(|data: &[u8]| {
    let Ok(Message::Request { id, method, params }) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    let opened = Params::open(params.as_ref());
    let _read = (Meta::open(&opened), opened.target(), opened.arguments(), opened.responses(), opened.state());
    let shown = params.as_ref().map_or("{}", Raw::as_str);
    let method_shown = serde_json::Value::from(method.as_str());
    let again = format!(r#"{{"params":{shown},"method":{method_shown},"id":{},"jsonrpc":"2.0"}}"#, id.as_str());
    let Ok(Message::Request { id: id_again, method: method_again, params: params_again }) =
        Message::parse(Bytes::from(again))
    else {
        panic!("refused when it was written again");
    };
    assert_eq!((id_again, method_again), (id, method));
    assert_eq!(params_again.as_ref().map(Raw::as_str), Some(shown));
});
