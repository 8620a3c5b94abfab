//! `subscriptions/listen`: agrees on what is told, opens the stream, and writes what its session has to tell.
//!
//! MCP 2026-07-28, basic/patterns/subscriptions. Must not know what changes, nor why.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix::Addr;
use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::Stream;
use futures_util::future::join_all;
use serde_json::Value;

use super::call::{Asked, Call};
use super::route::Wanted;
use super::{stream, tally};
use crate::actors::House;
use crate::actors::plugin::Watching;
use crate::actors::session::messages::Close;
use crate::actors::session::{Event, Feed, Filter, News, SessionActor};
use crate::catalog::ViewName;
use crate::error::{ErrorCode, Fault};
use crate::protocol::render::{self, ServerInfo};
use crate::protocol::{Id, Method, Object, Raw};
use crate::telemetry::metrics::METRICS;

/// Opens a listen stream.
///
/// # Errors
/// 406 when the client takes no event stream, -32602 for too many resources, `Unavailable` when no stream is free.
pub async fn open(call: &Call<'_>, asked: &Asked, wanted: &Wanted) -> Result<HttpResponse, Fault> {
    if !asked.accepts.events {
        return Err(Fault::new(
            ErrorCode::NotAcceptable,
            "subscriptions/listen answers with an event stream, which the Accept header does not take",
            "send `Accept: application/json, text/event-stream`",
        ));
    }
    let most = call.door.frame.limits.subscriptions_max;
    if wanted.resource_subscriptions.len() > most {
        return Err(Fault::invalid_params(
            format!("one stream may watch {most} resources"),
            "open more streams, or have the operator raise mcp.subscriptions_max",
        ));
    }
    let house = &call.door.frame.house;
    let watched = watch(house, &call.view, &wanted.resource_subscriptions).await;
    let filter = Filter {
        view: call.view.clone(),
        tools: wanted.tools_list_changed,
        prompts: wanted.prompts_list_changed,
        resources: wanted.resources_list_changed,
        uris: watched.iter().map(|watching| Arc::clone(watching.uri())).collect(),
    };
    let first = acknowledge(&asked.id, &filter);
    let opened = house.streams.open(&call.caller.principal, filter, watched)?;
    // A view is compared with what it becomes from when it was looked at.
    drop(house.shelf.view(&call.view));
    tally::ended(Method::Listen, "ok");
    asked.span.ended("ok");
    let body = Body {
        first: Some(first),
        feed: opened.feed,
        session: opened.address,
        id: asked.id.clone(),
        info: house.bench.info.clone(),
    };
    Ok(stream::head().streaming(body))
}

/// Begins to watch those of `uris` that exist in `view` and can be watched, all at once: none waits for another.
pub async fn watch(house: &House, view: &ViewName, uris: &[Arc<str>]) -> Vec<Watching> {
    let mut seen = HashSet::new();
    let mut begun = Vec::new();
    for uri in uris.iter().filter(|uri| seen.insert(Arc::clone(uri))) {
        let plugin = {
            let Some(catalog) = house.shelf.view(view) else { break };
            let seat = house.shelf.owner(&catalog, uri).map(|entry| Arc::clone(&entry.seat));
            let seat = seat.filter(|seat| catalog.offer(seat).is_some_and(|offer| offer.subscribes));
            seat.map(|seat| Arc::clone(&seat.name))
        };
        if let Some(plugin) = plugin {
            let uri = Arc::clone(uri);
            begun.push(async move { Watching::begin(&house.plugins, &plugin, uri).await });
        }
    }
    join_all(begun).await.into_iter().flatten().collect()
}

/// The first frame: what was agreed to.
fn acknowledge(id: &Id, filter: &Filter) -> Bytes {
    let mut agreed = Object::default();
    let kinds = [
        ("toolsListChanged", filter.tools),
        ("promptsListChanged", filter.prompts),
        ("resourcesListChanged", filter.resources),
    ];
    for (kind, _) in kinds.iter().filter(|(_, agreed)| *agreed) {
        agreed.put(kind, true);
    }
    if !filter.uris.is_empty() {
        agreed.put(
            "resourceSubscriptions",
            filter.uris.iter().map(|uri| Value::from(&**uri)).collect::<Vec<_>>(),
        );
    }
    let mut params = tagged(id);
    params.set("notifications", agreed.to_raw());
    render::event(&render::notification("notifications/subscriptions/acknowledged", &params))
}

/// `params` that say which subscription they belong to.
fn tagged(id: &Id) -> Object {
    let mut meta = Object::default();
    meta.set("io.modelcontextprotocol/subscriptionId", id.raw().clone());
    let mut params = Object::default();
    params.set("_meta", meta.to_raw());
    params
}

/// The body of a listen stream; dropping it closes the session.
struct Body {
    first: Option<Bytes>,
    feed: Arc<Feed>,
    session: Addr<SessionActor>,
    id: Id,
    info: ServerInfo,
}

impl Body {
    fn render(&self, event: &Event) -> Bytes {
        let mut params = tagged(&self.id);
        let method = match event {
            Event::KeepAlive => return Bytes::from_static(render::KEEP_ALIVE),
            Event::End => {
                let result =
                    Raw::trusted(format!(r#"{{"_meta":{}}}"#, params.get("_meta").map_or("{}", Raw::as_str)));
                let ended =
                    render::complete(&result, &self.info).map(|ended| render::result(&self.id, &ended));
                return render::event(&ended.unwrap_or_default());
            }
            Event::News(News::Tools) => "notifications/tools/list_changed",
            Event::News(News::Prompts) => "notifications/prompts/list_changed",
            Event::News(News::Resources | News::Unknown) => "notifications/resources/list_changed",
            Event::News(News::Updated(uri)) => {
                params.put("uri", &**uri);
                "notifications/resources/updated"
            }
        };
        METRICS.stream_events.inc();
        render::event(&render::notification(method, &params))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, actix_web::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.feed.poll_next(cx).map(|event| event.map(|event| Ok(self.render(&event))))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // The last word of this stream; its mailbox is bounded by what came before.
        self.session.do_send(Close);
    }
}
