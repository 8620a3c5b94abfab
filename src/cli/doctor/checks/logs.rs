//! The folder and the file of the log. Must not read what is logged.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::cli::doctor::finding::{Finding, quoted, remounts};
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::telemetry::logging::FILE_NAME;

/// A file that grew beyond this is rotated by nobody.
const GROWN_BYTES: u64 = 1 << 30;
/// What the installer puts there.
const RULE: &str = "/etc/logrotate.d/waygate";

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config().filter(|config| config.log.file) else { return Vec::new() };
    let folder = config.server.data_dir.join("logs");
    let file = folder.join(FILE_NAME);
    let why = "nobody will know what happened";
    if !folder.exists() {
        // It is made at a start, and made anew by a server that runs.
        return Vec::new();
    }
    if !folder.is_dir() {
        let what = format!("{} is no folder, so no log is written and no server starts", folder.display());
        let folder = quoted(&folder);
        return vec![Finding::error("logs.folder", what, why, format!("mv {folder} {folder}.old"))];
    }
    // To another user than the data folder's it is told that this is so.
    let is_foreign = patient.foreign.is_some();
    if let Some(error) = access(&folder, Access::WRITE_OK).err().filter(|_| !is_foreign) {
        let what = format!("{} cannot be written: {error}", folder.display());
        return vec![Finding::error("logs.read_only", what, why, writes(&folder, error))];
    }
    match fs::metadata(&file) {
        Ok(about) if about.is_dir() => {
            let what = format!("{} is a folder, so no log is written and no server starts", file.display());
            vec![Finding::error("logs.file", what, why, format!("rmdir {}", quoted(&file)))]
        }
        Ok(about) if about.len() > GROWN_BYTES => {
            let what = format!(
                "{} has {}, and nobody rotates it",
                file.display(),
                output::bytes(about.len() as f64)
            );
            let why = "it will fill the disk";
            vec![Finding::warning("logs.grown", what, why, rotates(&file))]
        }
        _ => Vec::new(),
    }
}

/// What lets this user write the folder.
fn writes(folder: &Path, error: Errno) -> String {
    let owner = fs::metadata(folder).map(|about| about.uid()).ok();
    match error {
        Errno::ROFS => remounts(folder),
        _ if owner == Some(geteuid().as_raw()) => format!("chmod u+rwx {}", quoted(folder)),
        _ => format!("sudo chown -R {} {}", geteuid().as_raw(), quoted(folder)),
    }
}

/// What rotates the file: the rule that the installer puts there, else by hand, as a server that runs begins a new one.
fn rotates(file: &Path) -> String {
    if Path::new(RULE).exists() {
        return format!("sudo logrotate -f {RULE}");
    }
    let file = quoted(file);
    format!("mv {file} {file}.1 && sleep 2 && gzip -f {file}.1")
}
