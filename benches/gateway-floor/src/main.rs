//! The floor of a hop in `scripts/bench`: check the envelope of one `tools/call`, forward it over a kept connection, check
//! the answer's envelope, hand it back.
//!
//! It rewrites no name, checks no header, no schema, no caller, and records nothing. Must not grow: it says what a second
//! HTTP exchange itself costs.

use std::borrow::Cow;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use gateway_floor::{after, number_after};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A body as large as this is answered with 413 by actix-web.
const BODY_MAX_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// One worker's way to the server behind.
struct Hop {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

impl Hop {
    fn to(url: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1024).build(connector);
        Self { client, url }
    }

    async fn forward(&self, body: Bytes) -> Option<Bytes> {
        let request = hyper::Request::post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "echo")
            .body(Full::new(body))
            .ok()?;
        let answer = self.client.request(request).await.ok()?;
        Some(answer.into_body().collect().await.ok()?.to_bytes())
    }
}

async fn call(body: Bytes, hop: web::Data<Hop>) -> HttpResponse {
    let asked = serde_json::from_slice::<Request<'_>>(&body);
    if !asked.is_ok_and(|asked| {
        asked.jsonrpc == "2.0" && asked.method == "tools/call" && asked.params.name.ends_with("echo")
    }) {
        return HttpResponse::BadRequest().finish();
    }
    let Some(answer) = hop.forward(body).await else {
        return HttpResponse::BadGateway().finish();
    };
    let whole = serde_json::from_slice::<Answer<'_>>(&answer);
    if !whole.is_ok_and(|whole| whole.jsonrpc == "2.0" && whole.result.get().starts_with('{')) {
        return HttpResponse::BadGateway().finish();
    }
    HttpResponse::Ok().content_type("application/json").body(answer)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (Some(port), Some(workers), Some(url)) =
        (number_after("--port"), number_after("--workers"), after("--upstream"))
    else {
        return Err(std::io::Error::other("usage: gateway-floor --port N --workers N --upstream URL"));
    };
    let app = move || {
        App::new()
            .app_data(web::PayloadConfig::new(BODY_MAX_BYTES))
            .app_data(web::Data::new(Hop::to(url.clone())))
            .route("/mcp", web::post().to(call))
    };
    HttpServer::new(app).workers(workers.into()).tcp_nodelay(true).bind(("127.0.0.1", port))?.run().await
}
