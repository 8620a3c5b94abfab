//! Free space and inodes where the data and the backups lie. Must not know what takes the room.

use std::path::Path;

use crate::backup::Places;
use crate::cli::doctor::finding::{Finding, quoted, remounts};
use crate::cli::doctor::patient::Patient;
use crate::cli::output;

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config() else { return Vec::new() };
    let places = Places::of(config);
    let mut found = Vec::new();
    for (folder, command) in [
        (&places.data_folder, "waygate-mcp history prune --keep-days 30 && waygate-mcp db vacuum"),
        (&places.backups, "waygate-mcp backup prune --keep-days 1"),
    ] {
        // What is not there yet will be made there.
        let Some(there) = folder.ancestors().find(|folder| folder.exists()) else { continue };
        if found.is_empty() {
            found.extend(judge(there, config.health.disk_min_bytes, command));
        }
    }
    found
}

fn judge(folder: &Path, least: u64, command: &str) -> Option<Finding> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let why = "on a full disk no call is recorded and no backup made";
    if free < least {
        let (free, least) = (output::bytes(free as f64), output::bytes(least as f64));
        let what = format!("{free} are free where {} lies, fewer than {least}", folder.display());
        return Some(Finding::error("disk.space", what, why, command));
    }
    if disk.f_files > 0 && disk.f_favail == 0 {
        let what =
            format!("no more files can be made where {} lies: it has no inodes left", folder.display());
        let command = format!(
            "remove what is many small files on that file system: `df -i {0}` and `du --inodes -x -d 2 {0}` name it",
            quoted(folder)
        );
        return Some(Finding::error("disk.inodes", what, why, command));
    }
    if disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        let what = format!("{} lies on a file system that is mounted read-only", folder.display());
        return Some(Finding::error("disk.read_only", what, why, remounts(folder)));
    }
    None
}
