//! A bounded memory of resource links that passed: whose a URI is that no list and no template names.
//!
//! Must not know what lists say, nor who reads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Links of one generation; two are remembered.
const GENERATION: usize = 5_000;
/// Longer URIs are not remembered.
const URI_MAX_BYTES: usize = 2_048;

/// The plugins of URIs that were seen last.
///
/// Two generations: when the young one is full it becomes the old one, which is forgotten. What is used in time is young
/// again, so that at least the last 5,000 and at most 10,000 are known.
#[derive(Debug, Default)]
pub struct Links(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Arc<str>, Arc<str>>,
    old: HashMap<Arc<str>, Arc<str>>,
}

impl Links {
    /// Notes that `uri` came from `plugin`. Of several plugins the last is right: that is what the client just saw.
    pub fn note(&self, uri: &str, plugin: &Arc<str>) {
        if uri.len() > URI_MAX_BYTES || !uri.contains(':') {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.young.get_mut(uri) {
            Some(known) if known == plugin => {}
            Some(known) => *known = Arc::clone(plugin),
            None => all.insert(uri.into(), Arc::clone(plugin)),
        }
    }

    /// The plugin that `uri` came from last.
    pub fn owner(&self, uri: &str) -> Option<Arc<str>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = all.young.get(uri) {
            return Some(Arc::clone(plugin));
        }
        let (uri, plugin) = all.old.remove_entry(uri)?;
        all.insert(uri, Arc::clone(&plugin));
        Some(plugin)
    }
}

impl Generations {
    fn insert(&mut self, uri: Arc<str>, plugin: Arc<str>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(uri, plugin);
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
                assert_eq!(links.owner("a:used").as_deref(), Some("one"));
            }
        }
        assert_eq!(links.owner("a:unused"), None);
        assert_eq!(links.owner(&format!("b:{}", 3 * GENERATION - 1)).as_deref(), Some("two"));
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
        assert_eq!(links.owner("a:x").as_deref(), Some("two"));
        assert_eq!(links.owner("no-uri"), None);
        assert_eq!(links.0.lock().unwrap().young.len(), 1);
    }
}
