//! What the `waygate` plugin offers, in words: its tools, resources and the prompt. Must not ask the host anything.

use serde_json::{Value, json};

use super::{LIMIT_DEFAULT, LIMIT_MAX, TOPICS};
use crate::plugins::Inventory;
use crate::protocol::{Definition, Raw, content};

/// The family of diagnostics resources.
pub(super) const TOPIC_TEMPLATE: &str = "waygate://diagnostics/{topic}";

const INSTRUCTIONS: &str = "The tools and waygate:// resources of the plugin `waygate` tell how this server is: begin \
     with `status`, then ask `diagnostics`. Recent errors and the history need the operator's key.";

pub(super) fn inventory() -> Inventory {
    Inventory {
        tools: tools(),
        prompts: vec![
            Definition::prompt(
                "operate",
                "Helps the operator of this server to find out what is wrong with it",
            )
            .argument("symptom", "What was noticed, in the operator's words", false),
        ],
        resources: resources(),
        templates: vec![
            Definition::template(TOPIC_TEMPLATE, "diagnostics")
                .with("description", "Measurements of the running server by topic")
                .with("mimeType", "application/json"),
        ],
        instructions: Some(INSTRUCTIONS.to_owned()),
        completes: true,
        subscribes: false,
        ..Inventory::default()
    }
}

fn tools() -> Vec<Definition> {
    let nothing = || json!({"type": "object", "properties": {}, "additionalProperties": false});
    let rows = || {
        let limit = json!({
            "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT,
            "description": "How many, newest first"
        });
        json!({"type": "object", "properties": {"limit": limit}, "additionalProperties": false})
    };
    let topic = json!({
        "type": "object",
        "properties": {"topic": {"type": "string", "enum": TOPICS, "description": "What to look at"}},
        "required": ["topic"],
        "additionalProperties": false
    });
    vec![
        Definition::tool("status", "Tells whether this server is healthy and ready, and since when it runs", nothing()),
        Definition::tool(
            "diagnostics",
            "Measures this server: performance (CPU, memory, latency per tool), connection (clients, streams, \
             database) or actors (state, restarts, mailboxes)",
            topic,
        ),
        Definition::tool("plugins", "Lists the plugins of this server with their state and tools", nothing()),
        Definition::tool("recent_errors", "Lists the newest errors of this server; for the operator only", rows()),
        Definition::tool("history", "Lists the newest calls that this server recorded; for the operator only", rows()),
    ]
    .into_iter()
    .map(Definition::read_only)
    .collect()
}

fn resources() -> Vec<Definition> {
    let listed = |path: &str, description: &str| {
        Definition::resource(&format!("waygate://{path}"), path)
            .with("description", description)
            .with("mimeType", "application/json")
    };
    let mut resources = vec![
        listed("status", "Whether this server is healthy and ready, and since when it runs"),
        listed("plugins", "The plugins of this server with their state and tools"),
        listed("history", "The newest calls that this server recorded; for the operator only"),
        listed("errors", "The newest errors of this server; for the operator only"),
    ];
    let diagnostics = TOPICS
        .iter()
        .map(|topic| listed(&format!("diagnostics/{topic}"), "Measurements of the running server"));
    resources.extend(diagnostics);
    resources
}

/// The prompt `operate`: what to do, what was noticed, and the status of this moment if it could be had.
pub(super) fn operate(symptom: &str, status: Option<Value>, operator: bool) -> Raw {
    let noticed = match symptom.trim() {
        "" => "The operator named no symptom: look for anything out of the ordinary.".to_owned(),
        symptom => format!("The operator noticed this: {symptom}"),
    };
    let errors = if operator {
        "5. `recent_errors` and `history` show what failed, when and why; look there before you conclude."
    } else {
        "5. `recent_errors` and `history` need the operator's key, which this connection did not show: if you need \
         them, ask the operator to connect with WAYGATE_API_KEY."
    };
    let guide = format!(
        "You help the operator of this Waygate server. {noticed}\n\n\
         Find the cause by looking, not by guessing. The tools of the plugin `waygate` (listed as `waygate__status` \
         and so on) change nothing, so use them freely, in this order:\n\
         1. `status`: which check fails, if any?\n\
         2. `diagnostics` with topic `actors`: did a part crash, restart or fill its mailbox?\n\
         3. `diagnostics` with topic `performance`: which tool is slow, is a queue long, is memory or CPU short?\n\
         4. `diagnostics` with topic `connection` and `plugins`: are clients, the database and every plugin there?\n\
         {errors}\n\n\
         Then say in plain words what is wrong, how you know it, and what the operator should do next. If all is \
         well, say so."
    );
    let seen = match status {
        Some(status) => content::embedded(content::text_contents(
            "waygate://status",
            "application/json",
            status.to_string(),
        )),
        None => content::text("The server could not tell its status just now: that itself is a symptom."),
    };
    content::prompt(
        "An assistant for the operator of this server",
        vec![content::message("user", content::text(guide)), content::message("user", seen)],
    )
}
