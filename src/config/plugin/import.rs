//! The servers of an MCP client's JSON as plugins' files: `mcpServers` as most have it, `servers` as VS Code has it, or a
//! bare map. Must not write anything, or look at the variables that are named.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::fields::FileKind;
use super::read::Said;
use super::{BUILT_INS, Credential, NAME_CHARACTERS_MAX, PluginFile, PluginKind, Reach, credential, json};
use crate::config::faults::Faults;
use crate::config::values::Value as Plain;

/// What a client's file holds.
#[derive(Debug, Default)]
pub struct Imports {
    /// Its servers, in its order.
    pub servers: Vec<Imported>,
    /// What else the operator should know.
    pub warnings: Vec<String>,
}

/// One server.
#[derive(Debug)]
pub struct Imported {
    /// What it is called there.
    pub was: String,
    /// What the plugin is called.
    pub name: String,
    /// The plugin, or all that is in its way.
    pub outcome: Result<PluginFile, Faults>,
    /// What the operator should know of it.
    pub warnings: Vec<String>,
}

/// Reads a client's file.
///
/// # Errors
/// When it holds no servers at all.
pub fn import(text: &str) -> Result<Imports, String> {
    let (servers, warnings) = servers(json::object(text)?)?;
    let mut names: HashMap<String, String> = HashMap::new();
    let mut imports = Imports { servers: Vec::new(), warnings };
    for (was, entry) in &servers {
        let name = fitting(was);
        let mut imported = one(was, &name, entry);
        if let Some(first) = names.insert(name.clone(), was.clone()) {
            let mut faults = Faults::default();
            faults.add(was, format!("it becomes {name}, as {first} does; rename one of the two"));
            imported.outcome = Err(faults);
            names.insert(name, first);
        }
        imports.servers.push(imported);
    }
    Ok(imports)
}

const OTHERS_SHOWN_MAX: usize = 6;

/// The map of servers, wherever it stands; what stands beside it is told.
fn servers(mut document: Map<String, Json>) -> Result<(Map<String, Json>, Vec<String>), String> {
    const PLACES: [&str; 3] = ["mcpServers", "servers", "context_servers"];
    if let Some(Json::Object(inner)) = document.get("mcp")
        && PLACES.iter().any(|place| inner.contains_key(*place))
    {
        document = inner.clone();
    }
    for place in PLACES {
        match document.remove(place) {
            Some(Json::Object(servers)) if servers.is_empty() => return Err(format!("its {place} is empty")),
            Some(Json::Object(servers)) => return Ok((servers, others(&document))),
            Some(_) => return Err(format!("its {place} is no object")),
            None => {}
        }
    }
    let is_server =
        |entry: &Json| ["command", "url", "httpUrl", "serverUrl"].iter().any(|key| entry.get(key).is_some());
    if is_server(&Json::Object(document.clone())) && !document.values().any(is_server) {
        return Err(
            "it is one server without a name; write {\"mcpServers\": {\"NAME\": {…}}} around it".to_owned()
        );
    }
    if document.is_empty() || !document.values().all(is_server) {
        return Err(
            "it has no mcpServers, as Claude and Cursor have them, and no servers, as VS Code has them"
                .to_owned(),
        );
    }
    Ok((document, Vec::new()))
}

fn others(document: &Map<String, Json>) -> Vec<String> {
    let names: Vec<&str> =
        document.keys().map(String::as_str).filter(|name| !matches!(*name, "inputs" | "$schema")).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let shown: Vec<&str> = names.iter().take(OTHERS_SHOWN_MAX).copied().collect();
    let more = if names.len() > shown.len() {
        format!(" and {} more", names.len() - shown.len())
    } else {
        String::new()
    };
    vec![format!("the file's {}{more} were not looked at", shown.join(", "))]
}

/// A name that a plugin can have, always the same for the same name.
fn fitting(was: &str) -> String {
    let mut name = String::new();
    for char in was.to_lowercase().chars() {
        match char {
            'a'..='z' | '0'..='9' | '_' => name.push(char),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_start_matches(['_', '-']);
    let name = name.get(..NAME_CHARACTERS_MAX).unwrap_or(name).trim_end_matches('-');
    match name {
        "" => "server".to_owned(),
        // Those names are taken.
        _ if BUILT_INS.contains(&name) => format!("{name}-mcp"),
        _ => name.to_owned(),
    }
}

fn one(was: &str, name: &str, entry: &Json) -> Imported {
    let mut reader = Reader { was, said: Said::new(name, was), warnings: Vec::new() };
    match entry {
        Json::Object(members) => members.iter().for_each(|(key, value)| reader.member(key, value)),
        _ => reader.said.faults.add(was, "it is no object, as {\"command\": \"npx\"}"),
    }
    if name != was {
        reader.warnings.push(format!("{was} is called {name} here"));
    }
    let Reader { said, mut warnings, .. } = reader;
    let outcome = said.finish();
    if let Ok(file) = &outcome {
        warnings.extend(open_secrets(file).into_iter().map(|open| {
            format!("{was}: {open} stands in the file as it is; better is ${{NAME}}, with NAME set where Waygate starts, or file:/path")
        }));
    }
    Imported { was: was.to_owned(), name: name.to_owned(), outcome, warnings }
}

/// Names of variables and headers that look secret and stand in the file themselves.
pub fn open_secrets(file: &PluginFile) -> Vec<String> {
    const TELLTALES: [&str; 9] =
        ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "AUTH", "CREDENTIAL", "COOKIE", "PAT"];
    let PluginKind::Mcp(server) = &file.kind else { return Vec::new() };
    let (table, all) = match &server.reach {
        Reach::Http(reach) => ("headers", &reach.headers),
        Reach::Stdio(reach) => ("env", &reach.env),
    };
    let is_secret = |name: &str| {
        let words = name.to_ascii_uppercase();
        let mut words = words.split(['_', '-', '.']);
        words
            .any(|word| TELLTALES.iter().any(|telltale| word.ends_with(telltale) || word.starts_with("AUTH")))
    };
    let open = all.iter().filter(|(name, credential)| is_secret(name) && credential.is_literal());
    open.map(|(name, _)| format!("{table}.{name}")).collect()
}

struct Reader<'a> {
    was: &'a str,
    said: Said,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn member(&mut self, key: &str, value: &Json) {
        let place = format!("{}.{key}", self.was);
        match (key, value) {
            ("command" | "cwd", Json::String(text)) => self.unexpanded(key, text, place),
            ("url" | "serverUrl", Json::String(text)) => self.unexpanded("url", text, place),
            ("httpUrl", Json::String(text)) => {
                self.unexpanded("url", text, place.clone());
                self.transport("http", place);
            }
            ("args", Json::Array(items)) => self.args(items, place),
            ("env", Json::Object(members)) => self.credentials("env.*", members, &place),
            ("headers", Json::Object(members)) => self.credentials("headers.*", members, &place),
            ("type" | "transport", Json::String(kind)) => self.transport(kind, place),
            ("disabled", Json::Bool(disabled)) => {
                self.said.say("enabled", "", Plain::Truth(!disabled), place)
            }
            ("enabled", Json::Bool(enabled)) => self.said.say("enabled", "", Plain::Truth(*enabled), place),
            (_, Json::Null) => {}
            ("command" | "cwd" | "url" | "serverUrl" | "httpUrl" | "type" | "transport", _) => {
                self.said.faults.add(place, "it takes a text");
            }
            ("args", _) => self.said.faults.add(place, "it takes a list of texts"),
            ("env" | "headers", _) => self.said.faults.add(place, "it takes an object of texts"),
            ("disabled" | "enabled", _) => self.said.faults.add(place, "it takes true or false"),
            _ => self.foreign(key, &place),
        }
    }

    /// What has no counterpart, or one that must be chosen.
    fn foreign(&mut self, key: &str, place: &str) {
        let advice = match key {
            "timeout" => "; clients count it in different units: say timeout_seconds in the plugin's file",
            "envFile" => {
                "; write its variables into env, or set them where Waygate starts and say inherit_env"
            }
            "autoApprove" | "alwaysAllow" | "trust" => "; who may call what is the client's to ask",
            "disabledTools" | "excludeTools" => "; say deny in the plugin's file",
            "includeTools" | "tools" => "; say allow in the plugin's file",
            "oauth" | "auth" | "authProviderType" => "; say headers in the plugin's file",
            _ => "",
        };
        self.warnings.push(format!("{place} was not taken over{advice}"));
    }

    /// Says a text in which nothing is put in place of a variable.
    fn unexpanded(&mut self, key: &str, text: &str, place: String) {
        if key != "url" && text.contains("${") {
            self.said.faults.add(place, "it has ${…}, and here nothing is put into it; write it out");
        } else {
            self.said.say(key, "", Plain::Text(text.to_owned()), place);
            return;
        }
        self.said.broken.extend(super::fields::by_key(key, FileKind::Mcp).map(|field| field.key));
    }

    fn args(&mut self, items: &[Json], place: String) {
        let mut words = Vec::new();
        for item in items {
            match item {
                Json::String(text) if text.contains("${") => {
                    let sentence = "it has ${…}, and nothing is put into arguments; write them out, or give secrets through env";
                    self.said.faults.add(&place, sentence);
                }
                Json::String(text) => words.push(text.clone()),
                Json::Number(number) => words.push(number.to_string()),
                Json::Bool(truth) => words.push(truth.to_string()),
                _ => self.said.faults.add(&place, "it takes a list of texts"),
            }
        }
        self.said.say("args", "", Plain::List(words), place);
    }

    fn transport(&mut self, kind: &str, place: String) {
        let kind = match kind.to_ascii_lowercase().as_str() {
            // `command` says it.
            "stdio" | "local" => "stdio",
            "http" | "streamable-http" | "streamablehttp" | "streamable_http" => "http",
            "sse" => "sse",
            "remote" => "auto",
            _ => {
                let sentence =
                    format!("Waygate speaks no {kind:?}; it takes stdio, http, streamable-http or sse");
                self.said.faults.add(place, sentence);
                return;
            }
        };
        if self.said.find("transport").is_none() {
            self.said.say("transport", "", Plain::Text(kind.to_owned()), place);
        }
    }

    fn credentials(&mut self, key: &str, members: &Map<String, Json>, place: &str) {
        for (name, value) in members {
            let place = format!("{place}.{name}");
            let text = match value {
                Json::String(text) => translate(text),
                Json::Number(number) => Ok(number.to_string()),
                Json::Bool(truth) => Ok(truth.to_string()),
                Json::Null => continue,
                _ => Err("it takes a text".to_owned()),
            };
            match text {
                Ok(text) => self.said.say(key, name, Plain::Text(text), place),
                Err(sentence) => self.said.faults.add(place, sentence),
            }
        }
    }
}

/// Names that editors put paths of their own for.
const EDITORS: [&str; 9] = [
    "workspaceFolder",
    "workspaceFolderBasename",
    "workspaceRoot",
    "userHome",
    "file",
    "fileDirname",
    "cwd",
    "pathSeparator",
    "lineNumber",
];

/// A credential as clients write it, as plugins' files write it. Its text is not repeated, but for names.
fn translate(text: &str) -> Result<String, String> {
    if text.starts_with("env:") || text.starts_with("file:") {
        return Err("it begins as a reference of Waygate's does; set it as a variable where Waygate starts, and write \
                    ${NAME}"
            .to_owned());
    }
    let mut translated = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else { break };
        let variable = name.strip_prefix("env:").unwrap_or(name);
        if let Some(input) = name.strip_prefix("input:") {
            return Err(format!(
                "VS Code asks its user for {input:?}, and Waygate has nobody to ask; write ${{NAME}}, and set NAME where \
                 Waygate starts, or file:/path"
            ));
        }
        if let Some((variable, _)) =
            variable.split_once(":-").filter(|(name, _)| credential::is_variable(name))
        {
            return Err(format!(
                "it has ${{{variable}:-…}}, and Waygate knows no value in place of a variable; write ${{{variable}}} and set \
                 it where Waygate starts, or write the value"
            ));
        }
        if EDITORS.contains(&variable) {
            return Err(format!("it has ${{{variable}}}, which only an editor knows; write it out"));
        }
        translated.push_str(before);
        translated.push_str(&format!("${{{variable}}}"));
        rest = behind;
    }
    translated.push_str(rest);
    Credential(translated.clone()).pieces().map(|_| translated).map_err(|why| format!("it {why}"))
}
