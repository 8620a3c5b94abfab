//! `plugins check`: all that is wrong with a plugin's file, at once; else the server is tried, outside of any server of
//! ours, and what clients would see of it is shown. Must not know how it is spoken to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::files::PluginsFolder;
use super::list::table;
use crate::app::Builder;
use crate::app::plugins::builtins::unknown;
use crate::app::plugins::check::{Checked, check_plugin};
use crate::cli::{Exit, output};
use crate::config::plugin::{McpServer, PluginFile, PluginKind, open_secrets, read_file};
use crate::config::{Config, Faults};

pub const EXAMPLES: &str = "\
Examples:
  waygate-mcp plugins check github             the plugin of that name
  waygate-mcp plugins check ./github.toml      a file that is not in the folder yet
  waygate-mcp plugins check github --json

The server is started or connected to, asked what it offers, and left again; no running Waygate notices. A bundle is only
read, and so is what is said of a built-in plugin. The exit code is 78 when the file is not as it should be, 1 when the server does not start, and 0 when it does.
";

/// Characters of a description that are shown.
const DESCRIPTION_MAX: usize = 72;

/// Reads the file, or that of the plugin that is called so, and tries the server that it describes.
///
/// # Errors
/// When stdout cannot be written.
pub fn check(
    which: &str,
    builder: &Builder,
    config: &Config,
    folder: &PluginsFolder,
    json: bool,
) -> anyhow::Result<Exit> {
    let is_path = which.contains('/') || Path::new(which).extension().is_some_and(|end| end == "toml");
    let path = if is_path { PathBuf::from(which) } else { folder.file(which) };
    if !path.exists() {
        let missing =
            if is_path { format!("there is no file {}", path.display()) } else { folder.missing(which) };
        output::say(&format!("waygate-mcp: {missing}"));
        return Ok(Exit::Failure);
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let file = match read_file(&path, &name) {
        Ok(file) => file,
        Err(faults) => return refuse(&path, &faults, json),
    };
    let server = match &file.kind {
        PluginKind::Mcp(server) => server,
        PluginKind::Bundle(_) => return tell_read(&name, "bundle", &path, json),
        PluginKind::Builtin(_) => {
            let mut names = builder.plugin_names(config);
            if names.any(|other| other == name) {
                return tell_read(&name, "builtin", &path, json);
            }
            let mut faults = Faults::default();
            let place = path.file_name().unwrap_or_default().to_string_lossy();
            faults.add(place, unknown(&name, builder.plugin_names(config)));
            return refuse(&path, &faults, json);
        }
    };
    let tried = try_server(builder, config, &name, &path, server)?;
    if json {
        output::print_json(&in_json(&name, &path, &file, &tried)?)?;
    } else {
        tell(&path, &file, &tried)?;
    }
    Ok(if tried.is_ok() { Exit::Ok } else { Exit::Failure })
}

/// Of what is only read.
fn tell_read(name: &str, kind: &str, path: &Path, json: bool) -> anyhow::Result<Exit> {
    if json {
        output::print_json(&json!({"valid": true, "name": name, "kind": kind, "file": path}))?;
    } else {
        let what = if kind == "bundle" { "the bundle" } else { "what is different of the built-in plugin" };
        output::print(&format!("{} is valid: {what} {name}", path.display()))?;
    }
    Ok(Exit::Ok)
}

/// Starts it, looks at it, and stops it; else says why that cannot be.
fn try_server(
    builder: &Builder,
    config: &Config,
    name: &str,
    path: &Path,
    server: &McpServer,
) -> anyhow::Result<Result<Checked, String>> {
    let Some(maker) = builder.maker(config) else {
        return Ok(Err(format!("{} makes no plugins of files", builder.name())));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the plugin cannot be tried: no runtime can be made")?;
    Ok(runtime.block_on(check_plugin(&*maker, name, path, server)))
}

fn in_json(
    name: &str,
    path: &Path,
    file: &PluginFile,
    tried: &Result<Checked, String>,
) -> anyhow::Result<Value> {
    let mut shown = json!({
        "valid": true, "name": name, "kind": "mcp", "file": path, "enabled": file.enabled,
        "openSecrets": open_secrets(file), "starts": tried.is_ok(),
    });
    let more = match tried {
        Ok(checked) => serde_json::to_value(checked)?,
        Err(why) => json!({"why": why}),
    };
    if let (Some(members), Value::Object(more)) = (shown.as_object_mut(), more) {
        members.extend(more);
    }
    Ok(shown)
}

/// Results to stdout, what the operator should mind to stderr.
fn tell(path: &Path, file: &PluginFile, tried: &Result<Checked, String>) -> anyhow::Result<()> {
    match tried {
        Ok(checked) => output::print(&output::for_stdout(&sheet(path, checked)))?,
        Err(why) => output::say(&format!("waygate-mcp: {} is valid, but {why}", path.display())),
    }
    let checked = tried.as_ref().ok();
    let trouble = checked.and_then(|checked| checked.trouble.as_ref());
    let refused = checked.map(|checked| checked.refused.as_slice()).unwrap_or_default();
    for note in trouble.into_iter().chain(refused) {
        output::say(&format!("note: {note}"));
    }
    for open in open_secrets(file) {
        output::say(&format!("note: {open} stands in the file as it is; better is ${{NAME}} or file:/path"));
    }
    if !file.enabled {
        output::say("note: the file says `enabled = false`, so no server of ours starts it");
    }
    Ok(())
}

fn sheet(path: &Path, checked: &Checked) -> String {
    let word = |place: &str| checked.report.pointer(place).and_then(Value::as_str);
    let who: Vec<&str> = ["/server/name", "/server/version"]
        .into_iter()
        .filter_map(word)
        .filter(|text| !text.is_empty())
        .collect();
    let mut lines = vec![
        format!("{} is valid, and the server starts", path.display()),
        format!(
            "{} is {}, speaks {} over {}, and was ready in {} ms",
            checked.name,
            if who.is_empty() { "a server that does not say its name".to_owned() } else { who.join(" ") },
            word("/revision").unwrap_or("MCP"),
            word("/speaker/link/transport").unwrap_or("its transport"),
            checked.ready_ms
        ),
        String::new(),
    ];
    if !checked.tools.is_empty() {
        let mut rows = vec![["TOOL", "TOKENS", "DESCRIPTION"].map(str::to_owned).to_vec()];
        rows.extend(checked.tools.iter().map(|tool| {
            vec![tool.name.clone(), tool.tokens.to_string(), first_line(tool.description.as_deref())]
        }));
        lines.push(table(&rows));
    }
    for (what, names) in [("prompts", &checked.prompts), ("resources", &checked.resources)] {
        if !names.is_empty() {
            lines.push(format!("{what}: {}", names.join(", ")));
        }
    }
    if checked.instructions.is_some() {
        lines.push(format!("instructions: {}", first_line(checked.instructions.as_deref())));
    }
    let count = checked.tools.len();
    lines.push(format!(
        "{count} tool{}, which cost a model {} tokens",
        if count == 1 { "" } else { "s" },
        checked.tokens
    ));
    lines.join("\n")
}

/// The beginning of a text, on one line.
fn first_line(text: Option<&str>) -> String {
    let line = text.unwrap_or_default().trim().lines().next().unwrap_or_default();
    match line.char_indices().nth(DESCRIPTION_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line.to_owned(),
    }
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
