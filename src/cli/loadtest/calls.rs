//! What is asked: of flags, of a file, or of what the server offers, with the headers that go with it. Must not send load.

use std::path::Path;

use serde_json::{Map, Value};

use super::{LoadtestArgs, usage};
use crate::cli::remote::{Client, encode};
use crate::cli::tools::arguments;
use crate::config::{Config, Secret, did_you_mean};
use crate::loadtest::{Call, Entry, Era, PLACEHOLDER, Target, read_mix};

const MIX_MAX_BYTES: u64 = 16 << 20;
/// What is echoed when nobody says how much.
const ECHO_BYTES: usize = 32;

/// The calls that the flags want.
///
/// # Errors
/// When the server does not say what it offers, or does not offer what is asked for.
pub fn of(
    args: &LoadtestArgs,
    config: &Config,
    key: Option<&Secret>,
    target: &Target,
) -> anyhow::Result<Vec<Call>> {
    let mut shown = config.clone();
    shown.access.api_key = key.cloned();
    let client = Client::at_addresses(args.timeout, &shown, target.url(), target.addresses());
    let tools = match (client.tools(), Era::from(args.era)) {
        (Ok(tools), _) => Some(tools),
        // One that speaks with sessions alone is loaded all the same; what it offers shows when it is called.
        (Err(_), Era::Legacy) => None,
        (Err(error), _) => return Err(error.into()),
    };
    let entries = match (&args.mix, &args.tool) {
        (Some(path), _) => of_file(path)?,
        (None, Some(tool)) => vec![of_flags(args, tool, tools.as_deref())?],
        (None, None) => vec![of_offer(args, tools.as_deref())?],
    };
    entries.into_iter().map(|entry| call(entry, tools.as_deref())).collect()
}

fn of_file(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let wrong = |why: &str| usage(&format!("--mix {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| wrong(&error.to_string()))?.len();
    if size > MIX_MAX_BYTES {
        return Err(wrong("it is too large; for large texts write \"{payload}\" and payload_bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let is_json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    read_mix(&text, is_json).map_err(|why| wrong(&why))
}

fn of_flags(args: &LoadtestArgs, tool: &str, tools: Option<&[Value]>) -> anyhow::Result<Entry> {
    let known = tools.and_then(|tools| find(tools, tool)).unwrap_or(&Value::Null);
    let given = args.arguments.as_deref();
    let given = given.map_or_else(|| arguments::of_pairs(known, &args.args), arguments::of_json);
    let given = given.map_err(|why| usage(&why))?;
    Entry::of_tool(tool, given, args.payload_bytes).filled().map_err(|why| usage(&why))
}

/// The tool `echo`, which many servers have for this; else what every server has.
fn of_offer(args: &LoadtestArgs, tools: Option<&[Value]>) -> anyhow::Result<Entry> {
    let echo = tools.unwrap_or_default().iter().filter(|tool| is_echo(tool)).find_map(name_of);
    match echo {
        Some(echo) => {
            let message = (String::from("message"), Value::from(PLACEHOLDER));
            let size = args.payload_bytes.unwrap_or(ECHO_BYTES);
            let entry = Entry::of_tool(echo, Map::from_iter([message]), Some(size));
            entry.filled().map_err(|why| usage(&why))
        }
        None if args.payload_bytes.is_some() => {
            Err(usage("there is no tool `echo` that could take a payload; name one with --tool"))
        }
        None => Ok(Entry::of_method("tools/list")),
    }
}

/// Whether it takes a message and nothing else that it must have.
fn is_echo(tool: &Value) -> bool {
    let is_named = name_of(tool).is_some_and(|name| name == "echo" || name.ends_with("__echo"));
    let names = arguments::names(tool);
    is_named
        && names.iter().any(|(name, _)| *name == "message")
        && names.iter().all(|(name, is_required)| *name == "message" || !is_required)
}

fn name_of(tool: &Value) -> Option<&str> {
    tool.get("name").and_then(Value::as_str)
}

fn find<'a>(tools: &'a [Value], name: &str) -> Option<&'a Value> {
    tools.iter().find(|tool| name_of(tool) == Some(name))
}

fn call(entry: Entry, tools: Option<&[Value]>) -> anyhow::Result<Call> {
    let (label, weight) = (entry.label(), entry.weight);
    let Some(name) = entry.tool else {
        let method = entry.method.unwrap_or_default();
        let named = ["name", "uri"].iter().find_map(|key| entry.params.get(*key).and_then(Value::as_str));
        let is_named = matches!(method.as_str(), "prompts/get" | "resources/read");
        let headers = named.filter(|_| is_named).map(|name| ("Mcp-Name".to_owned(), encode(name)));
        return Ok(Call {
            label,
            method,
            params: entry.params,
            headers: headers.into_iter().collect(),
            weight,
        });
    };
    let mut headers = vec![("Mcp-Name".to_owned(), encode(&name))];
    if let Some(tools) = tools {
        let Some(tool) = find(tools, &name) else {
            let meant = did_you_mean(&name, tools.iter().filter_map(name_of));
            let all = if meant.is_empty() { "; `waygate-mcp tools list` shows what there is" } else { "" };
            return Err(usage(&format!("there is no tool {name}{meant}{all}")));
        };
        headers.extend(arguments::headers(tool, &entry.arguments));
    }
    let params = [("name".to_owned(), name.into()), ("arguments".to_owned(), Value::Object(entry.arguments))];
    Ok(Call { label, method: "tools/call".to_owned(), params: Map::from_iter(params), headers, weight })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_travels_in_headers_too_is_there_and_a_tool_that_is_not_offered_is_refused() {
        let schema =
            json!({"type": "object", "properties": {"city": {"type": "string", "x-mcp-header": "City"}}});
        let tools = [json!({"name": "weather", "inputSchema": schema})];
        let entry =
            |tool: &str| Entry::of_tool(tool, Map::from_iter([("city".to_owned(), json!("Köln"))]), None);
        let made = call(entry("weather"), Some(&tools)).unwrap();
        let headers: Vec<(&str, &str)> =
            made.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(headers, [("Mcp-Name", "weather"), ("Mcp-Param-City", "=?base64?S8O2bG4=?=")]);
        assert!(call(entry("wether"), Some(&tools)).unwrap_err().to_string().contains("weather"));
        assert!(call(entry("wether"), None).is_ok(), "what is not known cannot be missing");
    }

    #[test]
    fn an_echo_takes_a_message_and_needs_nothing_else() {
        let tool = |name: &str, required: &[&str]| json!({"name": name, "inputSchema": {"properties": {"message": {}, "loud": {}}, "required": required}});
        assert!(is_echo(&tool("echo", &["message"])) && is_echo(&tool("load__echo", &[])));
        assert!(!is_echo(&tool("echo", &["loud"])) && !is_echo(&tool("re_echo", &[])));
    }
}
