//! The tools of the official conformance suite that need nobody: every kind of content, progress, log, announcements.
//!
//! Must not know streams or sessions: what is said meanwhile goes through the context.

use std::time::Duration;

use serde_json::{Value, json};
use waygate_mcp::plugins::Context;
use waygate_mcp::protocol::content::{self, ToolResult};
use waygate_mcp::protocol::{Definition, LogLevel};

/// A red pixel.
pub const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// A millisecond of silence.
const WAV: &str = "UklGRjQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YRAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Between two steps of the tools that speak while they work.
const STEP: Duration = Duration::from_millis(50);

/// The schema of a tool without arguments.
pub fn no_arguments() -> Value {
    json!({"type": "object", "properties": {}})
}

/// `announced` says how often the list was announced anew: it stands in a description, so that the list really
/// differs then.
pub fn definitions(announced: usize) -> Vec<Definition> {
    let plain = |name: &str, description: &str| Definition::tool(name, description, no_arguments());
    let changing = format!("Announces that the list of tools changed; did so {announced} times");
    vec![
        // First, and callable without arguments: the suite calls the first tool with an empty object.
        plain("test_simple_text", "Answers with text"),
        plain("test_image_content", "Answers with an image"),
        plain("test_audio_content", "Answers with a sound"),
        plain("test_embedded_resource", "Answers with a resource"),
        plain("test_multiple_content_types", "Answers with text, an image and a resource"),
        plain("test_error_handling", "Fails, and says so in its result"),
        plain("test_tool_with_progress", "Reports progress in three steps"),
        plain("test_tool_with_logging", "Says three things to the client's log"),
        plain("test_logging_tool", "Says one thing to the client's log"),
        plain("test_reconnection", "Takes a while, so that a client can lose its connection meanwhile"),
        plain("test_trigger_tool_change", &changing),
        plain("test_trigger_prompt_change", "Announces that the list of prompts changed"),
        plain("test_trigger_resource_update", "Announces that test://watched-resource changed"),
        Definition::tool(
            "json_schema_2020_12_tool",
            "Has a schema with the words of JSON Schema 2020-12",
            schema(),
        ),
        Definition::tool(
            "test_custom_header",
            "Repeats a value that also travels as a header",
            header_schema(),
        ),
    ]
}

/// A schema whose every word must survive the way into `tools/list`.
fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}}
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"}
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false
    })
}

fn header_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"value": {"type": "string", "x-mcp-header": "Value"}},
        "required": ["value"]
    })
}

/// Calls one of [`definitions`]; none when it is not one of them, or one that announces.
pub async fn call(tool: &str, arguments: &Value, context: &Context) -> Option<ToolResult> {
    let result = match tool {
        "test_simple_text" => ToolResult::text("This is a simple text response for testing."),
        "test_image_content" => ToolResult::of(vec![content::image(PNG, "image/png")]),
        "test_audio_content" => ToolResult::of(vec![content::audio(WAV, "audio/wav")]),
        "test_embedded_resource" => {
            let text = "This is an embedded resource content.";
            let resource = content::text_contents("test://embedded-resource", "text/plain", text);
            ToolResult::of(vec![content::embedded(resource)])
        }
        "test_multiple_content_types" => mixed(),
        "test_error_handling" => ToolResult::failed("This tool intentionally returns an error for testing"),
        "test_tool_with_progress" => report_progress(context).await,
        "test_tool_with_logging" => log_thrice(context).await,
        "test_logging_tool" => {
            context.log(LogLevel::Info, "conformance", "The logging tool was called");
            ToolResult::text("The tool said one thing to the log, if this request asked for a log.")
        }
        "test_reconnection" => {
            context.quiet_for(STEP);
            tokio::time::sleep(STEP * 4).await;
            ToolResult::text("The tool took a while and is done.")
        }
        "json_schema_2020_12_tool" => ToolResult::text(format!("The arguments fit the schema: {arguments}")),
        "test_custom_header" => {
            let value = arguments.get("value").and_then(Value::as_str).unwrap_or_default();
            ToolResult::text(format!("The value is {value}"))
        }
        _ => return None,
    };
    Some(result)
}

fn mixed() -> ToolResult {
    let data = json!({"test": "data", "value": 123}).to_string();
    let resource = content::text_contents("test://mixed-content-resource", "application/json", data);
    ToolResult::of(vec![
        content::text("Multiple content types test:"),
        content::image(PNG, "image/png"),
        content::embedded(resource),
    ])
}

async fn report_progress(context: &Context) -> ToolResult {
    for step in [0.0, 50.0, 100.0] {
        context.progress(step, Some(100.0), Some(&format!("Completed step {step} of 100")));
        tokio::time::sleep(STEP).await;
    }
    ToolResult::text("The tool reported its progress and is done.")
}

async fn log_thrice(context: &Context) -> ToolResult {
    for said in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        context.log(LogLevel::Info, "conformance", said);
        tokio::time::sleep(STEP).await;
    }
    ToolResult::text("The tool said three things to the log and is done.")
}
