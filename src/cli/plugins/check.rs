//! `plugins check`: all that is wrong with a plugin's file, at once. Must not start it.

use std::path::Path;

use serde_json::json;

use super::files::PluginsFolder;
use crate::cli::{Exit, output};
use crate::config::Faults;
use crate::config::plugin::{PluginKind, open_secrets, read_file};

/// Reads the file, or that of the plugin that is called so. 78 means that something is wrong with it.
///
/// # Errors
/// When stdout cannot be written.
pub fn check(which: &str, folder: &PluginsFolder, json: bool) -> anyhow::Result<Exit> {
    let is_path = which.contains('/') || Path::new(which).extension().is_some_and(|end| end == "toml");
    let path = if is_path { Path::new(which).to_owned() } else { folder.file(which) };
    if !is_path && !path.exists() {
        output::say(&format!("waygate-mcp: {}", folder.missing(which)));
        return Ok(Exit::Failure);
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = match read_file(&path, &name) {
        Ok(file) => file,
        Err(faults) => return refuse(&path, &faults, json),
    };
    let kind = if matches!(file.kind, PluginKind::Mcp(_)) { "MCP server" } else { "bundle" };
    let open = open_secrets(&file);
    if json {
        output::print_json(&json!({"valid": true, "name": name, "file": path, "openSecrets": open}))?;
    } else {
        output::print(&format!("{} is valid: the {kind} {name}", path.display()))?;
        for open in open {
            output::say(&format!(
                "note: {open} stands in the file as it is; better is ${{NAME}} or file:/path"
            ));
        }
    }
    Ok(Exit::Ok)
}

/// Tells all that is wrong with a file.
///
/// # Errors
/// When stdout cannot be written.
pub fn refuse(path: &Path, faults: &Faults, json: bool) -> anyhow::Result<Exit> {
    if json {
        let list = faults.iter().map(|fault| json!({"place": fault.place, "message": fault.sentence}));
        output::print_json(&json!({"valid": false, "file": path, "faults": list.collect::<Vec<_>>()}))?;
    } else {
        output::say(&format!(
            "waygate-mcp: {} is not as it should be:\n{}",
            path.display(),
            faults.on_lines().trim_end()
        ));
    }
    Ok(Exit::Configuration)
}
