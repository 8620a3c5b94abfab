//! How backups are shown, to people and to programs. Must not know how they are made.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::backup::restore::{Against, Keys, Named, Restored};
use crate::backup::shelf::Listed;
use crate::backup::{Authenticity, Drilled, Made, Manifest, Places, Verified};
use crate::storage::history::Report;

/// Keys in one line.
const KEYS_SHOWN: usize = 20;

/// A backup that was made.
pub fn made(made: &Made, json: bool) -> String {
    if json {
        let mut told = about(&made.path, &made.manifest);
        put(&mut told, "bytes", made.bytes.into());
        return told.to_string();
    }
    let mut text = format!("{}\n  {}\n", made.path.display(), contents(&made.manifest, made.bytes));
    text += &left_out(&made.manifest);
    text
}

/// The backups of a folder.
pub fn list(folder: &Path, all: &[Listed], json: bool) -> String {
    if json {
        let told = all.iter().map(|listed| {
            let mut told = match listed.manifest() {
                Ok(manifest) => about(&listed.path, &manifest),
                Err(error) => json!({"path": shown(&listed.path), "error": error.to_string()}),
            };
            put(&mut told, "name", listed.name().into());
            put(&mut told, "bytes", listed.bytes.into());
            told
        });
        return json!({"folder": shown(folder), "backups": told.collect::<Vec<_>>()}).to_string();
    }
    if all.is_empty() {
        return format!("no backup in {}; `waygate-mcp backup create` makes one", folder.display());
    }
    let mut text = String::new();
    for listed in all {
        let what = match listed.manifest() {
            Ok(manifest) => contents(&manifest, listed.bytes),
            Err(error) => format!("NOT USABLE: {error}"),
        };
        let _infallible = writeln!(text, "{}  {what}", listed.name());
    }
    text
}

/// A backup that is sound.
pub fn verified(verified: &Verified, json: bool) -> String {
    if json {
        return told(verified, "verified").to_string();
    }
    format!("{} is whole and can be restored{}", verified.path.display(), remarks(verified))
}

/// A restore that touched nothing.
pub fn drilled(drilled: &Drilled, json: bool) -> String {
    if json {
        let mut told = told(&drilled.verified, "drilled");
        put(&mut told, "callsRead", drilled.calls_read.into());
        put(&mut told, "ledger", json!(drilled.ledger));
        return told.to_string();
    }
    let Report { rows, unchained, unproved, .. } = &drilled.ledger;
    let mut text = format!(
        "{} was restored into scratch and is sound: {} rows, the history answers, the {rows} rows of the ledger are as they were \
         written{}",
        drilled.verified.path.display(),
        drilled.rows,
        remarks(&drilled.verified)
    );
    if *unchained > 0 {
        let _infallible = write!(
            text,
            "; {unchained} of these are older than the chain, so that nothing can be told of them"
        );
    }
    if *unproved > 0 {
        let _infallible = write!(text, "; {unproved} checkpoints could not be proved, for want of their key");
    }
    text
}

/// A backup that was taken out into a folder.
pub fn unpacked(verified: &Verified, into: &Path, json: bool) -> String {
    if json {
        let mut told = told(verified, "restored");
        put(&mut told, "into", shown(into).into());
        return told.to_string();
    }
    format!(
        "{} is restored into {path}{}\nStart a server on it: waygate-mcp --data-dir {path}",
        verified.path.display(),
        remarks(verified),
        path = into.display()
    )
}

/// A backup that has taken the place of what was there.
pub fn restored(restored: &Restored, places: &Places, json: bool) -> String {
    if json {
        let mut told = told(&restored.verified, "restored");
        put(&mut told, "into", shown(&places.data_root).into());
        put(&mut told, "kept", restored.kept.as_deref().map(shown).into());
        put(&mut told, "keptSchema", restored.aside.clone().into());
        put(&mut told, "keys", restored.keys.as_ref().map(|keys| json!(keys)).into());
        return told.to_string();
    }
    let mut text =
        format!("{} is restored{}\n", restored.verified.path.display(), remarks(&restored.verified));
    if let Some(kept) = &restored.kept {
        let _infallible =
            writeln!(text, "What was there is in {}; remove it when you do not need it", kept.display());
    }
    if let Some(schema) = &restored.aside {
        let _infallible = writeln!(
            text,
            "The tables that were there are in the schema {schema}; DROP SCHEMA {schema} CASCADE removes them"
        );
    }
    for line in restored.keys.as_ref().map(keys).unwrap_or_default() {
        let _infallible = writeln!(text, "{line}");
    }
    text + "Start the server: waygate-mcp"
}

/// What a restore would do to keys, for a program that did not say `--yes`.
pub fn foreseen(keys: &Keys, archive: &Path) -> String {
    json!({"path": shown(archive), "status": "asked", "keys": keys}).to_string()
}

/// What a restore does to keys, a line for each thing that there is to say.
pub fn keys(keys: &Keys) -> Vec<String> {
    let mut lines = Vec::new();
    let ended = keys.ended.iter().map(|ended| format!("{}, {}", named(&ended.key), ended.since.word()));
    match (keys.ended.is_empty(), keys.is_revived) {
        (true, _) => {}
        (false, true) => {
            lines.push(format!("Keys that ended since the backup and are taken again: {}", first(ended)));
        }
        (false, false) => lines.push(format!(
            "Keys that ended since the backup and stay so (--revive-keys has them taken again): {}",
            first(ended)
        )),
    }
    if !keys.unknown.is_empty() {
        let why = match keys.against {
            Against::Unreadable => "the database in its place cannot be read",
            Against::Same => {
                "the database in its place has none of them and does not tell that they were deleted"
            }
            Against::Other => "the database in its place is not the one that it was made of",
        };
        lines.push(format!(
            "Keys of the backup that are taken, and whether they were revoked since is not known, because {why} (look through \
             `waygate-mcp keys list`): {}",
            first(keys.unknown.iter().map(named))
        ));
    }
    if !keys.gone.is_empty() {
        let gone = first(keys.gone.iter().map(named));
        lines.push(format!("Keys that were made since the backup and are gone with it: {gone}"));
    }
    lines
}

/// The name quoted: it is anybody's text.
fn named(key: &Named) -> String {
    format!("{} {:?}", key.id, key.name)
}

/// As many as a person reads; `--json` has all.
fn first(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(KEYS_SHOWN);
    let mut text = all.take(KEYS_SHOWN).collect::<Vec<_>>().join("; ");
    if more > 0 {
        let _infallible = write!(text, "; and {more} more");
    }
    text
}

/// Backups that were removed, and those that are left.
pub fn pruned(gone: &[Listed], left: &[Listed], json: bool) -> String {
    let names = |all: &[Listed]| all.iter().map(Listed::name).collect::<Vec<_>>();
    if json {
        return json!({"removed": names(gone), "kept": names(left)}).to_string();
    }
    let list: String = gone.iter().map(|listed| format!("\n  {}", listed.name())).collect();
    format!("{} removed, {} kept{list}", gone.len(), left.len())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn put(told: &mut Value, key: &str, value: Value) {
    if let Some(told) = told.as_object_mut() {
        told.insert(key.to_owned(), value);
    }
}

fn about(path: &Path, manifest: &Manifest) -> Value {
    json!({
        "path": shown(path),
        "madeAt": manifest.made_at,
        "version": manifest.version,
        "format": manifest.format,
        "backend": manifest.backend,
        "rows": manifest.database.rows,
        "heads": manifest.database.heads,
        "migrations": manifest.database.migrations,
        "entries": manifest.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
        "leftOut": manifest.left_out,
        "secrets": manifest.secrets.is_some(),
        "sealedBy": manifest.sealed_by,
    })
}

fn told(verified: &Verified, status: &str) -> Value {
    let mut told = about(&verified.path, &verified.manifest);
    put(&mut told, "status", status.into());
    put(&mut told, "authenticity", verified.authenticity.name().into());
    put(&mut told, "migrated", verified.migrated.clone().into());
    told
}

fn contents(manifest: &Manifest, bytes: u64) -> String {
    let count = |folder: &str| manifest.entries.iter().filter(|entry| entry.name.starts_with(folder)).count();
    let rows: u64 = manifest.database.rows.values().sum();
    let secrets = if manifest.secrets.is_some() { ", the secrets" } else { "" };
    format!(
        "{bytes} bytes: {rows} rows from {}, {} files of the configuration, {} of plugins{secrets}",
        manifest.backend,
        count("config/"),
        count("plugins/")
    )
}

fn left_out(manifest: &Manifest) -> String {
    let line =
        |left: &crate::backup::manifest::LeftOut| format!("  left out: {} ({})\n", left.what, left.why);
    manifest.left_out.iter().map(line).collect()
}

fn remarks(verified: &Verified) -> String {
    let mut text = match verified.authenticity {
        Authenticity::Sealed => "; the seal fits".to_owned(),
        Authenticity::OtherKey => {
            "; it bears the seal of another server's key, which was not checked".to_owned()
        }
        Authenticity::Unsealed => "; it bears no seal, so that changes would not show".to_owned(),
    };
    if !verified.migrated.is_empty() {
        let _infallible =
            write!(text, "; {} migrations brought its database up to date", verified.migrated.len());
    }
    text
}
