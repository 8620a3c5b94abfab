//! A bounded memory of resource links that passed: whose a URI is that no list and no template names.
//!
//! Must not know what lists say, nor who reads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

/// Links of one generation; two are remembered.
const GENERATION: usize = 5_000;
/// Plugins of one URI that are remembered, as of several instances of one server.
const PLUGINS_MAX: usize = 8;
/// Longer URIs are not remembered.
const URI_MAX_BYTES: usize = 2_048;

/// The plugins of URIs that were seen last.
///
/// Two generations: when the young one is full it becomes the old one, which is forgotten. What is used in time is young
/// again, so that at least the last 5,000 and at most 10,000 are known.
#[derive(Debug, Default)]
pub struct Links(Mutex<Generations>);

/// The plugins that a URI came from, the last one last. Most came from one.
type Plugins = SmallVec<[Arc<str>; 1]>;

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Arc<str>, Plugins>,
    old: HashMap<Arc<str>, Plugins>,
}

impl Links {
    /// Notes that `uri` came from `plugin`.
    pub fn note(&self, uri: &str, plugin: &Arc<str>) {
        if uri.len() > URI_MAX_BYTES || !uri.contains(':') {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.young.get_mut(uri) {
            return come_last(known, plugin);
        }
        let (uri, mut known) = all.old.remove_entry(uri).unwrap_or_else(|| (uri.into(), Plugins::new()));
        come_last(&mut known, plugin);
        all.insert(uri, known);
    }

    /// The plugin of those that `has` knows that `uri` came from last: of several the last is right, since that is what
    /// the client just saw.
    pub fn owner(&self, uri: &str, has: impl Fn(&str) -> bool) -> Option<Arc<str>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |known: &Plugins| known.iter().rev().find(|plugin| has(plugin)).cloned();
        if let Some(known) = all.young.get(uri) {
            return last(known);
        }
        let (uri, known) = all.old.remove_entry(uri)?;
        let owner = last(&known);
        all.insert(uri, known);
        owner
    }
}

fn come_last(known: &mut Plugins, plugin: &Arc<str>) {
    if known.last() == Some(plugin) {
        return;
    }
    known.retain(|other| other != plugin);
    if known.len() >= PLUGINS_MAX {
        known.remove(0);
    }
    known.push(Arc::clone(plugin));
}

impl Generations {
    fn insert(&mut self, uri: Arc<str>, plugins: Plugins) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(uri, plugins);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_known_until_many_others_passed_and_longer_while_it_is_used() {
        let links = Links::default();
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        links.note("a:used", &one);
        links.note("a:unused", &one);
        for n in 0..3 * GENERATION {
            links.note(&format!("b:{n}"), &two);
            if n % 1_000 == 0 {
                assert_eq!(links.owner("a:used", |_| true).as_deref(), Some("one"));
            }
        }
        assert_eq!(links.owner("a:unused", |_| true), None);
        let newest = format!("b:{}", 3 * GENERATION - 1);
        assert_eq!(links.owner(&newest, |_| true).as_deref(), Some("two"));
        let all = links.0.lock().unwrap();
        assert!(all.young.len() + all.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn the_plugin_that_named_it_last_has_it_and_what_is_no_uri_is_nobodys() {
        let links = Links::default();
        links.note("a:x", &"one".into());
        links.note("a:x", &"two".into());
        links.note("no-uri", &"one".into());
        links.note(&format!("a:{}", "x".repeat(URI_MAX_BYTES)), &"one".into());
        assert_eq!(links.owner("a:x", |_| true).as_deref(), Some("two"));
        assert_eq!(
            links.owner("a:x", |plugin| plugin == "one").as_deref(),
            Some("one"),
            "where there is no other"
        );
        assert_eq!(links.owner("no-uri", |_| true), None);
        assert_eq!(links.0.lock().unwrap().young.len(), 1);
        (0..100).for_each(|n| links.note("a:x", &format!("many-{n}").into()));
        assert_eq!(links.owner("a:x", |plugin| plugin == "many-99").as_deref(), Some("many-99"));
        assert_eq!(links.owner("a:x", |plugin| plugin == "two"), None, "no more than some are remembered");
    }
}
