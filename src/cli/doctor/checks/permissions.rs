//! Who may read and write what is Waygate's own. Must not read what is in files, but for whether they hold secrets.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::backup::{Places, shelf};
use crate::cli::doctor::finding::{Finding, Mend, quoted, remounts};
use crate::cli::doctor::patient::Patient;
use crate::config::plugin::read_folder;
use crate::config::{Config, forbidden_mode};
use crate::storage::DataFolder;
use crate::telemetry::logging::FILE_NAME;

/// A file of ours, and who must not touch it.
struct Own {
    path: PathBuf,
    /// Bits of its mode that must not be there.
    forbidden: u32,
    why: &'static str,
}

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let (Some(config), Some(folder)) = (patient.config(), patient.data_folder()) else { return Vec::new() };
    if !folder.exists() {
        return Vec::new();
    }
    // That it is another user's is told by the check of the server.
    let looked = if patient.foreign.is_some() { None } else { folder_of(&folder) };
    let mut found: Vec<Finding> = looked.into_iter().collect();
    let owner = fs::metadata(&folder).map(|about| about.uid()).ok();
    for own in all(config) {
        let Ok(about) = fs::symlink_metadata(&own.path) else { continue };
        found.extend(judge(&own, &about, owner, &config.server.data_dir));
    }
    found
}

/// The data folder, as a server that starts looks at it.
fn folder_of(folder: &Path) -> Option<Finding> {
    let why = "whoever writes there could read keys and history, and no server starts on it";
    if let Err(error) = DataFolder::look(folder) {
        let about = fs::metadata(folder).ok()?;
        let is_ours = about.uid() == geteuid().as_raw();
        let mode = about.mode() & 0o7777 & !0o022;
        let command = format!("chmod go-w {}", quoted(folder));
        let finding = Finding::error("permissions.folder", error.to_string(), why, command);
        return Some(if is_ours { finding.mended_by(Mend::Mode(folder.to_owned(), mode)) } else { finding });
    }
    access(folder, Access::WRITE_OK).err().map(|error| {
        let what = format!("{} cannot be written: {error}", folder.display());
        let command = match error {
            Errno::ROFS => remounts(folder),
            _ => format!("chmod u+rwx {}", quoted(folder)),
        };
        Finding::error("permissions.read_only", what, "nothing can be recorded", command)
    })
}

fn all(config: &Config) -> Vec<Own> {
    const SECRET: &str = "who reads it has the secrets in it";
    const HISTORY: &str = "who reads it reads the history of all calls";
    let places = Places::of(config);
    let file = |path: PathBuf, forbidden, why| Own { path, forbidden, why };
    let mut all = vec![file(
        places.data_folder.join("sealing.key"),
        0o077,
        "no server starts with it, since who reads it can forge the history",
    )];
    let database = places.database_file().ok().flatten();
    for end in ["", "-wal", "-shm"] {
        let path = database.as_ref().map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        });
        all.extend(path.map(|path| file(path, 0o007, HISTORY)));
    }
    all.push(file(
        config.server.data_dir.join("logs").join(FILE_NAME),
        0o007,
        "who reads it sees who calls what",
    ));
    let of_config = config.read_from.iter().filter(|path| holds_secrets(config, path));
    all.extend(of_config.map(|path| file(path.clone(), of_secrets(path), SECRET)));
    let backups = shelf::list(&places.backups).unwrap_or_default();
    all.extend(backups.into_iter().map(|listed| file(listed.path, 0o007, HISTORY)));
    let folder = read_folder(&places.plugins).unwrap_or_default();
    for (name, _) in &folder.files {
        let path = crate::config::plugin::path_of(&places.plugins, name);
        let open =
            folder.notes.iter().any(|note| note.starts_with(&format!("{} holds secrets", path.display())));
        // It says what is run.
        let forbidden = if open { of_secrets(&path) } else { 0o002 };
        all.push(file(
            path,
            forbidden,
            if open { SECRET } else { "who writes it runs programs as this user" },
        ));
    }
    all
}

fn of_secrets(path: &Path) -> u32 {
    fs::metadata(path).map_or(0o077, |about| forbidden_mode(&about))
}

/// Whether a setting that is secret stands in this file.
fn holds_secrets(config: &Config, path: &Path) -> bool {
    let begins = format!("{}:", path.display());
    config
        .shown
        .iter()
        .filter(|shown| shown.setting.is_secret())
        .any(|shown| shown.origin.as_ref().is_some_and(|origin| origin.place.starts_with(&begins)))
}

fn judge(own: &Own, about: &Metadata, owner: Option<u32>, root: &Path) -> Option<Finding> {
    let (path, folder) = (&own.path, &root.join("data"));
    // What lies elsewhere, as `/etc/waygate` does, has its owner and mode so that others can read it: whoever gave them mends them.
    let is_ours = about.uid() == geteuid().as_raw() && owner == Some(about.uid()) && path.starts_with(root);
    if let Some(owner) = owner.filter(|owner| path.starts_with(folder) && about.uid() != *owner) {
        let what =
            format!("{} belongs to user {}, and its folder to user {owner}", path.display(), about.uid());
        let why = "the server cannot write it, as after a verb was run by another user";
        let command = format!("chown --reference={} {}", quoted(folder), quoted(path));
        return Some(Finding::error("permissions.owner", what, why, command));
    }
    let (open, mode) = (about.mode() & own.forbidden, about.mode() & 0o7777);
    if !about.is_file() {
        return None;
    }
    if open == 0 {
        return (is_ours && !geteuid().is_root()).then(|| closed(path, mode)).flatten();
    }
    let verb = if open & 0o022 != 0 { "written" } else { "read" };
    let what = format!("{} may be {verb} by others (mode {mode:04o})", path.display());
    // No more than that is taken away: whom the rest is for is not known here.
    let closed = mode & !own.forbidden;
    let command = format!("chmod {closed:o} {}", quoted(path));
    let finding = Finding::error("permissions.open", what, own.why, command);
    Some(if is_ours { finding.mended_by(Mend::Mode(path.clone(), closed)) } else { finding })
}

/// What its own user, unless that is root, cannot read.
fn closed(path: &Path, mode: u32) -> Option<Finding> {
    let opened = mode | 0o400;
    let command = format!("chmod u+r {}", quoted(path));
    let finding = || {
        let what =
            format!("{} may not be read by the user that it belongs to (mode {mode:04o})", path.display());
        Finding::error("permissions.closed", what, "no server can work with it", command)
    };
    (opened != mode).then(|| finding().mended_by(Mend::Mode(path.to_owned(), opened)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_its_own_user_cannot_read_is_opened_to_that_user_alone() {
        let finding = closed(Path::new("/srv/data/sealing.key"), 0).unwrap();
        assert_eq!(
            (finding.id, finding.command.as_str()),
            ("permissions.closed", "chmod u+r /srv/data/sealing.key")
        );
        assert!(matches!(finding.mend, Some(Mend::Mode(_, 0o400))));
        assert!(closed(Path::new("/srv/data/sealing.key"), 0o600).is_none());
    }

    #[test]
    fn what_is_not_the_data_folders_own_is_not_mended_and_no_more_than_must_be_is_taken_away() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("data")).unwrap();
        let user = geteuid().as_raw();
        let mended = |path: PathBuf, mode: u32, forbidden: u32, owner: u32| {
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let about = fs::symlink_metadata(&path).unwrap();
            let own = Own { path, forbidden, why: "so it is" };
            let finding = judge(&own, &about, Some(owner), &root).unwrap();
            let mode = match finding.mend {
                Some(Mend::Mode(_, mode)) => Some(mode),
                _ => None,
            };
            (mode, finding.command.split(' ').nth(1).unwrap().to_owned())
        };
        assert_eq!(mended(root.join("log"), 0o646, 0o007, user), (Some(0o640), "640".to_owned()));
        assert_eq!(mended(root.join("key"), 0o644, 0o077, user), (Some(0o600), "600".to_owned()));
        assert_eq!(
            mended(place.path().join("production.toml"), 0o644, 0o027, user),
            (None, "640".to_owned())
        );
        assert_eq!(mended(root.join("other"), 0o644, 0o077, user + 1), (None, "600".to_owned()));
    }
}
