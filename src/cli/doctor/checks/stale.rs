//! What a server or a backup left behind when it was killed: sockets that nobody listens on, folders of clients that are gone,
//! half-made files. Must not touch what somebody still uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::backup::Places;
use crate::cli::doctor::finding::{Finding, Mend, quoted};
use crate::cli::doctor::patient::Patient;
use crate::storage::{DataFolder, socket};

/// What is younger may still be in the making.
const SETTLED: Duration = Duration::from_secs(600);

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(folder) = patient.data_folder() else { return Vec::new() };
    let mut found = Vec::new();
    if !patient.is_running() && !DataFolder::is_owned(&folder) {
        let sockets = [socket::SERVER, socket::HANDOVER].map(|name| folder.join(name));
        found.extend(sockets.into_iter().filter(|path| path.symlink_metadata().is_ok()).map(|path| {
            let what = format!("nobody listens on {}: a server was killed", path.display());
            let why = "whoever looks for a server finds what is none";
            let command = format!("rm {}", quoted(&path));
            Finding::warning("stale.file", what, why, command).mended_by(Mend::RemoveSocket(path))
        }));
    }
    found.extend(DataFolder::left_behind(&folder).into_iter().map(|nook| {
        let what = format!("{} belongs to a process that is gone", nook.display());
        let command = format!("rm -r {}", quoted(&nook));
        Finding::warning("stale.folder", what, "it takes up room, and is nobody's", command)
            .mended_by(Mend::RemoveFolder(nook))
    }));
    let root = patient.root.as_deref().unwrap_or(&folder);
    let backups = patient.config().map_or_else(|| root.join("backups"), |config| Places::of(config).backups);
    for (half, written) in
        half_made(&backups, ".waygate-", "").into_iter().chain(half_made(&root.join("plugins"), ".", ".part"))
    {
        let what = format!("{} was never finished", half.display());
        let command = format!("rm {}", quoted(&half));
        found.push(
            Finding::warning("stale.file", what, "it takes up room, and is nobody's", command)
                .mended_by(Mend::Remove(half, written)),
        );
    }
    if patient.foreign.is_some() {
        // Root in the folder of another user could be led astray by it.
        found.iter_mut().for_each(|finding| finding.mend = None);
    }
    found
}

/// Files with such names that nobody has written to for a while, and when somebody did.
fn half_made(folder: &Path, begins: &str, ends: &str) -> Vec<(PathBuf, SystemTime)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let half = entries.filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let written = about.modified().ok()?;
        let is_old = written.elapsed().is_ok_and(|age| age > SETTLED);
        (is_old && name.starts_with(begins) && name.ends_with(ends)).then(|| (entry.path(), written))
    });
    half.collect()
}
