//! The folder and the file of the log. Must not read what is logged.

use std::fs;

use rustix::fs::{Access, access};

use crate::cli::doctor::finding::{Finding, quoted};
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::telemetry::logging::FILE_NAME;

/// A file that grew beyond this is rotated by nobody.
const GROWN_BYTES: u64 = 1 << 30;

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
        return vec![Finding::error("logs.read_only", what, why, format!("ls -ld {}", quoted(&folder)))];
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
            vec![Finding::warning("logs.grown", what, why, "logrotate -f /etc/logrotate.d/waygate")]
        }
        _ => Vec::new(),
    }
}
