//! `plugins import`: the servers of an MCP client's file as plugins' files. Must not know how clients write them down.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::files::PluginsFolder;
use crate::cli::running::Running;
use crate::cli::{Exit, output};
use crate::config::did_you_mean;
use crate::config::plugin::{Imported, import as read, render};

pub const EXAMPLES: &str = "\
Examples:
  waygate-mcp plugins import .mcp.json --dry-run
  waygate-mcp plugins import ~/.cursor/mcp.json --only github,everything
  waygate-mcp plugins import ~/Library/Application\\ Support/Claude/claude_desktop_config.json

The file is JSON with mcpServers, as Claude, Cursor and others have it, with servers, as VS Code has it, or a map of
servers alone; - is stdin. Names are made to fit, ${env:NAME} becomes ${NAME}, and what has no counterpart is told.
What cannot be imported is told, too, and the rest is imported all the same; then the exit code is 1, and 73 when the file
cannot be read.
";

const FILE_MAX_BYTES: u64 = 16 << 20;

/// Which file, and what of it.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The client's file, or - for stdin
    file: PathBuf,
    /// Only these servers
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Tell what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Writes the files and has them read.
///
/// # Errors
/// When the client's file holds no servers, stdout cannot be written, or the server answers with an error.
pub fn import(
    args: &ImportArgs,
    running: &Running,
    folder: &PluginsFolder,
    json: bool,
) -> anyhow::Result<Exit> {
    let text = match text_of(args) {
        Ok(text) => text,
        Err(error) => {
            output::say(&format!("waygate-mcp: {} was not read: {error}", args.file.display()));
            return Ok(Exit::CannotCreate);
        }
    };
    let imports = read(&text).map_err(|why| anyhow::anyhow!("{}: {why}", args.file.display()))?;
    let is_wanted = |server: &&Imported| {
        args.only.is_empty() || args.only.iter().any(|name| *name == server.was || *name == server.name)
    };
    for name in &args.only {
        if !imports.servers.iter().any(|server| *name == server.was || *name == server.name) {
            let known = imports.servers.iter().map(|server| server.was.as_str());
            bail!("{} has no server {name}{}", args.file.display(), did_you_mean(name, known));
        }
    }
    let mut warnings = imports.warnings.clone();
    let (mut done, mut refused): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    let mut lines = Vec::new();
    for server in imports.servers.iter().filter(is_wanted) {
        warnings.extend(server.warnings.iter().cloned());
        match take(server, args, folder) {
            Ok(path) => {
                lines.push(format!(
                    "{}{} -> {path}",
                    if args.dry_run { "would import " } else { "imported " },
                    server.was
                ));
                done.push(json!({"was": server.was, "name": server.name, "file": path}));
            }
            Err(why) => refused.push(json!({"was": server.was, "name": server.name, "why": why})),
        }
    }
    for warning in &warnings {
        output::say(&format!("note: {warning}"));
    }
    for one in &refused {
        let member = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
        output::say(&format!("not imported: {}: {}", member("was"), member("why")));
    }
    let names: Vec<&str> = done.iter().filter_map(|one| one.get("name")?.as_str()).collect();
    let (exit, reload) = match args.dry_run || names.is_empty() {
        true => (Exit::Ok, None),
        false => super::reload::after_change(running, &names)?,
    };
    if json {
        output::print_json(&json!({
            "imported": done, "refused": refused, "warnings": warnings, "dryRun": args.dry_run, "reload": reload,
        }))?;
    } else if !lines.is_empty() {
        output::print(&output::for_stdout(&lines.join("\n")))?;
    }
    Ok(if refused.is_empty() { exit } else { Exit::Failure })
}

/// Writes one file, or says where it would be written.
fn take(server: &Imported, args: &ImportArgs, folder: &PluginsFolder) -> Result<String, String> {
    let file = server.outcome.as_ref().map_err(crate::config::Faults::on_one_line)?;
    let path = folder.file(&server.name);
    if args.dry_run {
        return match path.exists() && !args.force {
            true => Err(format!("{} is there already; --force replaces it", path.display())),
            false => Ok(path.display().to_string()),
        };
    }
    let written = folder.write(&server.name, &render(file), args.force);
    written.map(|path| path.display().to_string()).map_err(|error| format!("{error:#}"))
}

fn text_of(args: &ImportArgs) -> std::io::Result<String> {
    let mut text = String::new();
    let source: Box<dyn std::io::Read> = match args.file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(&args.file)?),
    };
    source.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {FILE_MAX_BYTES} bytes")));
    }
    Ok(text)
}
