//! The method table: what a client may ask for, and the rules that come with each method.
//!
//! MCP 2026-07-28. Must not know how a method is carried out.

/// The revision that is served statelessly.
pub const MODERN: &str = "2026-07-28";

/// Every revision that this server serves, newest first; `server/discover` and -32022 name these.
pub const SERVED: &[&str] = &[MODERN];

/// Which eras of the protocol a server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Eras {
    /// The stateless revision, and those with sessions.
    #[default]
    Both,
    /// The stateless revision alone.
    Modern,
    /// Revisions with sessions alone.
    Legacy,
}

/// A method that a modern client may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Discover,
    ToolsList,
    ToolsCall,
    PromptsList,
    PromptsGet,
    ResourcesList,
    TemplatesList,
    ResourcesRead,
    Complete,
    Listen,
}

/// Which member of `params` the header `Mcp-Name` repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// None; the header is not looked at.
    Not,
    /// `params.name`.
    ByName,
    /// `params.uri`.
    ByUri,
}

/// A row of the table.
struct Row {
    method: Method,
    name: &'static str,
    named: Named,
    /// Whether its result may ask the client for input.
    may_ask: bool,
}

const fn row(method: Method, name: &'static str, named: Named, may_ask: bool) -> Row {
    Row { method, name, named, may_ask }
}

/// In the order of the variants of [`Method`].
const TABLE: [Row; 10] = [
    row(Method::Discover, "server/discover", Named::Not, false),
    row(Method::ToolsList, "tools/list", Named::Not, false),
    row(Method::ToolsCall, "tools/call", Named::ByName, true),
    row(Method::PromptsList, "prompts/list", Named::Not, false),
    row(Method::PromptsGet, "prompts/get", Named::ByName, true),
    row(Method::ResourcesList, "resources/list", Named::Not, false),
    row(Method::TemplatesList, "resources/templates/list", Named::Not, false),
    row(Method::ResourcesRead, "resources/read", Named::ByUri, true),
    row(Method::Complete, "completion/complete", Named::Not, false),
    row(Method::Listen, "subscriptions/listen", Named::Not, false),
];

impl Method {
    /// The method of this name.
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.method)
    }

    /// All of them, in the order of the variants.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.method)
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// What `Mcp-Name` repeats.
    pub fn named(self) -> Named {
        self.row().map_or(Named::Not, |row| row.named)
    }

    /// Whether its result may ask the client for input.
    pub fn may_ask(self) -> bool {
        self.row().is_some_and(|row| row.may_ask)
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.get(self as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_stand_in_the_order_of_the_variants() {
        for row in &TABLE {
            assert_eq!(row.method.name(), row.name);
            assert_eq!(Method::parse(row.name), Some(row.method));
        }
        assert_eq!(Method::parse("initialize"), None);
    }
}
