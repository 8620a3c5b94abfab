//! The door: bytes to protocol and back. The only room that knows actix-web and status codes.
//!
//! Must not touch storage or plugins.

mod admin;
mod answer;
mod call;
mod caller;
pub mod door;
mod explain;
mod legacy;
mod limits;
mod listen;
mod mcp;
mod notices;
mod openapi;
mod ops;
mod profile;
mod quotas;
mod reply;
mod route;
mod safety;
mod secure;
mod serve;
mod spans;
mod stream;
mod tally;
mod urls;
pub mod views;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::dev::Server;
use actix_web::web::Data;

use crate::actors::executor::{self, CommandExecutor};
use door::{Door, Frame};
pub use serve::{Entrances, Manners, STOP_WITHIN_SECONDS};

/// Where MCP is spoken with everything that is offered; a bundle's name may follow.
const MCP: &str = "/mcp";

thread_local! {
    /// What the worker on this thread has at hand. A thread is one server's alone, and ends with it.
    static DOOR: RefCell<Option<Data<Door>>> = const { RefCell::new(None) };
}

/// Serves `frame` at `entrances`. Each worker gets an executor of its own, on its own thread.
///
/// # Errors
/// When a listener cannot be used.
pub fn serve(entrances: Entrances, frame: Arc<Frame>, manners: Manners) -> std::io::Result<Server> {
    let connections = Arc::clone(&frame.connections);
    let executors = Arc::new(AtomicUsize::new(0));
    let make = move || {
        let number = executors.fetch_add(1, Ordering::Relaxed);
        let executor = CommandExecutor::new(Arc::clone(&frame.house.bench));
        let (executor, part) =
            frame.house.roster.start(format!("executor-{number}"), "executor", executor::TERMS, |_| executor);
        Data::new(Door { frame: Arc::clone(&frame), executor, part })
    };
    // A worker builds its service anew for each entrance.
    let door = move || DOOR.with_borrow_mut(|door| door.get_or_insert_with(&make).clone());
    serve::serve(entrances, door, &connections, manners)
}
