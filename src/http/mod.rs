//! The door: bytes to protocol and back. The only room that knows actix-web and status codes.
//!
//! Must not touch storage or plugins.

mod admin;
mod call;
mod caller;
pub mod door;
mod explain;
mod legacy;
mod limits;
mod listen;
mod mcp;
mod notices;
mod ops;
mod quotas;
mod reply;
mod route;
mod safety;
mod secure;
mod serve;
mod spans;
mod stream;
mod tally;
pub mod views;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::dev::{AppService, HttpServiceFactory, ResourceDef, Server};
use actix_web::guard::{Guard, GuardContext, fn_guard};
use actix_web::http::Method;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::access::keys::Scope;
use crate::actors::executor::{self, CommandExecutor};
use caller::Wants;
use door::{Door, Frame};
pub use serve::{Entrances, Manners};

/// Where MCP is spoken with everything that is offered; a bundle's name may follow.
const MCP: &str = "/mcp";

/// The MCP endpoint, at `/mcp` and `/mcp/{bundle}`. A name in the pattern would have a regular expression run over the path
/// of every call; what follows is read where it is needed instead.
struct Endpoint;

impl HttpServiceFactory for Endpoint {
    fn register(self, config: &mut AppService) {
        let is_one_name = |context: &GuardContext<'_>| {
            let behind = context.head().uri.path().strip_prefix(MCP).and_then(|rest| rest.strip_prefix('/'));
            behind.is_none_or(|name| !name.is_empty() && !name.contains('/'))
        };
        let guards: Vec<Box<dyn Guard>> = vec![Box::new(fn_guard(is_one_name))];
        config.register_service(ResourceDef::prefix(MCP), Some(guards), web::to(speak), None);
    }
}

/// A request at the MCP endpoint.
async fn speak(request: HttpRequest, payload: web::Payload, door: Data<Door>) -> HttpResponse {
    match request.method().clone() {
        Method::POST => mcp::post(request, payload, door).await,
        Method::GET => legacy::get(&request, &door),
        Method::DELETE => legacy::delete(&request, &door),
        _ => mcp::other(&request, &door),
    }
}

/// The whole URL table, with what each URL asks of who calls it. Those of MCP ask for [`mcp::MCP`]; what is not here asks for
/// any key.
fn routes(urls: &mut ServiceConfig) {
    const READ: Wants = Wants::Scope(Scope::OpsRead);
    let at = |path: &str, allow: &'static str, wants: Wants, handler: actix_web::Route| {
        let other = move |request: HttpRequest, door: Data<Door>| async move {
            ops::not_allowed(&request, &door, allow)
        };
        web::resource(path).app_data(wants).route(handler).default_service(web::to(other))
    };
    let get = |path: &str, wants: Wants, handler: actix_web::Route| at(path, "GET", wants, handler);
    urls.service(Endpoint)
        .service(get("/sse", mcp::MCP, web::get().to(legacy::sse::open)))
        .service(at("/messages", "POST", mcp::MCP, web::post().to(legacy::sse::post)))
        .service(get("/", Wants::AnyKey, web::get().to(ops::index)))
        // These two answer everybody, and tell details to who may read the others.
        .service(get("/health", Wants::AnyKey, web::get().to(ops::health)))
        .service(get("/ready", Wants::AnyKey, web::get().to(ops::ready)))
        .service(get("/metrics", READ, web::get().to(ops::metrics)))
        .service(get("/plugins", READ, web::get().to(ops::plugins)))
        .service(at("/plugins/reload", "POST", Wants::Operator, web::post().to(ops::reload)))
        .service(get("/plugins/{name}", READ, web::get().to(ops::plugin)))
        .service(get("/bundles", READ, web::get().to(ops::bundles)))
        .service(get("/bundles/{name}", READ, web::get().to(ops::bundle)))
        .service(get("/diagnostics/connection", READ, web::get().to(ops::connection)))
        .service(get("/diagnostics/performance", READ, web::get().to(ops::performance)))
        .service(get("/diagnostics/errors", READ, web::get().to(ops::errors)))
        .service(get("/diagnostics/cache", READ, web::get().to(ops::cache)))
        .service(get("/diagnostics/actors", READ, web::get().to(ops::actors)))
        .service(get(explain::PATH, READ, web::get().to(explain::explain)))
        .service(at("/diagnostics/actors/{name}/crash", "POST", Wants::Operator, web::post().to(ops::crash)))
        .configure(admin_routes)
        .default_service(web::to(ops::not_found));
}

/// The URLs under `/admin`: each asks for [`admin::ADMIN`].
fn admin_routes(urls: &mut ServiceConfig) {
    let other = |allow: &'static str| {
        web::to(move |request: HttpRequest, door: Data<Door>| async move {
            ops::not_allowed(&request, &door, allow)
        })
    };
    let keys = web::resource(admin::KEYS).app_data(admin::ADMIN).default_service(other("GET, POST"));
    let key = web::resource(format!("{}/{{id}}", admin::KEYS)).app_data(admin::ADMIN);
    let limits = web::resource(format!("{}/{{id}}/limits", admin::KEYS)).app_data(admin::ADMIN);
    let post = |act: &str| {
        let url = web::resource(format!("{}/{{id}}/{act}", admin::KEYS)).app_data(admin::ADMIN);
        url.default_service(other("POST"))
    };
    let clear = web::resource(admin::CACHE_CLEAR).app_data(admin::ADMIN).default_service(other("POST"));
    urls.service(clear.route(web::post().to(admin::clear_cache)))
        .service(keys.route(web::get().to(admin::list)).route(web::post().to(admin::create)))
        .service(
            key.route(web::get().to(admin::show))
                .route(web::delete().to(admin::delete))
                .default_service(other("GET, DELETE")),
        )
        .service(limits.route(web::put().to(admin::limit)).default_service(other("PUT")))
        .service(post("rotate").route(web::post().to(admin::rotate)))
        .service(post("revoke").route(web::post().to(admin::revoke)));
}

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
