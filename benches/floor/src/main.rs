//! The floor of `scripts/bench`: parse one `tools/call` and echo its message, in the handler of a bare actix-web server.
//!
//! With `--answer FILE` it sends what is in there, to whatever it is asked: the floor of a list that lies ready. It checks no
//! header, no schema, no caller, and records nothing. Must not grow: it says what HTTP itself costs.

use std::borrow::Cow;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A body as large as this is answered with 413 by actix-web.
const BODY_MAX_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Call<'a>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Serialize)]
struct Reply<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    result: CallResult<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallResult<'a> {
    content: [Text<'a>; 1],
    result_type: &'static str,
}

#[derive(Serialize)]
struct Text<'a> {
    r#type: &'static str,
    text: &'a str,
}

async fn echo(body: Bytes) -> HttpResponse {
    let Ok(call) = serde_json::from_slice::<Envelope<'_>>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    if call.jsonrpc != "2.0" || call.method != "tools/call" || call.params.name != "echo" {
        return HttpResponse::BadRequest().finish();
    }
    let text = &*call.params.arguments.message;
    let result = CallResult { content: [Text { r#type: "text", text }], result_type: "complete" };
    let mut reply = Vec::with_capacity(160 + text.len());
    match serde_json::to_writer(&mut reply, &Reply { jsonrpc: "2.0", id: call.id, result }) {
        Ok(()) => HttpResponse::Ok().content_type("application/json").body(reply),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// What lies ready, sent without a copy.
async fn send(_: Bytes, ready: web::Data<Bytes>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(Bytes::clone(&ready))
}

/// What stands after `flag` on the command line.
fn after(flag: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)
}

/// The number after `flag`.
fn number_after(flag: &str) -> Option<u16> {
    after(flag)?.parse().ok()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (Some(port), Some(workers)) = (number_after("--port"), number_after("--workers")) else {
        return Err(std::io::Error::other("usage: floor --port N --workers N [--answer FILE]"));
    };
    let ready = after("--answer").map(std::fs::read).transpose()?.map(|bytes| web::Data::new(Bytes::from(bytes)));
    let app = move || {
        let app = App::new().app_data(web::PayloadConfig::new(BODY_MAX_BYTES));
        match ready.clone() {
            Some(ready) => app.app_data(ready).route("/mcp", web::post().to(send)),
            None => app.route("/mcp", web::post().to(echo)),
        }
    };
    HttpServer::new(app).workers(workers.into()).tcp_nodelay(true).bind(("127.0.0.1", port))?.run().await
}
