//! Certificates, keys and authorities that are configured. Must not connect anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::app::try_certificate;
use crate::cli::doctor::certificate::ends;
use crate::cli::doctor::finding::{Finding, quoted};
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::config::plugin::{PluginKind, Reach, read_folder};

/// Whoever renews certificates needs so long.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A file, and who needs it.
struct Needed {
    path: PathBuf,
    by: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of several will do, and old ones lie beside new ones.
    Authorities,
    /// It is shown with its chain, all of which must hold.
    Certificate,
    Key,
}

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let now = Timestamp::try_from(patient.now).unwrap_or_else(|_| Timestamp::now());
    let others = all(patient);
    let others = others
        .iter()
        .filter_map(|needed| if needed.kind == Kind::Key { key(needed) } else { certificate(needed, now) });
    of_server(patient).into_iter().chain(others).collect()
}

/// The certificate that the server itself shows, read and judged as a start does it.
pub fn of_server(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config() else { return Vec::new() };
    let Some(path) = &config.tls.cert else { return Vec::new() };
    let shows = format!("openssl x509 -noout -subject -dates -in {}", quoted(path));
    let found = match try_certificate(&config.tls) {
        Ok(None) => None,
        Ok(Some(what)) => {
            let why = "clients refuse a certificate that has ended";
            Some(Finding::warning("tls.server_ends", what, why, shows))
        }
        Err(what) => {
            let why = "no server starts with it, and one that runs does not take it";
            // A key has no dates: where the fault is with it, its file is what to look at.
            let key =
                config.tls.key.as_ref().filter(|key| what.contains(&format!("tls.key {}", key.display())));
            let command = key.map_or(shows, |key| format!("ls -l {}", quoted(key)));
            Some(Finding::error("tls.server", what, why, command))
        }
    };
    found.into_iter().collect()
}

fn all(patient: &Patient) -> Vec<Needed> {
    let mut all = Vec::new();
    if let Some((_, path)) =
        patient.environment.iter().find(|(name, path)| name == "SSL_CERT_FILE" && !path.is_empty())
    {
        all.push(Needed { path: path.into(), by: "SSL_CERT_FILE".to_owned(), kind: Kind::Authorities });
    }
    let Some(config) = patient.config() else { return all };
    let folder = read_folder(&config.server.data_dir.join("plugins")).unwrap_or_default();
    for (name, file) in folder.files {
        let Ok(file) = file else { continue };
        let PluginKind::Mcp(server) = file.kind else { continue };
        let Reach::Http(reach) = server.reach else { continue };
        let tls = reach.tls;
        let files = [
            ("tls.ca", tls.ca, Kind::Authorities),
            ("tls.cert", tls.cert, Kind::Certificate),
            ("tls.key", tls.key, Kind::Key),
        ];
        all.extend(files.into_iter().filter_map(|(field, path, kind)| {
            Some(Needed { path: path?, by: format!("{field} of the plugin {name}"), kind })
        }));
    }
    all
}

fn key(needed: &Needed) -> Option<Finding> {
    let path = &needed.path;
    let why = "no connection is made that needs it";
    match fs::metadata(path) {
        Err(error) => {
            let what = format!("{}, {}, cannot be read: {error}", path.display(), needed.by);
            Some(Finding::error("tls.missing", what, why, format!("ls -l {}", quoted(path))))
        }
        Ok(about) if about.permissions().mode() & 0o077 != 0 => {
            let what = format!("{}, {}, may be read by others", path.display(), needed.by);
            let why = "who reads it can pass for this server";
            Some(Finding::error("tls.open_key", what, why, format!("chmod 600 {}", quoted(path))))
        }
        Ok(_) => None,
    }
}

fn certificate(needed: &Needed, now: Timestamp) -> Option<Finding> {
    let path = &needed.path;
    let named = format!("{}, {},", path.display(), needed.by);
    let why = "no connection is made that needs it";
    let shows = |path: &Path| format!("openssl x509 -noout -subject -enddate -in {}", quoted(path));
    let end = match ends(path) {
        Ok(ends) if needed.kind == Kind::Authorities => *ends.last()?,
        Ok(ends) => *ends.first()?,
        Err(fault) => {
            let command = format!("ls -l {}", quoted(path));
            return Some(Finding::error("tls.missing", format!("{named} {fault}"), why, command));
        }
    };
    let left = end.duration_since(now);
    let long = output::duration(left.unsigned_abs().as_secs_f64());
    if left.is_negative() {
        return Some(Finding::error("tls.expired", format!("{named} ended {long} ago"), why, shows(path)));
    }
    (left < SOON).then(|| Finding::warning("tls.ends", format!("{named} ends in {long}"), why, shows(path)))
}
