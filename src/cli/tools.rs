//! `tools list | call`: the tools of a running server, as a client sees them. Must not know HTTP.

pub(super) mod arguments;

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::remote::{Ask, Client, ClientError};
use super::{Exit, output};
use crate::config::{Loaded, did_you_mean};

const CALL_EXAMPLES: &str = "\
Examples:
  waygate-mcp tools call files__list_directory
  waygate-mcp tools call files__read_file --arg path=files/notes.txt
  waygate-mcp tools call files__search_files --arguments '{\"pattern\": \"hello\"}' --json
  waygate-mcp tools call echo --arg message=hello --url http://127.0.0.1:9000/mcp

The value of --arg is read as the tool's schema says: a string as it is, anything else as JSON.
The result goes to stdout, progress and log messages go to stderr; a tool that fails ends with exit code 1.
";

/// What can be done with tools.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List all tools
    List {
        /// Ask this server instead of the one that runs on the data folder, or at the configured address
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Call one tool
    #[command(after_help = CALL_EXAMPLES)]
    Call {
        /// Its name, as listed
        name: String,
        /// One argument; may be given again
        #[arg(long = "arg", value_name = "KEY=VALUE")]
        args: Vec<String>,
        /// All arguments, as a JSON object
        #[arg(long, value_name = "JSON", conflicts_with = "args")]
        arguments: Option<String>,
        /// Ask this server instead of the one that runs on the data folder, or at the configured address
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
}

/// Does it.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(command: Command, loaded: &Loaded, json: bool) -> anyhow::Result<ExitCode> {
    let url = match &command {
        Command::List { url } | Command::Call { url, .. } => url.as_deref(),
    };
    let client = match Client::of(&loaded.config, url) {
        Ok(client) => client,
        Err(error) => {
            output::say(&format!("waygate-mcp: {error}"));
            return Ok(error.exit().into());
        }
    };
    let done = match command {
        Command::List { .. } => list(&client, json),
        Command::Call { name, args, arguments, .. } => {
            call(&client, &name, &args, arguments.as_deref(), json)
        }
    };
    done.map(ExitCode::from).or_else(|error| match error.downcast::<ClientError>() {
        Ok(error) => {
            output::say(&format!("waygate-mcp: {error}"));
            Ok(error.exit().into())
        }
        Err(other) => Err(other),
    })
}

fn list(client: &Client, json: bool) -> anyhow::Result<Exit> {
    let tools = client.tools()?;
    if json {
        output::print_json(&json!({ "tools": tools }))?;
    } else if tools.is_empty() {
        output::say("the server offers no tools");
    } else {
        output::print(&output::for_stdout(&table(&tools)))?;
    }
    Ok(Exit::Ok)
}

/// A line a tool: its name, its arguments (those it must have first), the first sentence of its description.
fn table(tools: &[Value]) -> String {
    let mut text = String::new();
    for tool in tools {
        let member = |key: &str| tool.get(key).and_then(Value::as_str).unwrap_or_default();
        let about = if member("description").is_empty() { member("title") } else { member("description") };
        let about = about.lines().next().unwrap_or_default();
        let _infallible = write!(text, "{}", member("name"));
        for (name, required) in arguments::names(tool) {
            let _infallible = if required { write!(text, " {name}") } else { write!(text, " [{name}]") };
        }
        let _infallible = write!(text, "\n    {about}\n");
    }
    text
}

fn call(client: &Client, name: &str, args: &[String], all: Option<&str>, json: bool) -> anyhow::Result<Exit> {
    // The list is asked first: it says how to read the arguments and which of them travel in headers too.
    let tools = client.tools()?;
    let names = || tools.iter().filter_map(|tool| tool.get("name")?.as_str());
    let Some(tool) = tools.iter().find(|tool| tool.get("name").and_then(Value::as_str) == Some(name)) else {
        output::say(&format!("waygate-mcp: there is no tool {name}{}", did_you_mean(name, names())));
        return Ok(Exit::Failure);
    };
    let arguments = match all.map_or_else(|| arguments::of_pairs(tool, args), arguments::of_json) {
        Ok(arguments) => arguments,
        Err(sentence) => {
            output::say(&format!("waygate-mcp: {sentence}"));
            return Ok(Exit::Usage);
        }
    };
    let headers = arguments::headers(tool, &arguments);
    let mut params = Map::new();
    params.insert("name".to_owned(), name.into());
    params.insert("arguments".to_owned(), arguments.into());
    let ask = Ask { method: "tools/call", name: Some(name), params, headers, listens: true };
    let result = client.ask(ask, &mut |notice| {
        if let Some(text) = heard(notice) {
            output::say(&text);
        }
    })?;
    if json {
        output::print_json(&result)?;
    }
    if result.get("resultType").and_then(Value::as_str) == Some("input_required") {
        output::say(
            "waygate-mcp: the tool asks for input, which the command line cannot give; use another client",
        );
        return Ok(Exit::Failure);
    }
    if !json {
        output::print(&output::for_stdout(&shown(&result)))?;
    }
    let failed = result.get("isError").and_then(Value::as_bool).unwrap_or_default();
    Ok(if failed { Exit::Failure } else { Exit::Ok })
}

/// A notification as a line for a person.
fn heard(notice: &Value) -> Option<String> {
    let params = notice.get("params")?;
    match notice.get("method")?.as_str()? {
        "notifications/progress" => {
            let total = params.get("total").map(|total| format!("/{total}")).unwrap_or_default();
            let message = params.get("message").and_then(Value::as_str).unwrap_or_default();
            Some(format!("… {}{total} {message}", params.get("progress")?).trim_end().to_owned())
        }
        "notifications/message" => {
            let level = params.get("level").and_then(Value::as_str).unwrap_or_default();
            let logger = params
                .get("logger")
                .and_then(Value::as_str)
                .map(|name| format!("{name}: "))
                .unwrap_or_default();
            Some(format!("{level} {logger}{}", plain(params.get("data")?)))
        }
        _ => None,
    }
}

/// A text without its quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A result as a person reads it.
fn shown(result: &Value) -> String {
    let blocks = result.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    match (blocks, result.get("structuredContent")) {
        ([], Some(structured)) => format!("{structured:#}"),
        _ => blocks.iter().map(shown_block).collect::<Vec<_>>().join("\n"),
    }
}

fn shown_block(block: &Value) -> String {
    let member = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let bytes = |encoded: &str| encoded.len() / 4 * 3;
    match member(block, "type").as_str() {
        "text" => member(block, "text"),
        kind @ ("image" | "audio") => {
            let about = member(block, "mimeType");
            format!("[{kind} {about}, about {} bytes; --json shows it]", bytes(&member(block, "data")))
        }
        "resource_link" => format!("[{} {}]", member(block, "name"), member(block, "uri")),
        "resource" => match block.get("resource") {
            Some(resource) if resource.get("text").is_some() => member(resource, "text"),
            Some(resource) => {
                format!(
                    "[{}, about {} bytes; --json shows it]",
                    member(resource, "uri"),
                    bytes(&member(resource, "blob"))
                )
            }
            None => block.to_string(),
        },
        _ => block.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_texts_as_they_are_and_the_size_of_the_rest() {
        let result = json!({"content": [
            {"type": "text", "text": "hello\nworld"},
            {"type": "image", "mimeType": "image/png", "data": "AAAA"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}},
            {"type": "resource_link", "name": "a", "uri": "file:///a"},
        ]});
        let text = "hello\nworld\n[image image/png, about 3 bytes; --json shows it]\ninside\n[a file:///a]";
        assert_eq!(shown(&result), text);
        assert_eq!(shown(&json!({"content": [], "structuredContent": {"a": 1}})), "{\n  \"a\": 1\n}");
    }

    #[test]
    fn what_happens_meanwhile_becomes_lines() {
        let progress = json!({"method": "notifications/progress", "params": {"progress": 5, "total": 10, "message": "half"}});
        assert_eq!(heard(&progress).as_deref(), Some("… 5/10 half"));
        let log = json!({"method": "notifications/message", "params": {"level": "info", "logger": "x", "data": {"a": 1}}});
        assert_eq!(heard(&log).as_deref(), Some("info x: {\"a\":1}"));
        assert_eq!(heard(&json!({"method": "notifications/other", "params": {}})), None);
    }

    #[test]
    fn the_list_names_arguments_and_says_which_may_be_left_out() {
        let tools = [json!({
            "name": "grep", "description": "Searches.\nMore.",
            "inputSchema": {"type": "object", "properties": {"path": {}, "pattern": {}}, "required": ["pattern"]},
        })];
        assert_eq!(table(&tools), "grep pattern [path]\n    Searches.\n");
    }
}
