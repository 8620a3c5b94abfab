//! The server behind both gateways of `scripts/bench`: one echo tool of 2026-07-28, with no more than a gateway needs to
//! find it, so that the hop in front of it is what costs.

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A body as large as this is answered with 413 by actix-web.
const BODY_MAX_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: &'a RawValue,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

fn discovery() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "ttlMs": 60000,
        "cacheScope": "public",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "upstream", "version": "0"}}
    })
}

fn tools() -> Value {
    let schema = json!({"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]});
    json!({
        "resultType": "complete",
        "tools": [{"name": "echo", "description": "Gives back the message it is given", "inputSchema": schema}],
        "ttlMs": 60000,
        "cacheScope": "public"
    })
}

async fn answer(body: Bytes) -> HttpResponse {
    let Ok(request) = serde_json::from_slice::<Request<'_>>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    let Some(id) = request.id else { return HttpResponse::Accepted().finish() };
    let result = match request.method {
        "tools/call" => match serde_json::from_str::<Call<'_>>(request.params.get()) {
            Ok(call) => format!(
                r#"{{"resultType":"complete","content":[{{"type":"text","text":{}}}]}}"#,
                call.arguments.message.get()
            ),
            Err(_) => return HttpResponse::BadRequest().finish(),
        },
        "server/discover" => discovery().to_string(),
        "tools/list" => tools().to_string(),
        _ => {
            let error = json!({"code": -32601, "message": "there is no such method"});
            let refused = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.get());
            return HttpResponse::NotFound().content_type("application/json").body(refused);
        }
    };
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get());
    HttpResponse::Ok().content_type("application/json").body(answer)
}

/// The number after `flag` on the command line.
fn number_after(flag: &str) -> Option<u16> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)?.parse().ok()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (Some(port), Some(workers)) = (number_after("--port"), number_after("--workers")) else {
        return Err(std::io::Error::other("usage: upstream --port N --workers N"));
    };
    let app = || App::new().app_data(web::PayloadConfig::new(BODY_MAX_BYTES)).route("/mcp", web::post().to(answer));
    HttpServer::new(app).workers(workers.into()).tcp_nodelay(true).bind(("127.0.0.1", port))?.run().await
}
