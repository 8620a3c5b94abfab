//! Which resources of a plugin are watched, by how many streams, and what the plugin said to it.
//!
//! Kept through restarts, as the plugin's own watches are, and left to the plugin that takes this one's place. Must not know
//! how the plugin is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::messages::Watch;
use crate::error::Fault;

/// What the plugin said to a watch; nothing while it is asked.
type Told = Option<Result<(), Fault>>;

/// Who watches what.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<Arc<str>, Watched>>>);

/// A resource that is watched.
struct Watched {
    /// By so many streams.
    count: usize,
    /// What the plugin said when the first of them began: it holds for all.
    told: watch::Receiver<Told>,
}

/// What is to be done about a watch that begins or ends.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nothing: the plugin knows.
    None,
    /// The plugin is to be told that it may stop.
    Cease,
    /// The plugin is to be asked, and whoever waits for its word told.
    Ask(watch::Sender<Told>),
    /// Another one asked before, and waits for its word, too.
    Wait(watch::Receiver<Told>),
}

impl Watchers {
    /// What is watched.
    pub(super) fn all(&self) -> Vec<Arc<str>> {
        self.table().keys().cloned().collect()
    }

    /// Whether it is watched.
    pub(super) fn has(&self, uri: &str) -> bool {
        self.table().contains_key(uri)
    }

    /// Counts a watch, and says what is to be done about it.
    pub(super) fn count(&self, watch: &Watch) -> Turn {
        let mut table = self.table();
        let Some(watched) = table.get_mut(&watch.uri) else {
            if !watch.begins {
                return Turn::None;
            }
            let (tell, told) = watch::channel(None);
            table.insert(Arc::clone(&watch.uri), Watched { count: 1, told });
            return Turn::Ask(tell);
        };
        if watch.begins {
            watched.count += 1;
            // Whoever asked went down with its actor: nobody will ever hear the plugin's word.
            let is_lost = watched.told.borrow().is_none() && watched.told.has_changed().is_err();
            if is_lost {
                let (tell, told) = watch::channel(None);
                watched.told = told;
                return Turn::Ask(tell);
            }
            return Turn::Wait(watched.told.clone());
        }
        watched.count = watched.count.saturating_sub(1);
        if watched.count > 0 {
            return Turn::None;
        }
        table.remove(&watch.uri);
        Turn::Cease
    }

    /// Notes what the plugin said to a watch. Of one that it refused all are forgotten who waited for its word, and no others.
    pub(super) fn note(&self, uri: &str, tell: &watch::Sender<Told>, told: &Result<(), Fault>) {
        let mut table = self.table();
        let is_this = |watched: &Watched| watched.told.same_channel(&tell.subscribe());
        if told.is_err() && table.get(uri).is_some_and(is_this) {
            table.remove(uri);
        }
        tell.send_replace(Some(told.clone()));
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Arc<str>, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<(), Fault> {
        Err(Fault::internal("no"))
    }

    #[test]
    fn whoever_watches_what_another_asked_for_hears_what_the_plugin_said() {
        let watchers = Watchers::default();
        let begins = Watch { uri: "a:x".into(), begins: true };
        let ends = Watch { begins: false, ..begins.clone() };
        let Turn::Ask(first) = watchers.count(&begins) else { panic!("nobody asked") };
        let Turn::Wait(second) = watchers.count(&begins) else { panic!("asked twice") };
        assert!(second.borrow().is_none());
        watchers.note("a:x", &first, &refused());
        assert_eq!(*second.borrow(), Some(refused()));
        // Of neither anything is left, and a late word of the first does no harm to whoever came after.
        let Turn::Ask(third) = watchers.count(&begins) else { panic!("it is still watched") };
        watchers.note("a:x", &first, &refused());
        watchers.note("a:x", &third, &Ok(()));
        assert!(matches!(watchers.count(&begins), Turn::Wait(told) if *told.borrow() == Some(Ok(()))));
        assert!(matches!(watchers.count(&ends), Turn::None));
        assert!(matches!(watchers.count(&ends), Turn::Cease));
        assert!(matches!(watchers.count(&ends), Turn::None));
    }

    #[test]
    fn a_watch_whose_asker_went_down_is_asked_for_again() {
        let watchers = Watchers::default();
        let begins = Watch { uri: "a:x".into(), begins: true };
        drop(watchers.count(&begins));
        assert!(matches!(watchers.count(&begins), Turn::Ask(_)));
    }
}
