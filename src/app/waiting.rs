//! Answering while the house is not built yet: the socket is bound, so callers are told to come back.

use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{App, HttpResponse, HttpServer, web};

/// A start that is quicker than this needs no doorman.
const PATIENCE: Duration = Duration::from_millis(200);

/// Waits for `work`; when it takes long, answers 503 on `listener` meanwhile.
pub async fn serve_while<T>(work: impl Future<Output = T>, listener: &TcpListener) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    let Ok(server) = listener.try_clone().and_then(doorman) else { return work.await };
    let handle = server.handle();
    let serving = actix_rt::spawn(server);
    let done = work.await;
    handle.stop(false).await;
    drop(serving);
    done
}

fn doorman(listener: TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let answer = || async {
        HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, "1"))
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .force_close()
            .body(r#"{"error":{"code":"unavailable","message":"the server is starting","advice":"retry after a moment"},"status":"starting","ready":false}"#)
    };
    let server = HttpServer::new(move || App::new().default_service(web::to(answer)));
    Ok(server.workers(1).disable_signals().listen(listener)?.run())
}
