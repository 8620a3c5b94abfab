//! Whose requests are counted for all servers together: keys, bundles, tools and the server itself. Must not know how they are
//! counted.

use std::sync::Arc;

use crate::access::limits::Allowance;
use crate::actors::upkeep::keep_up;
use crate::http::door::Frame;
use crate::replicas::Owner;

/// Begins to count together with other servers, where the configuration says so, until the last request is answered.
pub(super) fn count_together(frame: &Arc<Frame>) {
    let Some(replicas) = &frame.house.replicas else { return };
    let frame = Arc::downgrade(frame);
    let owners = move || frame.upgrade().map(|frame| all(&frame));
    let replicas = Arc::clone(replicas);
    actix_rt::spawn(keep_up("the limits", move || Arc::clone(&replicas).tend(owners.clone())));
}

/// All whose requests are limited, by what they are called on every server.
fn all(frame: &Frame) -> Vec<Owner> {
    let house = &frame.house;
    let mut owners = Vec::new();
    let mut add = |id: &Arc<str>, allowance: &Arc<Allowance>| {
        if allowance.pace().is_some() {
            owners.push(Owner { id: Arc::clone(id), allowance: Arc::clone(allowance) });
        }
    };
    for (id, allowance) in house.keys.ring().allowances() {
        add(id, allowance);
    }
    for member in house.plugins.all() {
        member.seat.allowances().for_each(|allowance| add(&allowance.whose().into(), allowance));
    }
    for (name, allowance) in &house.shelf.allowances() {
        add(name, allowance);
    }
    if let Some(allowance) = frame.quotas.of_all() {
        add(&allowance.whose().into(), allowance);
    }
    owners
}
