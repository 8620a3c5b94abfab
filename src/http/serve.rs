//! From accepted connections to the routes: the workers, and what each of the entrances speaks.
//!
//! It does what `actix_web::HttpServer` does, which has no room for what comes before a handshake. Must not know what is served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request, Response};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{
    IntoServiceFactory as _, Service, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config,
};
use actix_web::dev::{AppConfig, Extensions, ServiceResponse};
use actix_web::middleware::from_fn;
use actix_web::rt::net::{TcpStream, UnixStream};
use actix_web::web::Data;
use actix_web::{App, Error};
use tokio::io::{AsyncRead, AsyncWrite};

use super::door::{self, Connections, Door};
use super::secure::{self, Line};
use super::{limits, urls};
use crate::actors::certificate::Certificate;

/// How long a client may take to take note that its connection ends.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// How long the workers' connections have at a stop, when all requests have ended; in seconds.
pub const STOP_WITHIN_SECONDS: u64 = 1;

/// How the server meets its clients, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Threads that serve.
    pub workers: usize,
    /// Connections of all workers together.
    pub connections_max: usize,
    /// How long a head may take to arrive, and a handshake before it.
    pub head_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
}

/// Where clients come in.
pub struct Entrances {
    /// From the network; a server of one client has none.
    pub network: Option<TcpListener>,
    /// With one, the network is spoken to over TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// From the user whose server this is, where the file system has sockets.
    pub user: Option<UnixListener>,
}

/// Serves what `door` gives each worker, which it does on the worker's own thread, at `entrances`.
///
/// # Errors
/// When a listener cannot be used.
pub fn serve(
    entrances: Entrances,
    door: impl Fn() -> Data<Door> + Clone + Send + 'static,
    connections: &Arc<Connections>,
    manners: Manners,
) -> io::Result<Server> {
    let mut server = Server::build()
        .workers(manners.workers)
        .max_concurrent_connections(manners.connections_max.div_ceil(manners.workers))
        .disable_signals()
        .shutdown_timeout(STOP_WITHIN_SECONDS);
    let ends = server.graceful_shutdown_signal();
    if let Some(user) = entrances.user {
        let (door, ends, connections) = (door.clone(), ends.clone(), Arc::clone(connections));
        server =
            server.listen_uds("user", user, move || {
                let connections = Arc::clone(&connections);
                let connect = move |_: &UnixStream| Some(connections.open(door::From::ThisUser));
                fn_service(|stream: UnixStream| async { Ok((stream, Protocol::Http1, None)) })
                    .and_then(speak(door(), manners, ends.clone(), connect))
            })?;
    }
    match (entrances.network, entrances.certificate) {
        (None, _) => Ok(server.run()),
        (Some(network), None) => {
            let connections = Arc::clone(connections);
            let served = server.listen("network", network, move || {
                let connections = Arc::clone(&connections);
                let connect = move |_: &TcpStream| Some(connections.open(door::From::Network));
                fn_service(|stream: TcpStream| async move {
                    // Without it each streamed answer waits for the client's delayed acknowledgement, 44 ms.
                    drop(stream.set_nodelay(true));
                    let peer = stream.peer_addr().ok();
                    Ok((stream, Protocol::Http1, peer))
                })
                .and_then(speak(door(), manners, ends.clone(), connect))
            });
            Ok(served?.run())
        }
        (Some(network), Some(certificate)) => {
            let connections = Arc::clone(connections);
            let served = server.listen("network", network, move || {
                let (certificate, connections) = (Arc::clone(&certificate), Arc::clone(&connections));
                fn_service(move |stream: TcpStream| {
                    let connection = connections.open(door::From::Network);
                    let accepted =
                        secure::accept(stream, Arc::clone(&certificate), manners.head_timeout, connection);
                    async move {
                        let (line, peer) = accepted.await.map_err(DispatchError::Io)?;
                        Ok((line, Protocol::Http1, peer))
                    }
                })
                .and_then(speak(door(), manners, ends.clone(), Line::connection))
            });
            Ok(served?.run())
        }
    }
}

/// Speaks HTTP on connections of one kind; `connect` says what is known of one.
fn speak<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    door: Data<Door>,
    manners: Manners,
    ends: GracefulShutdownSignal,
    connect: impl Fn(&T) -> Option<door::Connection> + 'static,
) -> impl ServiceFactory<
    (T, Protocol, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> {
    let service: HttpService<T, _, BoxBody> = HttpService::build()
        .graceful_shutdown_signal(move || {
            let ends = ends.clone();
            async move { ends.notified().await }
        })
        .keep_alive(manners.keep_alive)
        .client_request_timeout(manners.head_timeout)
        .client_disconnect_timeout(CLOSE_WITHIN)
        // With it a client that went away is not noticed while its call runs.
        .h1_allow_half_closed(false)
        .on_connect_ext(move |stream: &T, extensions: &mut Extensions| {
            if let Some(connection) = connect(stream) {
                drop(extensions.insert(connection));
            }
        })
        .finish(app(door));
    service
}

/// The routes, with what is around all of them.
fn app(
    door: Data<Door>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse<BoxBody>,
    Error = Response<BoxBody>,
    InitError = (),
    Service: Service<Request, Future: 'static> + 'static,
    Future: 'static,
> + 'static {
    let app = App::new().app_data(door).wrap(from_fn(limits::guard)).configure(urls::register);
    let app = app.into_factory().map_err(|error: Error| Response::from(error.error_response()));
    // What it says of host and scheme is not asked by anyone.
    map_config(app, |()| AppConfig::default())
}
