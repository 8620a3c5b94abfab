//! Clearing the cache, which is an act that the history tells of. Must not know where answers lie.

use std::sync::Arc;

use super::House;
use super::db::Act;
use crate::cache::Cleared;
use crate::error::{ErrorCode, Fault};
use crate::storage::acts;

/// Forgets the answers of one plugin, or all, for `by`.
///
/// # Errors
/// There is no such plugin, or no cache.
pub async fn clear(house: &House, plugin: Option<&str>, by: &Arc<str>) -> Result<Cleared, Fault> {
    let member = plugin.map(|name| {
        let unknown =
            || Fault::new(ErrorCode::NotFound, format!("there is no plugin {name:?}"), "see /plugins");
        house.plugins.get(name).ok_or_else(unknown)
    });
    let name = member.transpose()?.map(|member| Arc::clone(&member.seat.name));
    let Some(cache) = &house.bench.cache else {
        let advice = "set WAYGATE_CACHE_TYPE to memory or redis, and start the server anew";
        return Err(Fault::new(ErrorCode::NotFound, "this server has no cache", advice));
    };
    let cleared = cache.clear(name.as_ref()).await;
    let detail = match (cleared.answers, cleared.pending) {
        (Some(answers), _) => format!("{answers} answers were forgotten"),
        (None, false) => "what was kept in Redis was forgotten".to_owned(),
        (None, true) => {
            "what was kept in Redis is forgotten when that is back, and not given before".to_owned()
        }
    };
    let act = Act::done(acts::CACHE_CLEAR, Arc::clone(by), detail);
    house.bench.recorder.act(Act { to: name, ..act });
    Ok(cleared)
}
