//! Plugins that the program brings, as their files say that they are used: what was said of each, and the seats for that. Their lives go on
//! when a file changes. Must not know how a reload is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{BUILTIN, Nursery};
use crate::actors::plugin::Member;
use crate::app::builder::Guest;
use crate::catalog::{Seat, SeatLimits};
use crate::config::plugin::{Curation, PluginFile, PluginKind, Tuning, path_of, read_file, render};

/// What a plugin's file says; or what is wrong with it; none where there is no file.
pub(in crate::app) type Told = Option<Result<Box<Tuning>, String>>;

/// What the program says of a plugin of its own.
pub(super) struct Own {
    pub(super) curation: Arc<Curation>,
    pub(super) timeout_seconds: Option<u64>,
}

/// All that the program brings.
#[derive(Default)]
pub(in crate::app) struct Builtins {
    own: BTreeMap<String, Own>,
    /// What holds of those that have a file; none of one that waits for its file to be mended.
    said: BTreeMap<String, Option<Box<Tuning>>>,
}

/// A file of another kind that has the name of a built-in plugin.
pub(super) const OF_ANOTHER_KIND: &str = "a plugin of the program itself has this name; rename the file, or write kind = \"builtin\" to say \
                                          how that one is used";

/// Reads the file of one. Only where there surely is none nothing is said of it: one that cannot be looked at may deny something.
pub(in crate::app) fn read(folder: &Path, name: &str) -> Told {
    // Of a name that is no file's there is none.
    let is_file_name = Path::new(name).file_name().is_some_and(|file| file == name);
    let path = is_file_name.then(|| path_of(folder, name))?;
    if std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return None;
    }
    match read_file(&path, name) {
        Ok(PluginFile { kind: PluginKind::Builtin(tuning), .. }) => Some(Ok(tuning)),
        Ok(_) => Some(Err(OF_ANOTHER_KIND.to_owned())),
        Err(faults) => Some(Err(faults.on_one_line())),
    }
}

/// That no plugin of this name is built in, with those that are.
pub fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!(
        "there is no built-in plugin {name}; those that there are: {there}; rename the file, or remove it"
    )
}

impl Builtins {
    pub(super) fn note(&mut self, guest: &Guest) {
        let Guest { name, curation, timeout_seconds, told, .. } = guest;
        let own = Own { curation: Arc::clone(curation), timeout_seconds: *timeout_seconds };
        self.own.insert(name.clone(), own);
        if let Some(told) = told {
            self.said.insert(name.clone(), told.as_ref().ok().cloned());
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.own.contains_key(name)
    }

    /// Whether its file says anything new.
    ///
    /// # Errors
    /// When there is no such plugin.
    pub(super) fn is_news(&self, name: &str, tuning: &Tuning) -> Result<bool, String> {
        if !self.has(name) {
            return Err(unknown(name, self.own.keys().map(String::as_str)));
        }
        Ok(self.said.get(name).and_then(Option::as_deref) != Some(tuning))
    }

    /// Those that had a file and have none any more.
    pub(super) fn forsaken(&self, files: &BTreeSet<String>) -> Vec<String> {
        self.said.keys().filter(|name| !files.contains(*name)).cloned().collect()
    }

    pub(super) fn hold(&mut self, name: String, tuning: Option<Box<Tuning>>) {
        match tuning {
            Some(tuning) => self.said.insert(name, Some(tuning)),
            None => self.said.remove(&name),
        };
    }

    /// Has a plugin sit on a new seat, which is not shown yet, as `tuning` says.
    pub(super) async fn reseat(
        &self,
        nursery: &Nursery,
        folder: &Path,
        (name, tuning): (&str, Option<&Tuning>),
        within: Duration,
    ) -> Result<Arc<Member>, String> {
        let missing = || "it is not there any more".to_owned();
        let old = nursery.roll.get(name).ok_or_else(missing)?;
        let own = self.own.get(name).ok_or_else(missing)?;
        let mut seat = Seat::anew(&old.seat, own.curation_with(tuning), own.limits(nursery.limits, tuning));
        seat.definition = definition(name, tuning).into();
        nursery.reseat(&old, seat, tuning.map(|_| path_of(folder, name)), within).await
    }
}

impl Own {
    pub(super) fn curation_with(&self, tuning: Option<&Tuning>) -> Arc<Curation> {
        tuning.map_or_else(|| Arc::clone(&self.curation), |tuning| Arc::new(tuning.over(&self.curation)))
    }

    pub(super) fn limits(&self, all: SeatLimits, tuning: Option<&Tuning>) -> SeatLimits {
        let own = tuning.map(|tuning| tuning.limits).unwrap_or_default();
        let timeout_seconds = own.timeout.map(|timeout| timeout.as_secs().max(1)).or(self.timeout_seconds);
        SeatLimits {
            concurrency: own.concurrency.unwrap_or(all.concurrency),
            queue_max: own.queue_max.unwrap_or(all.queue_max),
            queue_timeout: own.queue_timeout,
            timeout_seconds: timeout_seconds.unwrap_or(all.timeout_seconds),
            own,
            ..all
        }
    }
}

/// What it is made of, as a text: the program, and its file.
pub(super) fn definition(name: &str, tuning: Option<&Tuning>) -> String {
    let Some(tuning) = tuning else { return BUILTIN.to_owned() };
    let kind = PluginKind::Builtin(Box::new(tuning.clone()));
    render(&PluginFile { name: name.to_owned(), enabled: true, kind })
}

/// Where the file of one is, if it was read.
pub(super) fn origin(folder: &Path, name: &str, told: &Told) -> Option<PathBuf> {
    told.as_ref().map(|_| path_of(folder, name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_where_there_is_no_file_at_all_is_nothing_said_of_a_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| path_of(folder.path(), name);
        fs::write(path("said"), "kind = \"builtin\"\ndeny = [\"x\"]").unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        symlink(path("circle"), path("circle")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for (name, text) in
            [("server", "command = \"/bin/true\""), ("off", "enabled = false\ncommand = \"/bin/true\"")]
        {
            fs::write(path(name), text).unwrap();
        }
        let read = |name: &str| read(folder.path(), name);
        assert!(read("none").is_none() && read("a/said").is_none());
        assert!(read("said").is_some_and(|told| told.is_ok_and(|tuning| tuning.deny == ["x"])));
        for name in ["dangling", "circle", "folder", "server", "off"] {
            assert!(read(name).is_some_and(|told| told.is_err()), "{name}");
        }
    }
}
