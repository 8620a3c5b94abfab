//! What the door is given before it opens: the certificate, and what of the configuration requests are held against.
//!
//! Must not know who works behind it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::StartError;
use crate::access::{Failures, Gate};
use crate::actors::House;
use crate::actors::certificate::Certificate;
use crate::actors::health::Check;
use crate::config::{self, Config, Network, Tls};
use crate::http::door::{Connections, Frame, Limits, Quotas, Safety};
use crate::protocol::Eras;
use crate::storage::socket::Socket;

/// Reads the certificate, if the network is to be spoken to over TLS.
pub(super) async fn read_certificate(config: &Config) -> Result<Option<Arc<Certificate>>, StartError> {
    let tls = config.tls.clone();
    let read = actix_web::web::block(move || Certificate::of(&tls)).await;
    read.map_err(|error| StartError::Part(error.to_string()))?.map_err(StartError::Tls)
}

/// Reads the certificate as a start does it, and gives what the health would say of it, if that is anything. Blocks.
///
/// # Errors
/// Why no server starts with it, as a sentence.
pub fn try_certificate(tls: &Tls) -> Result<Option<String>, String> {
    let read = Certificate::of(tls)?;
    Ok(read.and_then(|certificate| match certificate.check() {
        Check::Degraded(why) | Check::Failed(why) => Some(why),
        Check::Ok | Check::Disabled => None,
    }))
}

/// What all workers share of it.
pub(super) fn frame(
    config: &Config,
    house: &Arc<House>,
    address: Option<SocketAddr>,
    socket: Option<&Socket>,
    eras: Eras,
) -> Arc<Frame> {
    let network = address.map(|address| format!("{}://{address}", config.scheme()));
    let user = socket.map(|socket| format!("unix:{}", socket.path().display()));
    let server = &config.server;
    let origins = [&server.allowed_origins[..], &server.cors_origins].concat();
    // Who tries it out on their own machine has other servers there, which a browser would refuse from then on.
    let tls_only = house.certificate.is_some() && !config::is_loopback(&server.host);
    Arc::new(Frame {
        house: Arc::clone(house),
        failures: Mutex::new(Failures::default()),
        gate: Gate::new(&server.host, server.public_url.as_deref(), &server.allowed_hosts, &origins),
        safety: Safety::new(tls_only, &server.cors_origins),
        trusted_proxies: server.trusted_proxies.iter().filter_map(|proxy| Network::parse(proxy)).collect(),
        settings: Arc::clone(&config.shown),
        limits: Limits {
            body_max_bytes: server.body_max_bytes,
            body_timeout: Duration::from_secs(server.receive_timeout_seconds),
            stream_keep_alive: Duration::from_secs(config.mcp.stream_keep_alive_seconds),
            subscriptions_max: config.mcp.subscriptions_max,
            crash_allowed: server.env == crate::config::Environment::Test,
        },
        quotas: Quotas::new(&config.limits),
        connections: Arc::new(Connections::default()),
        listeners: network.into_iter().chain(user).collect(),
        eras,
    })
}
