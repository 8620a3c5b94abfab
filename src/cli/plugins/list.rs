//! `plugins list` and `bundles list`: what the running server has, else what the files say.

use serde_json::{Value, json};

use super::files::PluginsFolder;
use crate::cli::running::Running;
use crate::cli::{Exit, output};
use crate::config::Faults;
use crate::config::plugin::{Isolation, PluginFile, PluginKind, Reach};

/// What is listed or shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All that lies in the folder, and the built-in plugins.
    Plugins,
    /// Bundles only.
    Bundles,
}

impl Wanted {
    /// As it stands in URLs and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plugins => "plugins",
            Self::Bundles => "bundles",
        }
    }
}

/// Lists them.
///
/// # Errors
/// When the server answers with an error, or the folder cannot be read.
pub fn list(wanted: Wanted, running: &Running, folder: &PluginsFolder, json: bool) -> anyhow::Result<Exit> {
    let word = wanted.word();
    if let Some(shown) = running.get(&format!("/{word}"))? {
        let all = shown.get(word).and_then(Value::as_array).cloned().unwrap_or_default();
        let refused = shown.get("refused").and_then(Value::as_array).cloned().unwrap_or_default();
        if json {
            output::print_json(&json!({"running": true, word: all, "refused": refused}))?;
            return Ok(Exit::Ok);
        }
        for one in &refused {
            let says = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            output::say(&output::for_stdout(&format!("not served: {}: {}", says("name"), says("why"))));
        }
        if all.is_empty() {
            output::say(&format!("the running server has no {word}"));
        } else {
            output::print(&output::for_stdout(&table(&of_server(&all))))?;
        }
        return Ok(Exit::Ok);
    }
    let found = folder.read()?;
    let is_wanted = |file: &Result<PluginFile, Faults>| match file {
        Ok(file) => wanted == Wanted::Plugins || matches!(file.kind, PluginKind::Bundle(_)),
        Err(_) => wanted == Wanted::Plugins,
    };
    let files: Vec<_> = found.files.iter().filter(|(_, file)| is_wanted(file)).collect();
    if json {
        let all: Vec<Value> = files.iter().map(|(name, file)| in_json(name, file)).collect();
        output::print_json(&json!({"running": false, word: all, "notes": found.notes}))?;
        return Ok(Exit::Ok);
    }
    if !files.is_empty() {
        let mut lines = vec![["NAME", "KIND", "STATE", "WHERE"].map(str::to_owned).to_vec()];
        lines.extend(files.iter().map(|(name, file)| of_file(name, file)));
        output::print(&output::for_stdout(&table(&lines)))?;
    }
    for note in &found.notes {
        output::say(&format!("note: {note}"));
    }
    output::say(&match files.len() {
        0 => format!("{}, and there are no files of {word}", running.none()),
        _ => format!("not running: {}; these are the files", running.none()),
    });
    Ok(Exit::Ok)
}

/// What every summary of a server may have, and its heading.
const COLUMNS: [(&str, &str); 8] = [
    ("name", "NAME"),
    ("kind", "KIND"),
    ("state", "STATE"),
    ("era", "ERA"),
    ("toolCount", "TOOLS"),
    ("tokens", "TOKENS"),
    ("path", "PATH"),
    // The longest, and so the last.
    ("why", "WHY"),
];

/// Only the columns that something has.
fn of_server(all: &[Value]) -> Vec<Vec<String>> {
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|(key, _)| all.iter().any(|one| one.get(*key).is_some_and(|value| !value.is_null())))
        .collect();
    let mut lines = vec![columns.iter().map(|(_, heading)| (*heading).to_owned()).collect()];
    for one in all {
        let cell = |(key, _): &&(&str, &str)| match one.get(*key) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => "-".to_owned(),
            Some(other) => other.to_string(),
        };
        lines.push(columns.iter().map(cell).collect());
    }
    lines
}

fn of_file(name: &str, file: &Result<PluginFile, Faults>) -> Vec<String> {
    let (kind, state, place) = match file {
        Ok(file) => (kind(file), if file.enabled { "enabled" } else { "disabled" }, place(file)),
        Err(faults) => ("-", "faulty", faults.on_one_line()),
    };
    vec![name.to_owned(), kind.to_owned(), state.to_owned(), place]
}

fn kind(file: &PluginFile) -> &'static str {
    match file.kind {
        PluginKind::Mcp(_) => "mcp",
        PluginKind::Builtin(_) => "builtin",
        PluginKind::Bundle(_) => "bundle",
    }
}

/// Where the server is. A URL's query may hold what nobody should read.
fn place(file: &PluginFile) -> String {
    match &file.kind {
        PluginKind::Bundle(bundle) => {
            bundle.plugins.iter().chain(&bundle.tools).cloned().collect::<Vec<_>>().join(", ")
        }
        PluginKind::Builtin(_) => "the program itself".to_owned(),
        PluginKind::Mcp(server) => match &server.reach {
            Reach::Http(reach) => reach.url.split('?').next().unwrap_or_default().to_owned(),
            Reach::Stdio(reach) => reach.command.clone(),
        },
    }
}

fn in_json(name: &str, file: &Result<PluginFile, Faults>) -> Value {
    let file = match file {
        Ok(file) => file,
        Err(faults) => {
            let faults = faults.iter().map(|fault| json!({"place": fault.place, "message": fault.sentence}));
            return json!({"name": name, "faults": faults.collect::<Vec<_>>()});
        }
    };
    let mut shown = json!({"name": name, "kind": kind(file), "enabled": file.enabled, "where": place(file)});
    if let (PluginKind::Mcp(server), Some(members)) = (&file.kind, shown.as_object_mut()) {
        let (secrets, names) = match &server.reach {
            Reach::Http(reach) => ("headers", &reach.headers),
            Reach::Stdio(reach) => ("env", &reach.env),
        };
        let isolation = if server.isolation == Isolation::Shared { "shared" } else { "per_client" };
        members.insert("isolation".to_owned(), isolation.into());
        members.insert(secrets.to_owned(), names.keys().cloned().collect::<Vec<_>>().into());
    }
    shown
}

/// Columns set off by two spaces, the last as long as it is.
pub fn table(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let mut text = String::new();
    for line in lines {
        let mut written = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = width(column).unwrap_or_default();
            written.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_list_has_the_columns_that_there_are() {
        let all = [
            json!({"name": "files", "kind": "builtin", "tokens": 12}),
            json!({"name": "x", "kind": "mcp", "state": "ready"}),
        ];
        assert_eq!(
            table(&of_server(&all)),
            "NAME   KIND     STATE  TOKENS\nfiles  builtin  -      12\nx      mcp      ready  -\n"
        );
    }
}
