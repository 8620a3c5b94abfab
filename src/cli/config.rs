//! `config show | check | schema`: what holds, where it comes from, and what is wrong. Reads what `serve` would read.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::{Exit, output};
use crate::config::{Faults, Flags, Loaded, Shown, Sources, find_data_root, generated, load};

/// What can be done with the configuration.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Command {
    /// Show every setting with its value and where that comes from; secrets are masked
    Show,
    /// Report everything that is wrong, each with its place; exit code 78 when something is
    Check,
    /// Print the JSON Schema of default.toml, for editors
    Schema,
}

/// Does it.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(command: Command, flags: Flags, json: bool) -> anyhow::Result<ExitCode> {
    if matches!(command, Command::Schema) {
        output::print_json(&generated::schema())?;
        return Ok(Exit::Ok.into());
    }
    let sources = Sources::of_process(flags, true);
    let loaded = match load(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults, find_data_root(&sources).as_deref(), json),
    };
    let files: Vec<String> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    match (command, json) {
        (Command::Show, true) => output::print_json(&json!({
            "settings": loaded.settings.iter().map(to_json).collect::<Vec<_>>(), "files": files, "notes": loaded.notes,
        }))?,
        (Command::Show, false) => output::print(&to_text(&loaded))?,
        (_, true) => output::print_json(&json!({"valid": true, "files": files, "notes": loaded.notes}))?,
        (_, false) => {
            let read = if files.is_empty() {
                "no file was read".to_owned()
            } else {
                format!("read {}", files.join(", "))
            };
            let notes: String = loaded.notes.iter().map(|note| format!("\n  note: {note}")).collect();
            output::print(&format!("the configuration is valid; {read}{notes}"))?;
        }
    }
    Ok(Exit::Ok.into())
}

/// Where the data are is told all the same: a server may run there.
fn refuse(faults: &Faults, data_root: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let list = faults.iter().map(|fault| json!({"place": fault.place, "message": fault.sentence}));
        let faults: Vec<Json> = list.collect();
        output::print_json(&json!({"valid": false, "faults": faults, "dataRoot": data_root}))?;
    } else {
        output::say(&format!("waygate-mcp: {faults}"));
    }
    Ok(Exit::Configuration.into())
}

fn to_json(shown: &Shown) -> Json {
    json!({
        "key": shown.setting.key,
        "variable": shown.setting.variable,
        "value": shown.value.as_ref().map(crate::config::Value::to_json),
        "layer": shown.origin.as_ref().map(|origin| origin.layer.to_string()),
        "place": shown.origin.as_ref().map(|origin| origin.place.clone()).filter(|place| !place.is_empty()),
    })
}

/// Valid TOML, with each value's origin behind it.
fn to_text(loaded: &Loaded) -> String {
    const COLUMN: usize = 44;
    let mut text = String::new();
    let mut section = "";
    for Shown { setting, value, origin } in &loaded.settings {
        if setting.section() != section {
            section = setting.section();
            let gap = if text.is_empty() { "" } else { "\n" };
            let _infallible = writeln!(text, "{gap}[{section}]");
        }
        let (line, from) = match (value, origin) {
            (Some(value), Some(origin)) => {
                let from = format!("{} {}", origin.layer, origin.place);
                (format!("{} = {}", setting.name(), value.to_toml()), from)
            }
            _ => (format!("# {} is not set", setting.name()), String::new()),
        };
        let line = if from.is_empty() { line } else { format!("{line:<COLUMN$} # {}", from.trim_end()) };
        let _infallible = writeln!(text, "{line}");
    }
    text + &loaded.notes.iter().map(|note| format!("\n# note: {note}")).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_toml_with_origins_and_without_secrets() {
        let sources = Sources {
            environment: vec![("WAYGATE_API_KEY".to_owned(), "hunter2".to_owned())],
            home: Some("/home/somebody".into()),
            working_folder: "/nowhere".into(),
            system_folder: "/nowhere".into(),
            flags: Flags { settings: vec![("--port", "9000".to_owned())], ..Flags::default() },
            ..Sources::default()
        };
        let loaded = load(&sources).unwrap();
        let text = to_text(&loaded);
        assert!(!text.contains("hunter2") && text.parse::<toml::Table>().is_ok(), "{text}");
        let squeezed: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "port = 9000 # flag --port",
            "api_key = \"********\" # environment WAYGATE_API_KEY",
            "workers = 4 # default",
            "# url is not set",
        ] {
            assert!(squeezed.iter().any(|shown| shown == line), "{line} in {text}");
        }
        let json = serde_json::to_string(&loaded.settings.iter().map(to_json).collect::<Vec<_>>()).unwrap();
        assert!(
            !json.contains("hunter2") && json.contains("\"layer\":\"flag\",\"place\":\"--port\""),
            "{json}"
        );
    }
}
