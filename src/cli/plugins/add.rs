//! `plugins add`: from flags to a plugin's file. The fields' own checks are those of every file.

use clap::Args;
use serde_json::json;

use super::files::PluginsFolder;
use crate::cli::running::Running;
use crate::cli::{Exit, output};
use crate::config::Value;
use crate::config::plugin::{Said, open_secrets, render};

pub const EXAMPLES: &str = "\
Examples:
  waygate-mcp plugins add everything --command npx --arg -y --arg @modelcontextprotocol/server-everything
  waygate-mcp plugins add db --command /opt/db-mcp --env 'DB_PASSWORD=${DB_PASSWORD}' --cwd /srv/db
  waygate-mcp plugins add github --url https://api.githubcopilot.com/mcp/ --header 'Authorization=Bearer ${GITHUB_TOKEN}'
  waygate-mcp plugins add notes --url http://127.0.0.1:9000/sse --transport sse --isolation shared

--env KEY=VALUE sets a variable of the program and may be given again; --env without a `=` is what Waygate runs for.
Secrets are best not typed: '${NAME}' is a variable of Waygate's environment, read when the server is started, and
file:/path is what stands in that file. Quote them, or the shell puts its own values there.
";

/// Which server, and how it is reached.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// What the plugin is called; its tools become NAME__tool
    name: String,
    /// Where the server is, when somebody else runs it
    #[arg(long, value_name = "URL", conflicts_with_all = ["command", "args", "cwd"], required_unless_present = "command")]
    url: Option<String>,
    /// The program that is the server
    #[arg(long, value_name = "PROGRAM", conflicts_with = "headers")]
    command: Option<String>,
    /// A word for the program; may be given again
    #[arg(long = "arg", value_name = "WORD", allow_hyphen_values = true)]
    args: Vec<String>,
    /// The folder that the program works in
    #[arg(long, value_name = "FOLDER")]
    cwd: Option<std::path::PathBuf>,
    /// A header of each request; may be given again
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// How it is spoken to: auto, stdio, http or sse
    #[arg(long, value_name = "TRANSPORT")]
    transport: Option<String>,
    /// Whom a session with it serves: per_client or shared
    #[arg(long, value_name = "ISOLATION")]
    isolation: Option<String>,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
}

/// Writes the file and has it read.
///
/// # Errors
/// When the file cannot be written, or the server answers with an error.
pub fn add(
    args: &AddArgs,
    variables: &[String],
    running: &Running,
    folder: &PluginsFolder,
    json: bool,
) -> anyhow::Result<Exit> {
    let said = match said(args, variables) {
        Ok(said) => said,
        Err(sentence) => {
            output::say(&format!("waygate-mcp: {sentence}"));
            return Ok(Exit::Usage);
        }
    };
    let file = match said.finish() {
        Ok(file) => file,
        Err(faults) => {
            output::say(&format!(
                "waygate-mcp: {} was not added:\n{}",
                args.name,
                faults.on_lines().trim_end()
            ));
            return Ok(Exit::Usage);
        }
    };
    let path = folder.write(&args.name, &render(&file), args.force)?;
    for open in open_secrets(&file) {
        output::say(&format!("note: {open} stands in the file as it is, which only this user can read"));
    }
    let (exit, reload) = super::reload::after_change(running, &[args.name.as_str()])?;
    if json {
        output::print_json(&json!({"added": args.name, "file": path, "reload": reload}))?;
    } else {
        output::print(&format!("{} is written", path.display()))?;
    }
    Ok(exit)
}

fn said(args: &AddArgs, variables: &[String]) -> Result<Said, String> {
    let mut said = Said::new(&args.name, "plugins add");
    let texts = [
        ("url", "--url", &args.url),
        ("command", "--command", &args.command),
        ("transport", "--transport", &args.transport),
        ("isolation", "--isolation", &args.isolation),
    ];
    for (key, flag, text) in texts {
        if let Some(text) = text {
            said.type_in(key, text, flag)?;
        }
    }
    if !args.args.is_empty() {
        said.say("args", "", Value::List(args.args.clone()), "--arg");
    }
    if let Some(cwd) = &args.cwd {
        let cwd = std::path::absolute(cwd)
            .map_err(|error| format!("--cwd cannot be made a whole path: {error}"))?;
        said.say("cwd", "", Value::Text(cwd.to_string_lossy().into_owned()), "--cwd");
    }
    for (key, flag, pairs) in
        [("env.*", "--env", variables), ("headers.*", "--header", args.headers.as_slice())]
    {
        let mut seen = Vec::new();
        for pair in pairs {
            // What has no `=` may be a secret.
            let (name, value) =
                pair.split_once('=').ok_or_else(|| format!("{flag} has no `=`; write {flag} NAME=VALUE"))?;
            if seen.contains(&name) {
                return Err(format!("{flag} {name} stands twice; remove one"));
            }
            seen.push(name);
            said.say(key, name.trim(), Value::Text(value.to_owned()), flag);
        }
    }
    Ok(said)
}
