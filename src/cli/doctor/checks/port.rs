//! Whether somebody else listens where the server is to listen. Must not keep the port.

use std::io::ErrorKind;
use std::net::TcpListener;

use crate::app::holder_of;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::Patient;

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config() else { return Vec::new() };
    let (host, port) = (config.server.host.as_str(), config.server.port);
    // One that runs has its port, and one that the kernel chooses is free.
    if port == 0 || patient.is_running() {
        return Vec::new();
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let error = match TcpListener::bind((bare, port)) {
        Ok(_free) => return Vec::new(),
        Err(error) => error,
    };
    let free =
        || TcpListener::bind((bare, 0)).and_then(|free| free.local_addr()).map_or(0, |free| free.port());
    let why = "the server cannot start";
    let finding = match error.kind() {
        ErrorKind::AddrInUse => {
            let holder = holder_of(port);
            let who = holder
                .as_ref()
                .map_or_else(|| "a process of another user".to_owned(), |holder| format!("process {holder}"));
            let what = format!("port {port} on {host} is taken by {who}");
            Finding::error("port.taken", what, why, format!("waygate-mcp serve --port {}", free()))
        }
        ErrorKind::PermissionDenied => {
            let what = format!("port {port} may not be bound by this user");
            Finding::error("port.denied", what, why, format!("waygate-mcp serve --port {}", free()))
        }
        _ => {
            let what = format!("{host}:{port} cannot be bound: {error}");
            Finding::error("port.unusable", what, why, "waygate-mcp serve --host 127.0.0.1")
        }
    };
    vec![finding]
}
