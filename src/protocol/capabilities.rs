//! What this server can do, as `server/discover` and `initialize` say it.
//!
//! MCP 2026-07-28, server/discover; MCP 2025-11-25, basic/lifecycle. Must not know which plugin uses what.

use serde_json::{Value, json};

/// What is served whether or not a plugin uses it now, so that plugins may come and go.
pub fn of_server() -> Value {
    json!({
        "tools": {"listChanged": true},
        "prompts": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true},
        "completions": {},
        "logging": {},
    })
}
