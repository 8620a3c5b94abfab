//! Certificates, keys and authorities that are configured. Must not connect anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::app::try_certificate;
use crate::cli::doctor::certificate::ends;
use crate::cli::doctor::finding::{Finding, quoted};
use crate::cli::doctor::patient::Patient;
use crate::cli::output;
use crate::config::plugin::{PluginKind, Reach, read_folder};

/// Whoever renews certificates needs so long.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The authorities of everything that does not name its own.
const VARIABLE: &str = "SSL_CERT_FILE";
/// Files of certificates and keys are read when a plugin connects, and those of the server when it is told to: a SIGHUP does, too.
const RELOAD: &str = "then `waygate-mcp plugins reload`";

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
    let then = if patient.is_running() { RELOAD } else { "then start the server" };
    let key = config.tls.key.as_ref();
    let renewed = match key {
        Some(key) => {
            format!(
                "put a renewed certificate into {} and its key into {}, {then}",
                quoted(path),
                quoted(key)
            )
        }
        None => format!("put a renewed certificate into {}, {then}", quoted(path)),
    };
    let found = match try_certificate(&config.tls) {
        Ok(None) => None,
        Ok(Some(what)) => {
            let why = "clients refuse a certificate that has ended";
            Some(Finding::warning("tls.server_ends", what, why, renewed))
        }
        Err(what) => {
            let why = "no server starts with it, and one that runs does not take it";
            let open = key.filter(|key| {
                let mode = fs::metadata(key).map_or(0, |about| about.permissions().mode());
                mode & 0o007 != 0 && what.contains(&format!("tls.key {}", key.display()))
            });
            let command = open.map_or(renewed, |key| format!("chmod o-rwx {}", quoted(key)));
            Some(Finding::error("tls.server", what, why, command))
        }
    };
    found.into_iter().collect()
}

fn all(patient: &Patient) -> Vec<Needed> {
    let mut all = Vec::new();
    if let Some((_, path)) =
        patient.environment.iter().find(|(name, path)| name == VARIABLE && !path.is_empty())
    {
        all.push(Needed { path: path.into(), by: VARIABLE.to_owned(), kind: Kind::Authorities });
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
            let command = format!("put the key into {}, where this user can read it, {RELOAD}", quoted(path));
            Some(Finding::error("tls.missing", what, why, command))
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
    let renewed = || match needed.kind {
        Kind::Authorities if needed.by == VARIABLE => format!(
            "put authorities that hold into {}, or unset {VARIABLE}, then restart the server",
            quoted(path)
        ),
        Kind::Authorities => {
            format!("put the authority's certificate that holds now into {}, {RELOAD}", quoted(path))
        }
        Kind::Certificate | Kind::Key => {
            format!("put a renewed certificate into {}, and its key beside it, {RELOAD}", quoted(path))
        }
    };
    let end = match ends(path) {
        Ok(ends) if needed.kind == Kind::Authorities => *ends.last()?,
        Ok(ends) => *ends.first()?,
        Err(fault) => {
            return Some(Finding::error("tls.missing", format!("{named} {fault}"), why, renewed()));
        }
    };
    let left = end.duration_since(now);
    let long = output::duration(left.unsigned_abs().as_secs_f64());
    if left.is_negative() {
        return Some(Finding::error("tls.expired", format!("{named} ended {long} ago"), why, renewed()));
    }
    (left < SOON).then(|| Finding::warning("tls.ends", format!("{named} ends in {long}"), why, renewed()))
}
