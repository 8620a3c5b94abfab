//! THE TABLE of URLs: what is served where, by which methods, and what each asks of who calls it. The router is made from
//! it, and so is the OpenAPI document: nothing is served that is not described.
//!
//! Must not know what is answered.

use actix_web::dev::{AppService, HttpServiceFactory, ResourceDef};
use actix_web::guard::{Guard, GuardContext, fn_guard};
use actix_web::http::Method;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};

use super::caller::Wants;
use super::door::Door;
use super::{MCP, admin, explain, legacy, mcp, openapi, ops, profile};
use crate::access::keys::Scope;

/// By whom a method is served; each worker makes its own.
type Served = fn() -> Route;

/// One URL.
pub struct Url {
    /// Its path; what stands in braces is read by the handler.
    pub path: &'static str,
    /// What it asks of who calls it.
    pub wants: Wants,
    /// By which methods it is served, and by whom.
    pub methods: &'static [(Method, Served)],
}

const READ: Wants = Wants::Scope(Scope::OpsRead);

/// Every URL but [`MCP`], which asks for [`mcp::MCP`]; what is not here asks for any key. The first one that fits serves.
pub static URLS: &[Url] = &[
    Url { path: "/sse", wants: mcp::MCP, methods: &[(Method::GET, || web::to(legacy::sse::open))] },
    Url { path: "/messages", wants: mcp::MCP, methods: &[(Method::POST, || web::to(legacy::sse::post))] },
    Url { path: "/", wants: Wants::AnyKey, methods: &[(Method::GET, || web::to(ops::index))] },
    Url { path: openapi::PATH, wants: Wants::AnyKey, methods: &[(Method::GET, || web::to(openapi::show))] },
    // These two answer everybody, and tell details to who may read the others.
    Url { path: HEALTH, wants: Wants::AnyKey, methods: &[(Method::GET, || web::to(ops::health))] },
    Url { path: READY, wants: Wants::AnyKey, methods: &[(Method::GET, || web::to(ops::ready))] },
    Url { path: "/metrics", wants: READ, methods: &[(Method::GET, || web::to(ops::metrics))] },
    Url { path: "/plugins", wants: READ, methods: &[(Method::GET, || web::to(ops::plugins))] },
    Url {
        path: "/plugins/reload",
        wants: Wants::Operator,
        methods: &[(Method::POST, || web::to(ops::reload))],
    },
    Url { path: "/plugins/{name}", wants: READ, methods: &[(Method::GET, || web::to(ops::plugin))] },
    Url { path: "/bundles", wants: READ, methods: &[(Method::GET, || web::to(ops::bundles))] },
    Url { path: "/bundles/{name}", wants: READ, methods: &[(Method::GET, || web::to(ops::bundle))] },
    Url {
        path: "/diagnostics/connection",
        wants: READ,
        methods: &[(Method::GET, || web::to(ops::connection))],
    },
    Url {
        path: "/diagnostics/performance",
        wants: READ,
        methods: &[(Method::GET, || web::to(ops::performance))],
    },
    Url { path: "/diagnostics/errors", wants: READ, methods: &[(Method::GET, || web::to(ops::errors))] },
    Url { path: "/diagnostics/cache", wants: READ, methods: &[(Method::GET, || web::to(ops::cache))] },
    Url { path: "/diagnostics/history", wants: READ, methods: &[(Method::GET, || web::to(ops::history))] },
    Url { path: "/diagnostics/actors", wants: READ, methods: &[(Method::GET, || web::to(ops::actors))] },
    Url { path: explain::PATH, wants: READ, methods: &[(Method::GET, || web::to(explain::explain))] },
    Url {
        path: profile::CPU,
        wants: profile::OPERATOR,
        methods: &[(Method::POST, || web::to(profile::cpu))],
    },
    Url {
        path: profile::HEAP,
        wants: profile::OPERATOR,
        methods: &[(Method::POST, || web::to(profile::heap))],
    },
    Url {
        path: "/diagnostics/actors/{name}/crash",
        wants: Wants::Operator,
        methods: &[(Method::POST, || web::to(ops::crash))],
    },
    Url {
        path: admin::CACHE_CLEAR,
        wants: admin::ADMIN,
        methods: &[(Method::POST, || web::to(admin::clear_cache))],
    },
    Url {
        path: "/admin/api/keys",
        wants: admin::ADMIN,
        methods: &[(Method::GET, || web::to(admin::list)), (Method::POST, || web::to(admin::create))],
    },
    Url {
        path: "/admin/api/keys/{id}",
        wants: admin::ADMIN,
        methods: &[(Method::GET, || web::to(admin::show)), (Method::DELETE, || web::to(admin::delete))],
    },
    Url {
        path: "/admin/api/keys/{id}/limits",
        wants: admin::ADMIN,
        methods: &[(Method::PUT, || web::to(admin::limit))],
    },
    Url {
        path: "/admin/api/keys/{id}/rotate",
        wants: admin::ADMIN,
        methods: &[(Method::POST, || web::to(admin::rotate))],
    },
    Url {
        path: "/admin/api/keys/{id}/revoke",
        wants: admin::ADMIN,
        methods: &[(Method::POST, || web::to(admin::revoke))],
    },
];

const HEALTH: &str = "/health";
const READY: &str = "/ready";

impl Url {
    /// Whether it answers who shows no key at a server that wants keys, too.
    pub fn answers_everybody(&self) -> bool {
        matches!(self.path, HEALTH | READY)
    }

    fn resource(&self) -> Resource {
        let allow = self.methods.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ");
        let other = move |request: HttpRequest, door: Data<Door>| {
            let refusal = ops::not_allowed(&request, &door, &allow);
            std::future::ready(refusal)
        };
        let resource = web::resource(self.path).app_data(self.wants).default_service(web::to(other));
        let methods = self.methods.iter();
        methods.fold(resource, |resource, (method, handler)| resource.route(handler().method(method.clone())))
    }
}

/// Has everything served that there is.
pub fn register(urls: &mut ServiceConfig) {
    urls.service(Endpoint);
    for url in URLS {
        urls.service(url.resource());
    }
    urls.default_service(web::to(ops::not_found));
}

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
