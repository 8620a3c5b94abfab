//! `client <name>`: the piece of configuration that connects an MCP client to this server. The snippet goes to stdout, what
//! to do with it to stderr, so that it can be put into a file as it is. Must not know how a server runs.

mod snippet;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};

use super::remote::is_own;
use super::whereabouts::Whereabouts;
use super::{Exit, output};
use crate::config::{Flags, Loaded, Secret};
use snippet::{Key, Snippet, Way};

/// The clients that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientName {
    ClaudeCode,
    ClaudeDesktop,
    Vscode,
    Cursor,
    Codex,
}

/// How a client reaches a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// A server that runs, by its URL
    Http,
    /// A process that the client starts
    Stdio,
}

/// One client: what it is called, what it can do, where it looks.
struct Client {
    name: ClientName,
    title: &'static str,
    speaks_http: bool,
    /// Where its configuration lies, the most usual place first.
    files: &'static [(&'static str, &'static str)],
    /// What makes it look again.
    then: &'static str,
}

/// THE TABLE of clients; how each writes it down stands in `snippet`.
const CLIENTS: [Client; 5] = [
    Client {
        name: ClientName::ClaudeCode,
        title: "Claude Code",
        speaks_http: true,
        files: &[("one project", ".mcp.json"), ("all of yours", "~/.claude.json")],
        then: "`claude mcp list` shows whether it connects, /mcp does inside of a session",
    },
    Client {
        name: ClientName::ClaudeDesktop,
        title: "Claude Desktop",
        speaks_http: false,
        files: &[
            ("macOS", "~/Library/Application Support/Claude/claude_desktop_config.json"),
            ("Windows", r"%APPDATA%\Claude\claude_desktop_config.json"),
            ("Linux", "~/.config/Claude/claude_desktop_config.json"),
        ],
        then: "quit Claude Desktop and start it again",
    },
    Client {
        name: ClientName::Vscode,
        title: "VS Code",
        speaks_http: true,
        files: &[
            ("one workspace", ".vscode/mcp.json"),
            ("all, Linux", "~/.config/Code/User/mcp.json"),
            ("all, macOS", "~/Library/Application Support/Code/User/mcp.json"),
            ("all, Windows", r"%APPDATA%\Code\User\mcp.json"),
        ],
        then: "`MCP: List Servers` in the command palette starts it",
    },
    Client {
        name: ClientName::Cursor,
        title: "Cursor",
        speaks_http: true,
        files: &[
            ("one project", ".cursor/mcp.json"),
            ("all, Linux and macOS", "~/.cursor/mcp.json"),
            ("all, Windows", r"%USERPROFILE%\.cursor\mcp.json"),
        ],
        then: "the settings show under MCP whether it connects",
    },
    Client {
        name: ClientName::Codex,
        title: "Codex",
        speaks_http: true,
        files: &[
            ("Linux and macOS", "~/.codex/config.toml"),
            ("Windows", r"%USERPROFILE%\.codex\config.toml"),
        ],
        then: "`codex mcp list` shows it, /mcp does inside of a session",
    },
];

const EXAMPLES: &str = "\
Examples:
  waygate-mcp client claude-code
  waygate-mcp client claude-desktop
  waygate-mcp client vscode --url https://tools.example.org/mcp
  waygate-mcp client cursor --transport stdio --data-dir /srv/waygate
  waygate-mcp client codex >>~/.codex/config.toml

The snippet goes to stdout, and what to do with it to stderr. Where a key is configured, the snippet says where the
client shall take it from; only --show-key writes the key itself.
";

/// Which client, and how it shall connect.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ClientArgs {
    /// The client that shall connect
    #[arg(value_enum, value_name = "CLIENT")]
    client: ClientName,
    /// How it connects; http where the client can do that
    #[arg(long, value_enum, value_name = "TRANSPORT")]
    transport: Option<Transport>,
    /// What the server is called in the client
    #[arg(long, value_name = "NAME", default_value = "waygate", value_parser = read_name)]
    name: String,
    /// The URL of the server as the client sees it, in place of where it runs, or else is to run, on this machine
    #[arg(long, value_name = "URL", value_parser = read_url)]
    url: Option<String>,
    /// Write the configured key into the snippet
    #[arg(long)]
    show_key: bool,
}

/// Prints the snippet. In JSON it is bare, whatever the client's own format.
///
/// # Errors
/// When the path of this program or of the data cannot be written down, or stdout cannot be written.
pub fn run(args: &ClientArgs, loaded: &Loaded, typed: &Flags, json: bool) -> anyhow::Result<ExitCode> {
    let client = CLIENTS.iter().find(|client| client.name == args.client);
    let client = client.ok_or_else(|| anyhow!("this client is in no table"))?;
    // One that does not answer now is to be found where the configuration says.
    let here = Whereabouts::of(&loaded.config).unwrap_or_else(|_| Whereabouts::configured(&loaded.config));
    let wished =
        args.transport.unwrap_or(if client.speaks_http { Transport::Http } else { Transport::Stdio });
    let refusal = match wished {
        Transport::Http if !client.speaks_http => Some(format!(
            "{} starts its servers itself and knows no URLs in its file; leave --transport http out",
            client.title
        )),
        Transport::Http if args.url.is_none() && here.url().is_none() => Some(format!(
            "no server runs on {}, and server.port is 0, so that its port is not known; start one, or name it with --url",
            loaded.config.server.data_dir.display()
        )),
        Transport::Http
            if args.show_key
                && loaded.config.access.api_key.is_some()
                && args.url.as_ref().is_some_and(|url| !is_own(url, &loaded.config, here.url())) =>
        {
            Some(
                "the key of this server is not shown to another one; leave --show-key out, or, if that URL is this \
                 server's, set server.public_url to its origin"
                    .to_owned(),
            )
        }
        Transport::Stdio if args.url.is_some() => {
            Some("over stdio there is no URL; leave --url or --transport stdio out".to_owned())
        }
        _ => None,
    };
    if let Some(refusal) = refusal {
        output::say(&format!("waygate-mcp: {refusal}"));
        return Ok(Exit::Usage.into());
    }
    let way = match wished {
        Transport::Http => Way::Http {
            url: args.url.as_deref().or(here.url()).unwrap_or_default().to_owned(),
            key: key_of(loaded.config.access.api_key.as_ref(), args.show_key),
        },
        Transport::Stdio => stdio(&loaded.config.server.data_dir, typed)?,
    };
    let snippet = Snippet::new(args.client, &args.name, &way)?;
    if json {
        output::print_json(&snippet.data)?;
        return Ok(Exit::Ok.into());
    }
    output::say(&guidance(client, &snippet, &way));
    output::print(&snippet.text)?;
    Ok(Exit::Ok.into())
}

/// What to do with a snippet.
fn guidance(client: &Client, snippet: &Snippet, way: &Way) -> String {
    let mut text = String::new();
    if let Some(command) = &snippet.command {
        text += &format!("{} connects with\n  {command}\nor with what follows, merged into\n", client.title);
    } else {
        text += &format!("{} connects with what follows, merged into\n", client.title);
    }
    let width = client.files.iter().map(|(who, _)| who.len()).max().unwrap_or_default();
    for (who, file) in client.files {
        text += &format!("  {who:<width$}  {file}\n");
    }
    match (way, client.name) {
        (Way::Http { key: Some(Key::Shown(_)), .. }, _) => {
            text += "The key itself stands there: let nobody else read the file.\n";
        }
        (Way::Http { key: Some(Key::Hidden), .. }, ClientName::Vscode) => {
            text += "VS Code asks for the key once and keeps it.\n";
        }
        (Way::Http { key: Some(Key::Hidden), .. }, _) => {
            text += &format!(
                "{} takes the key from the variable {}, which has to be set where it starts.\n",
                client.title,
                snippet::KEY_VARIABLE
            );
        }
        _ => {}
    }
    text + &format!("Then {}.\n", client.then)
}

fn key_of(key: Option<&Secret>, is_shown: bool) -> Option<Key> {
    key.map(|key| if is_shown { Key::Shown(key.clone()) } else { Key::Hidden })
}

/// This program on this data folder, with the flags that say where its settings are.
fn stdio(data_dir: &Path, typed: &Flags) -> anyhow::Result<Way> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let mut arguments = vec!["stdio".to_owned(), "--data-dir".to_owned(), text_of(data_dir)?];
    for (flag, value) in typed.settings.iter().filter(|(flag, _)| *flag == "--env") {
        arguments.extend([(*flag).to_owned(), value.clone()]);
    }
    for (flag, path) in [("--config-dir", &typed.config_dir), ("--env-file", &typed.env_file)] {
        if let Some(path) = path {
            arguments.extend([flag.to_owned(), text_of(path)?]);
        }
    }
    Ok(Way::Stdio { program: text_of(&program)?, arguments })
}

/// A path that means the same wherever the client starts the program.
fn text_of(path: &Path) -> anyhow::Result<String> {
    let whole = std::path::absolute(path).with_context(|| path.display().to_string())?;
    whole.into_os_string().into_string().map_err(|path| {
        anyhow!("{} is no Unicode, so no client could be told; use another path", path.to_string_lossy())
    })
}

fn read_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 64 letters, digits, - and _".to_owned())
    }
}

fn read_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace()) => {
            Ok(text.to_owned())
        }
        _ => Err("a URL begins with http:// or https:// and has no white space".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_is_in_the_table_once() {
        for name in ClientName::value_variants() {
            assert_eq!(CLIENTS.iter().filter(|client| client.name == *name).count(), 1, "{name:?}");
        }
    }

    #[test]
    fn names_and_urls_that_no_client_takes_are_refused() {
        assert!(read_name("way-gate_2").is_ok() && read_name(&"a".repeat(64)).is_ok());
        for bad in ["", "a b", "a.b", "a/b", "\u{fc}", &"a".repeat(65)] {
            assert!(read_name(bad).is_err(), "{bad}");
        }
        assert!(read_url("https://tools.example.org/mcp").is_ok());
        for bad in ["", "http://", "ftp://a", "127.0.0.1:8000", "http://a b", "http://a\u{1b}"] {
            assert!(read_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_is_started_by_absolute_paths_and_the_flags_that_were_typed() {
        let typed = Flags {
            settings: vec![("--env", "production".to_owned()), ("--port", "9".to_owned())],
            config_dir: Some("etc".into()),
            env_file: None,
        };
        let Way::Stdio { program, arguments } = stdio(Path::new("/srv/way gate"), &typed).unwrap() else {
            panic!()
        };
        assert!(Path::new(&program).is_absolute());
        assert_eq!(arguments[..5], ["stdio", "--data-dir", "/srv/way gate", "--env", "production"]);
        assert!(arguments[5] == "--config-dir" && Path::new(&arguments[6]).is_absolute(), "{arguments:?}");
        let bad = std::os::unix::ffi::OsStrExt::from_bytes(b"/srv/\xff");
        assert!(stdio(Path::new::<std::ffi::OsStr>(bad), &Flags::default()).is_err());
    }
}
