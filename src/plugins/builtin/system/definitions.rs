//! What the plugin offers, in words and schemas for models. Must not know how anything is done.

use serde_json::{Value, json};

use super::Options;
use crate::plugins::Inventory;
use crate::protocol::Definition;

/// The tool's name.
pub(super) const TOOL: &str = "execute_command";
/// More would not fit into what the system hands to a program.
const ARGUMENTS_MAX: usize = 10_000;

/// The one tool, for these programs.
pub(super) fn inventory(options: &Options) -> Inventory {
    let names: Vec<&str> = options.programs.iter().map(|program| program.name.as_str()).collect();
    let roots: Vec<&str> = options.roots.iter().map(|root| root.name.as_str()).collect();
    let annotations = json!({
        "readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": true,
    });
    let tool = Definition::tool(TOOL, &description(options, &names), input(options, &names, &roots))
        .with("title", "Run a program")
        .with("outputSchema", output())
        .with("annotations", annotations);
    Inventory { tools: vec![tool], ..Inventory::default() }
}

fn description(options: &Options, names: &[&str]) -> String {
    format!(
        "Runs a program and returns its exit code, stdout and stderr. Granted are: {}. There is no shell: each argument \
         reaches the program exactly as given, so pipes, redirections, wildcards, quotes, ~ and $VARIABLES mean nothing. \
         A program that runs longer than {} s is ended, and so is everything that is still running when it ends: \
         nothing can be left in the background. Of output, {} bytes of each stream are returned, the beginning and the \
         end. An exit code other than 0 is reported as an error, with all the output.",
        names.join(", "),
        options.timeout.as_secs(),
        options.output_max_bytes
    )
}

fn input(options: &Options, names: &[&str], roots: &[&str]) -> Value {
    let longest = options.timeout.as_secs();
    json!({
        "type": "object",
        "properties": {
            "program": {"type": "string", "enum": names, "description": "Which program to run."},
            "arguments": {
                "type": "array", "items": {"type": "string"}, "maxItems": ARGUMENTS_MAX, "default": [],
                "description": "Its arguments, one an item, without the program's own name: [\"log\", \"-n\", \"3\"].",
            },
            "stdin": {
                "type": "string",
                "description": "What the program reads from its standard input; without it, there is nothing to read.",
            },
            "working_directory": {
                "type": "string", "maxLength": 4096,
                "description": format!(
                    "The folder that it runs in, as root/folder; roots are: {}. Without it, the first of them.",
                    roots.join(", ")
                ),
            },
            "timeout_seconds": {
                "type": "integer", "minimum": 1, "maximum": longest, "default": longest,
                "description": "How long it may run, in seconds.",
            },
        },
        "required": ["program"],
        "additionalProperties": false,
    })
}

fn output() -> Value {
    let number = json!({"type": "integer", "minimum": 0});
    let stream = |name: &str| {
        json!({
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": format!("What it wrote to {name}; of too much, the beginning and the end.")},
                "bytes": number,
                "lost_bytes": {"type": "integer", "minimum": 0, "description": "How much of it is not in the text."},
            },
            "required": ["text", "bytes", "lost_bytes"],
            "additionalProperties": false,
        })
    };
    json!({
        "type": "object",
        "properties": {
            "exit_code": {"type": ["integer", "null"], "description": "Null where a signal ended it."},
            "signal": {"type": ["string", "null"], "description": "The signal that ended it, as SIGKILL."},
            "timed_out": {"type": "boolean", "description": "Whether it was ended because its time was up."},
            "duration_ms": number,
            "stdout": stream("its standard output"),
            "stderr": stream("its standard error"),
            "notes": {
                "type": "array", "items": {"type": "string"}, "description": "What is not shown as the program wrote it.",
            },
        },
        "required": ["exit_code", "signal", "timed_out", "duration_ms", "stdout", "stderr", "notes"],
        "additionalProperties": false,
    })
}
