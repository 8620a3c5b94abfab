//! What is served at a path, as `server/discover` and `initialize` say it.
//!
//! MCP 2026-07-28, server/discover; MCP 2025-11-25, basic/lifecycle. Must not know which plugin uses what.

use serde_json::{Map, Value, json};

/// What is served, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// Tools can be listed and called.
    pub tools: bool,
    /// Prompts can be listed and had.
    pub prompts: bool,
    /// Resources can be listed and read.
    pub resources: bool,
    /// … and some of them watched.
    pub subscribes: bool,
    /// Arguments of some of what is there are completed.
    pub completes: bool,
    /// Messages for the client's log may come.
    pub logs: bool,
}

impl Offers {
    /// What is there wherever plugins come and go: lists that may be empty now.
    pub const LISTS: Self =
        Self { tools: true, prompts: true, resources: true, subscribes: false, completes: false, logs: true };

    /// This and that.
    pub fn or(self, other: Self) -> Self {
        Self {
            tools: self.tools || other.tools,
            prompts: self.prompts || other.prompts,
            resources: self.resources || other.resources,
            subscribes: self.subscribes || other.subscribes,
            completes: self.completes || other.completes,
            logs: self.logs || other.logs,
        }
    }

    /// As the protocol says it. Every list may change, if only by a reload, and Waygate tells it, whatever the server behind
    /// can tell itself.
    pub fn to_value(self) -> Value {
        let mut resources = json!({"listChanged": true});
        if let (true, Some(members)) = (self.subscribes, resources.as_object_mut()) {
            members.insert("subscribe".to_owned(), true.into());
        }
        let kinds = [
            ("tools", self.tools, json!({"listChanged": true})),
            ("prompts", self.prompts, json!({"listChanged": true})),
            ("resources", self.resources, resources),
            ("completions", self.completes, json!({})),
            ("logging", self.logs, json!({})),
        ];
        let served = kinds.into_iter().filter(|(_, is_served, _)| *is_served);
        Value::Object(served.map(|(kind, _, how)| (kind.to_owned(), how)).collect::<Map<_, _>>())
    }
}
