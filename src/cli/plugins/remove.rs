//! `plugins remove`: a plugin's file goes, and with it the plugin; a built-in one stays, as the program has it.

use serde_json::json;

use super::files::PluginsFolder;
use crate::cli::running::Running;
use crate::cli::{Exit, output};
use crate::config::plugin::{BUILT_INS, check_name};

/// Removes the file and has that noticed.
///
/// # Errors
/// When the file cannot be removed, or the server answers with an error.
pub fn remove(name: &str, running: &Running, folder: &PluginsFolder, json: bool) -> anyhow::Result<Exit> {
    // A name with slashes would be a file elsewhere.
    let is_built_in = BUILT_INS.contains(&name);
    if let Err(sentence) = check_name(name)
        && !is_built_in
    {
        output::say(&format!("waygate-mcp: {sentence}"));
        return Ok(Exit::Usage);
    }
    if !folder.remove(name)? {
        output::say(&format!("waygate-mcp: {}", folder.missing(name)));
        return Ok(Exit::Failure);
    }
    let path = folder.file(name);
    let (exit, reload) = super::reload::after_change(running, &[name])?;
    if json {
        output::print_json(&json!({"removed": name, "file": path, "reload": reload}))?;
    } else {
        output::print(&format!("{} is removed", path.display()))?;
    }
    Ok(exit)
}
