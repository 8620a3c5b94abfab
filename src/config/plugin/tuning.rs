//! What an operator may say of any plugin, be it an MCP server or one that the program brings: how it is used, and what of it is
//! offered. What is not said stays as it is.
//!
//! Pure. Must not know where a plugin is, nor how its file is read.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{CacheScope, Curation, PluginLimits, Separator, ToolCuration};

/// What was said of a plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tuning {
    /// The bulkhead.
    pub limits: PluginLimits,
    /// Whether names are as the plugin says them, without its own before them.
    pub plain: Option<bool>,
    /// Between the plugin's name and a tool's.
    pub separator: Option<Separator>,
    /// Instead of what the plugin says of itself.
    pub instructions: Option<String>,
    /// Globs over the plugin's own names of tools and prompts; empty where nothing was said.
    pub allow: Vec<String>,
    /// Globs over the same; stronger than `allow`.
    pub deny: Vec<String>,
    /// Whether a tool is hidden unless it is said otherwise.
    pub hidden: Option<bool>,
    /// For whom answers are kept that may be.
    pub cache_scope: Option<CacheScope>,
    /// Whether the plugin is served alone, too, under its own path.
    pub front: Option<bool>,
    /// By the plugin's own name of a tool.
    pub tools: BTreeMap<String, ToolCuration>,
}

impl Tuning {
    /// All that there is to say of a plugin that is offered so.
    pub fn of(limits: PluginLimits, curation: &Curation) -> Self {
        let Curation {
            plain, separator, instructions, allow, deny, hidden, cache_scope, front, tools, ..
        } = curation.clone();
        let (plain, separator, hidden, front) = (Some(plain), Some(separator), Some(hidden), Some(front));
        Self { limits, plain, separator, instructions, allow, deny, hidden, cache_scope, front, tools }
    }

    /// What is offered of a plugin that is offered as `own` says where nothing else was said. What `own` denies or keeps out of the
    /// history stays denied and out of it.
    pub fn over(&self, own: &Curation) -> Curation {
        let mut tools = own.tools.clone();
        for (name, tool) in &self.tools {
            tools.entry(name.clone()).or_default().put_over(tool);
        }
        let allow = if self.allow.is_empty() { &own.allow } else { &self.allow };
        Curation {
            plain: self.plain.unwrap_or(own.plain),
            separator: self.separator.unwrap_or(own.separator),
            uri_prefix: own.uri_prefix.clone(),
            instructions: self.instructions.clone().or_else(|| own.instructions.clone()),
            allow: allow.clone(),
            deny: own.deny.iter().chain(&self.deny).cloned().collect(),
            hidden: self.hidden.unwrap_or(own.hidden),
            cache_scope: self.cache_scope.or(own.cache_scope),
            front: self.front.unwrap_or(own.front),
            tools,
        }
    }
}

impl ToolCuration {
    fn put_over(&mut self, said: &Self) {
        let Self { rename, description, annotations, hidden, timeout, quota, cache, cache_scope, redact } =
            said.clone();
        self.rename = rename.or(self.rename.take());
        self.description = description.or(self.description.take());
        self.annotations = match (self.annotations.take(), annotations) {
            (Some(Value::Object(mut own)), Some(Value::Object(over))) => {
                own.extend(over);
                Some(Value::Object(own))
            }
            (own, over) => over.or(own),
        };
        self.hidden = hidden.or(self.hidden);
        self.timeout = timeout.or(self.timeout);
        self.quota.requests_per_minute = quota.requests_per_minute.or(self.quota.requests_per_minute);
        self.quota.burst = quota.burst.or(self.quota.burst);
        self.quota.concurrent = quota.concurrent.or(self.quota.concurrent);
        self.cache = cache.or(self.cache);
        self.cache_scope = cache_scope.or(self.cache_scope);
        self.redact.extend(redact);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::Quota;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn what_is_said_stands_over_what_the_program_says_and_takes_back_nothing_that_it_denies() {
        let tool = ToolCuration {
            rename: Some("pay".to_owned()),
            annotations: Some(json!({"readOnlyHint": false, "title": "Pay"})),
            timeout: Some(Duration::from_secs(5)),
            quota: Quota { requests_per_minute: Some(60), burst: Some(5), concurrent: None },
            redact: words(&["/card"]),
            ..ToolCuration::default()
        };
        let own = Curation {
            plain: true,
            hidden: true,
            allow: words(&["a*"]),
            deny: words(&["secret"]),
            tools: [("t".to_owned(), tool.clone())].into(),
            ..Curation::default()
        };
        assert_eq!(Tuning::default().over(&own), own, "nothing was said");
        let said = Tuning {
            plain: Some(false),
            front: Some(true),
            allow: words(&["b*"]),
            deny: words(&["b1"]),
            tools: [
                (
                    "t".to_owned(),
                    ToolCuration {
                        annotations: Some(json!({"readOnlyHint": true})),
                        timeout: Some(Duration::from_secs(9)),
                        quota: Quota { concurrent: Some(1), ..Quota::default() },
                        redact: words(&["/name"]),
                        ..ToolCuration::default()
                    },
                ),
                ("u".to_owned(), ToolCuration { hidden: Some(false), ..ToolCuration::default() }),
            ]
            .into(),
            ..Tuning::default()
        };
        let both = said.over(&own);
        assert!(!both.plain && both.hidden && both.front);
        assert_eq!((both.allow, both.deny), (words(&["b*"]), words(&["secret", "b1"])));
        assert_eq!(both.tools["u"].hidden, Some(false));
        let wanted = ToolCuration {
            annotations: Some(json!({"readOnlyHint": true, "title": "Pay"})),
            timeout: Some(Duration::from_secs(9)),
            quota: Quota { requests_per_minute: Some(60), burst: Some(5), concurrent: Some(1) },
            redact: words(&["/card", "/name"]),
            ..tool
        };
        assert_eq!(both.tools["t"], wanted);
    }
}
