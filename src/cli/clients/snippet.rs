//! How each client writes a server down, in its own words. Must not know where the words go.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::ClientName;
use crate::config::Secret;

/// Where clients that read variables look for the key; the server's own name for it.
pub const KEY_VARIABLE: &str = "WAYGATE_API_KEY";

/// How the server is reached.
#[derive(Debug)]
pub enum Way {
    /// By URL.
    Http {
        /// Where.
        url: String,
        /// None when the server wants none.
        key: Option<Key>,
    },
    /// By a process that the client starts.
    Stdio {
        /// An absolute path.
        program: String,
        /// Of this process.
        arguments: Vec<String>,
    },
}

/// A key that the server wants.
#[derive(Debug)]
pub enum Key {
    /// The client takes it from elsewhere.
    Hidden,
    /// Written down.
    Shown(Secret),
}

/// A piece of a client's configuration.
#[derive(Debug)]
pub struct Snippet {
    /// In the client's own format.
    pub text: String,
    /// The same as JSON.
    pub data: Value,
    /// A command line that brings about the same, for clients that have one.
    pub command: Option<String>,
}

impl Snippet {
    /// The server `name`, reached in this way, in the words of `client`.
    ///
    /// # Errors
    /// When it cannot be written in the client's format.
    pub fn new(client: ClientName, name: &str, way: &Way) -> anyhow::Result<Self> {
        let data = match client {
            ClientName::ClaudeCode => {
                json!({"mcpServers": {name: typed(way, &format!("${{{KEY_VARIABLE}}}"))}})
            }
            ClientName::ClaudeDesktop => json!({"mcpServers": {name: untyped(way, "")}}),
            ClientName::Cursor => {
                json!({"mcpServers": {name: untyped(way, &format!("${{env:{KEY_VARIABLE}}}"))}})
            }
            ClientName::Vscode => vscode(name, way),
            ClientName::Codex => json!({"mcp_servers": {name: codex(way)}}),
        };
        let text = match client {
            ClientName::Codex => toml::to_string(&data).context("this cannot be written as TOML")?,
            _ => format!("{data:#}\n"),
        };
        let command = (client == ClientName::ClaudeCode).then(|| claude_mcp_add(name, way));
        Ok(Self { text, data, command })
    }
}

/// URL or program without saying which; how the key is named where it is hidden is the client's way.
fn untyped(way: &Way, hidden: &str) -> Value {
    match way {
        Way::Http { url, key: None } => json!({"url": url}),
        Way::Http { url, key: Some(key) } => {
            json!({"url": url, "headers": {"Authorization": bearer(key, hidden)}})
        }
        Way::Stdio { program, arguments } => json!({"command": program, "args": arguments}),
    }
}

/// The same, saying which.
fn typed(way: &Way, hidden: &str) -> Value {
    let kind = match way {
        Way::Http { .. } => "http",
        Way::Stdio { .. } => "stdio",
    };
    let mut entry = serde_json::Map::from_iter([("type".to_owned(), kind.into())]);
    if let Value::Object(rest) = untyped(way, hidden) {
        entry.extend(rest);
    }
    Value::Object(entry)
}

/// VS Code asks its user for what is an input, and keeps the answer safe.
fn vscode(name: &str, way: &Way) -> Value {
    let id = format!("{name}-key");
    let mut data = json!({"servers": {name: typed(way, &format!("${{input:{id}}}"))}});
    if let (Way::Http { key: Some(Key::Hidden), .. }, Some(data)) = (way, data.as_object_mut()) {
        let input =
            json!({"type": "promptString", "id": id, "description": "Waygate API key", "password": true});
        data.insert("inputs".to_owned(), json!([input]));
    }
    data
}

fn codex(way: &Way) -> Value {
    match way {
        Way::Http { url, key: Some(Key::Hidden) } => {
            json!({"url": url, "bearer_token_env_var": KEY_VARIABLE})
        }
        Way::Http { url, key: Some(key) } => {
            json!({"url": url, "http_headers": {"Authorization": bearer(key, "")}})
        }
        _ => untyped(way, ""),
    }
}

fn bearer(key: &Key, hidden: &str) -> String {
    match key {
        Key::Hidden => format!("Bearer {hidden}"),
        Key::Shown(secret) => format!("Bearer {}", secret.expose()),
    }
}

/// `claude mcp add`, whose options come before the name.
fn claude_mcp_add(name: &str, way: &Way) -> String {
    match way {
        Way::Http { url, key } => {
            let header = match key {
                None => String::new(),
                // The shell fills it in.
                Some(key @ Key::Hidden) => {
                    format!(" --header \"Authorization: {}\"", bearer(key, &format!("${KEY_VARIABLE}")))
                }
                Some(key) => format!(" --header {}", quoted(&format!("Authorization: {}", bearer(key, "")))),
            };
            format!("claude mcp add --transport http {name} {}{header}", quoted(url))
        }
        Way::Stdio { program, arguments } => {
            let words: Vec<String> =
                std::iter::once(program).chain(arguments).map(|word| quoted(word)).collect();
            format!("claude mcp add --transport stdio {name} -- {}", words.join(" "))
        }
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    const URL: &str = "http://127.0.0.1:8000/mcp";
    const SECRET: &str = "0123456789abcdef\"$";

    fn http(key: Option<Key>) -> Way {
        Way::Http { url: URL.to_owned(), key }
    }

    fn stdio() -> Way {
        let arguments = ["stdio", "--data-dir", "/srv/it's \"here\""].map(str::to_owned).to_vec();
        Way::Stdio { program: "/opt/way gate/waygate-mcp".to_owned(), arguments }
    }

    /// The snippet as its client reads it: the entry of the server.
    fn entry(client: ClientName, way: &Way) -> (Value, Snippet) {
        let snippet = Snippet::new(client, "house", way).unwrap();
        let (read, servers): (Value, &str) = match client {
            ClientName::Codex => (toml::from_str(&snippet.text).unwrap(), "mcp_servers"),
            ClientName::Vscode => (serde_json::from_str(&snippet.text).unwrap(), "servers"),
            _ => (serde_json::from_str(&snippet.text).unwrap(), "mcpServers"),
        };
        assert_eq!(read, snippet.data, "{client:?}");
        (read[servers]["house"].clone(), snippet)
    }

    #[test]
    fn every_snippet_is_read_by_its_format_and_names_url_or_program() {
        for client in ClientName::value_variants() {
            let (server, _) = entry(*client, &http(None));
            assert_eq!(server["url"], URL, "{client:?}");
            assert!(server.get("headers").is_none() && server.get("bearer_token_env_var").is_none());
            let (server, _) = entry(*client, &stdio());
            assert_eq!(server["command"], "/opt/way gate/waygate-mcp", "{client:?}");
            assert_eq!(server["args"], json!(["stdio", "--data-dir", "/srv/it's \"here\""]));
        }
        for (way, kind) in [(http(None), "http"), (stdio(), "stdio")] {
            for client in [ClientName::ClaudeCode, ClientName::Vscode] {
                assert_eq!(entry(client, &way).0["type"], kind, "{client:?}");
            }
        }
    }

    #[test]
    fn a_key_is_asked_for_in_the_clients_own_way_and_not_shown() {
        let way = http(Some(Key::Hidden));
        let header = |client| entry(client, &way).0["headers"]["Authorization"].clone();
        assert_eq!(header(ClientName::ClaudeCode), "Bearer ${WAYGATE_API_KEY}");
        assert_eq!(header(ClientName::Cursor), "Bearer ${env:WAYGATE_API_KEY}");
        assert_eq!(header(ClientName::Vscode), "Bearer ${input:house-key}");
        let inputs = &entry(ClientName::Vscode, &way).1.data["inputs"];
        assert_eq!((&inputs[0]["id"], &inputs[0]["password"]), (&json!("house-key"), &json!(true)));
        assert_eq!(entry(ClientName::Codex, &way).0["bearer_token_env_var"], KEY_VARIABLE);
    }

    #[test]
    fn a_key_is_written_down_when_that_is_wanted() {
        let way = http(Some(Key::Shown(Secret::new(SECRET))));
        for client in [ClientName::ClaudeCode, ClientName::Cursor, ClientName::Vscode] {
            let (server, snippet) = entry(client, &way);
            assert_eq!(server["headers"]["Authorization"], format!("Bearer {SECRET}"), "{client:?}");
            assert!(snippet.data.get("inputs").is_none());
        }
        let (server, _) = entry(ClientName::Codex, &way);
        assert_eq!(server["http_headers"]["Authorization"], format!("Bearer {SECRET}"));
        assert!(server.get("bearer_token_env_var").is_none());
    }

    #[test]
    fn the_command_line_is_one_that_a_shell_takes_apart_as_meant() {
        let command = |way: &Way| entry(ClientName::ClaudeCode, way).1.command.unwrap();
        assert_eq!(command(&http(None)), format!("claude mcp add --transport http house {URL}"));
        assert!(
            command(&http(Some(Key::Hidden)))
                .ends_with("--header \"Authorization: Bearer $WAYGATE_API_KEY\"")
        );
        let shown = command(&http(Some(Key::Shown(Secret::new(SECRET)))));
        for (line, last) in [
            (command(&stdio()), "/srv/it's \"here\"".to_owned()),
            (shown, format!("Authorization: Bearer {SECRET}")),
        ] {
            let script = format!("claude() {{ for last; do :; done; printf %s \"$last\"; }}; {line}");
            let told = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(told.stdout).unwrap(), last, "{line}");
        }
    }
}
