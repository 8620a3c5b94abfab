//! The server on HTTP behind the gateways of `scripts/bench`: see `lib.rs` for what it answers, at `/mcp` and at `/mcp/*`,
//! so that one process is as many servers as are wanted. With `--hang-seconds` a call waits before it is answered.

use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use gateway_floor::{Answer, Offer, number_after};

/// A body as large as this is answered with 413 by actix-web.
const BODY_MAX_BYTES: usize = 4 << 20;

struct Server {
    offer: Offer,
    hang: Option<Duration>,
}

async fn answer(body: Bytes, server: web::Data<Server>) -> HttpResponse {
    let answer = server.offer.answer(&body);
    if let Some(hang) = server.hang
        && body.windows(12).any(|window| window == b"\"tools/call\"")
    {
        actix_web::rt::time::sleep(hang).await;
    }
    match answer {
        Answer::Given(answer) => HttpResponse::Ok().content_type("application/json").body(answer),
        Answer::Refused(refused) => HttpResponse::NotFound().content_type("application/json").body(refused),
        Answer::Nothing => HttpResponse::Accepted().finish(),
        Answer::Malformed => HttpResponse::BadRequest().finish(),
    }
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (Some(port), Some(workers)) = (number_after("--port"), number_after("--workers")) else {
        let usage = "usage: upstream --port N --workers N [--tools N] [--hang-seconds N]";
        return Err(std::io::Error::other(usage));
    };
    let hang = number_after("--hang-seconds").map(|seconds| Duration::from_secs(seconds.into()));
    let server = Server { offer: Offer::of(number_after("--tools").unwrap_or(1), true), hang };
    let server = web::Data::new(server);
    let app = move || {
        let at = |path| web::resource(path).route(web::post().to(answer));
        App::new()
            .app_data(web::PayloadConfig::new(BODY_MAX_BYTES))
            .app_data(server.clone())
            .service(at("/mcp"))
            .service(at("/mcp/{name}"))
    };
    HttpServer::new(app).workers(workers.into()).tcp_nodelay(true).bind(("127.0.0.1", port))?.run().await
}
