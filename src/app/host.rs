//! The house as the built-in `waygate` plugin sees it. Filled in last, since plugins are made before the house is.

use std::sync::{Arc, OnceLock, Weak};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::actors::House;
use crate::actors::ask::ask;
use crate::actors::db::messages::ListHistory;
use crate::http::views::{self, ANSWER_WITHIN};
use crate::plugins::{Host, HostError};
use crate::storage::history::Filter;

/// A place for the house.
#[derive(Clone, Default)]
pub struct Slot(Arc<OnceLock<Weak<House>>>);

impl Slot {
    /// Fills it.
    pub fn fill(&self, house: &Arc<House>) {
        self.0.get_or_init(|| Arc::downgrade(house));
    }

    fn house(&self) -> Result<Arc<House>, HostError> {
        let missing = || HostError("the server is still starting; try again in a moment".to_owned());
        self.0.get().and_then(Weak::upgrade).ok_or_else(missing)
    }

    /// Answers with what `show` makes of the house.
    fn show<F, S>(&self, show: S) -> BoxFuture<'static, Result<Value, HostError>>
    where
        S: FnOnce(Arc<House>) -> F,
        F: Future<Output = Result<Value, HostError>> + Send + 'static,
    {
        match self.house() {
            Ok(house) => show(house).boxed(),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }
}

impl Host for Slot {
    fn status(&self) -> BoxFuture<'static, Result<Value, HostError>> {
        self.show(|house| async move {
            let judgement =
                views::judgement(&house).await.map_err(|fault| HostError(fault.message.into_owned()))?;
            Ok(views::health(&house, &judgement, true))
        })
    }

    fn diagnostics(&self, topic: &str) -> BoxFuture<'static, Result<Value, HostError>> {
        let topic = topic.to_owned();
        self.show(|house| async move {
            match topic.as_str() {
                "performance" => {
                    views::performance(&house).await.map_err(|fault| HostError(fault.message.into_owned()))
                }
                "connection" => {
                    let streams = house.streams.view();
                    let oldest = streams.oldest.map(|oldest| oldest.as_secs());
                    Ok(json!({"streams": {"open": streams.open, "oldestSeconds": oldest}}))
                }
                "actors" => Ok(views::actors(&house)),
                other => Err(HostError(format!(
                    "there is no topic {other:?}; use performance, connection or actors"
                ))),
            }
        })
    }

    fn plugins(&self) -> BoxFuture<'static, Result<Value, HostError>> {
        self.show(|house| async move { Ok(views::plugins(&house)) })
    }

    fn history(&self, limit: u32) -> BoxFuture<'static, Result<Value, HostError>> {
        self.show(move |house| async move {
            let filter = Filter { limit, ..Filter::default() };
            let page = ask(&house.db, ListHistory { filter }, ANSWER_WITHIN).await;
            let page = page.map_err(|error| HostError(format!("the history cannot be read: {error}")))?;
            serde_json::to_value(page).map_err(|error| HostError(error.to_string()))
        })
    }

    fn errors(&self, limit: u32) -> BoxFuture<'static, Result<Value, HostError>> {
        self.show(move |_| async move { Ok(views::recent_errors(limit as usize, None)) })
    }
}
