//! Lines: what is no message is answered as such, and the stream goes on; what is on stdout is messages and nothing else.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::message;
use crate::support::stdio::Client;

#[test]
fn what_is_no_message_is_refused_and_the_next_line_is_read() {
    let mut client = Client::start("faulty_server", &[]);
    let refused = |client: &mut Client, line: &[u8]| {
        client.write(line);
        client.wait_for("a refusal", |message| message["error"].is_object())["error"]["code"].clone()
    };
    assert_eq!(refused(&mut client, b"no JSON\n"), -32700);
    assert_eq!(refused(&mut client, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}\n"), -32700);
    assert_eq!(refused(&mut client, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"x\"}\n"), -32700);
    assert_eq!(refused(&mut client, b"{}\n"), -32600);
    assert_eq!(refused(&mut client, b"[]\n"), -32600);
    assert_eq!(refused(&mut client, b"7\r\n"), -32600);
    assert_eq!(refused(&mut client, b"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"x\"}\n"), -32600);
    // A message over two lines is two lines that are none.
    assert_eq!(refused(&mut client, b"{\"jsonrpc\":\"2.0\",\n"), -32700);
    assert_eq!(refused(&mut client, b"\"id\":1,\"method\":\"x\"}\n"), -32700);
    // Nobody asked, and an answer is answered by nothing.
    client.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n  \n\r\n");
    client.notify("notifications/no_such", json!({}));
    client.tool("structured", json!({"n": 1}));
    assert_eq!(client.end(), (Some(0), Vec::new()));
}

#[test]
fn a_refusal_names_the_request_where_it_can() {
    let mut client = Client::start("faulty_server", &[]);
    client.send(&json!({"jsonrpc": "1.0", "id": "q", "method": "ping"}));
    assert_eq!(client.answer("q")["error"]["code"], -32600);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    client.write(format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":{deep}}}\n").as_bytes());
    client.wait_for("a refusal", |message| message["error"]["code"] == -32700);
}

#[test]
fn a_line_that_is_too_long_is_refused_and_skipped() {
    let mut client = Client::start("faulty_server", &[("WAYGATE_BODY_MAX_BYTES", "4096")]);
    client.write("x".repeat(1_000_000).as_bytes());
    client.write(b"\n");
    let refused = client.wait_for("a refusal", |message| message["error"].is_object());
    assert_eq!(refused["error"]["code"], -31413, "{refused}");
    assert!(refused.get("id").is_none());
    client.tool("structured", json!({"n": 1}));
    let long = client.call("tools/call", json!({"name": "repeat", "arguments": {"a": "y".repeat(2_000)}}));
    assert!(long["result"].is_object(), "just under the limit is taken: {long}");
}

#[test]
fn answers_are_one_line_whatever_stands_in_them() {
    let mut client = Client::start("faulty_server", &[]);
    let text = "a\nb\r\nc\u{2028}d";
    let answer = client.tool("repeat", json!({"a": text}));
    let said: Value =
        serde_json::from_str(answer["content"][0]["text"].as_str().expect("text")).expect("JSON");
    assert_eq!(said["a"], text);
    let precise = client.tool("precise", json!({}));
    assert!(precise.to_string().contains("unknown"), "{precise}");
}

#[test]
fn nothing_that_anybody_prints_gets_between_the_messages() {
    let mut client = Client::start("faulty_server", &[]);
    client.tool("shout", json!({}));
    client.tool("shout", json!({}));
    let (code, rest) = client.end();
    assert_eq!((code, rest), (Some(0), Vec::new()));
    assert!(client.stderr().contains("this is no message"), "it is not lost either");
}

#[test]
fn a_client_that_writes_all_before_it_reads_gets_an_answer_to_each() {
    const REQUESTS: usize = 300;
    let mut client = Client::start("faulty_server", &[]);
    let mut stdin = client.take_stdin();
    let writes = std::thread::spawn(move || {
        let text = "z".repeat(20_000);
        for id in 0..REQUESTS {
            let mut request = message("tools/call", json!({"name": "repeat", "arguments": {"a": text}}));
            request["id"] = id.into();
            writeln!(stdin, "{request}").expect("it reads");
        }
    });
    for id in 0..REQUESTS {
        let answer = client.answer(id);
        let busy = answer["error"]["code"] == -31503;
        assert!(busy || answer["result"]["content"].is_array(), "{answer}");
    }
    writes.join().expect("all is written");
    assert_eq!(client.ended(), (Some(0), Vec::new()));
}
