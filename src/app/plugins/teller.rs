//! Says in the log and in the history what a reload did, and who asked for it. Must not know how one is carried out.

use std::sync::Arc;

use crate::actors::db::{Act, ITSELF, Recorder};
use crate::actors::plugin::reload::{Asked, Reloaded};
use crate::error::ErrorCode;
use crate::storage::acts;

/// Of one text in the history; names and reasons are the operator's own, and may be many.
const DETAIL_MAX_CHARS: usize = 1_000;

/// Who says it.
pub(super) struct Teller(pub(super) Recorder);

impl Teller {
    /// At the start: what the folder describes is on its way.
    pub(super) fn started(&self, first: &Reloaded) {
        log_of(first);
        let told = sentence(first);
        if !told.is_empty() {
            self.0.act(Act::done(acts::PLUGINS_RELOAD, ITSELF, told));
        }
    }

    /// Later: one row for the reload, and one for each plugin. A change of files that changed no plugin is no act.
    pub(super) fn reloaded(&self, askers: &[Asked], outcome: &Result<Reloaded, String>) {
        let mut by: Vec<&str> = askers.iter().map(|asker| &*asker.by).collect();
        by.sort_unstable();
        by.dedup();
        let by: Arc<str> = cut(&by.join(", ")).into();
        match outcome {
            Ok(reloaded) => {
                log_of(reloaded);
                self.write(&by, reloaded);
            }
            Err(why) => {
                log::error!("the plugins were not reloaded: {why}");
                let act = Act::done(acts::PLUGINS_RELOAD, by, cut(why));
                self.0.act(Act { refused: Some(ErrorCode::Unavailable), ..act });
            }
        }
    }

    fn write(&self, by: &Arc<str>, reloaded: &Reloaded) {
        let told = sentence(reloaded);
        let is_asked = !by.starts_with(ITSELF);
        if told.is_empty() && !is_asked {
            return;
        }
        let told = if told.is_empty() { "nothing had changed".to_owned() } else { told };
        self.0.act(Act::done(acts::PLUGINS_RELOAD, Arc::clone(by), told));
        let each = [
            (acts::PLUGINS_ADD, &reloaded.added),
            (acts::PLUGINS_CHANGE, &reloaded.changed),
            (acts::PLUGINS_REMOVE, &reloaded.removed),
        ];
        for (name, plugins) in each {
            for plugin in plugins {
                let act = Act::done(name, Arc::clone(by), "");
                self.0.act(Act { to: Some(plugin.as_str().into()), ..act });
            }
        }
    }
}

fn log_of(reloaded: &Reloaded) {
    for failed in &reloaded.failed {
        log::error!(plugin = failed.name.as_str(); "plugin {}: {}: {}", failed.name, failed.file.display(), failed.why);
    }
    let told = changes(reloaded);
    if !told.is_empty() {
        log::info!(took_ms = reloaded.took_ms; "plugins: {}", told.join("; "));
    }
}

fn changes(reloaded: &Reloaded) -> Vec<String> {
    let lists = [("added", &reloaded.added), ("changed", &reloaded.changed), ("removed", &reloaded.removed)];
    let told = lists.iter().filter(|(_, names)| !names.is_empty());
    told.map(|(word, names)| format!("{word} {}", names.join(", "))).collect()
}

/// All of it; empty when nothing changed and nothing failed.
fn sentence(reloaded: &Reloaded) -> String {
    let mut told = changes(reloaded);
    if !reloaded.failed.is_empty() {
        let failed = reloaded.failed.iter().map(|failed| format!("{} ({})", failed.name, failed.why));
        told.push(format!("failed {}", failed.collect::<Vec<_>>().join(", ")));
    }
    cut(&told.join("; "))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_MAX_CHARS) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
