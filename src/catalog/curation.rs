//! What of a plugin is offered, and how: the operator's word on names, descriptions, annotations and time.
//!
//! Pure decisions over one plugin. Must not know other plugins, nor what they offer.

use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::caching::Caching;
use super::names;
use crate::config::Quota;
use crate::config::plugin::{Curation, Separator, ToolCuration};
use crate::protocol::{Definition, Object, Raw};

/// Why the answers of a tool are not kept, though they should be.
const NOT_READ_ONLY: &str = "its answers are not kept, although cache_seconds says so, since nothing says that it is read-only; if it \
                             is, write annotations = { readOnlyHint = true } beside";

/// One plugin's curation, its globs compiled.
#[derive(Debug)]
pub struct Curator {
    curation: Arc<Curation>,
    allow: GlobSet,
    deny: GlobSet,
    /// Why nothing is offered: what is to be denied cannot be told.
    malformed: Option<String>,
}

/// Why something of a plugin is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// A glob is none, and what is denied cannot be told.
    Malformed,
    /// `allow` names others.
    NotAllowed,
    /// `deny` names it.
    Denied,
    /// All tools are hidden that nothing else is said of.
    Hidden,
    /// It is said of this tool.
    HiddenItself,
}

impl Curator {
    /// Of this curation. With a malformed glob it offers nothing, since it cannot tell what is denied.
    pub fn new(curation: Arc<Curation>) -> Self {
        let (allow, deny) = (globs(&curation.allow), globs(&curation.deny));
        let malformed = [&allow, &deny].into_iter().find_map(|globs| globs.as_ref().err().cloned());
        Self { allow: allow.unwrap_or_default(), deny: deny.unwrap_or_default(), malformed, curation }
    }

    /// Whether a tool or prompt of this name, the plugin's own, may be offered.
    pub fn allows(&self, local: &str) -> bool {
        self.judge(local).is_ok()
    }

    /// Whether this tool is offered.
    pub fn shows(&self, tool: &str) -> bool {
        self.judge_tool(tool).is_ok()
    }

    /// Whether a tool or prompt of this name may be offered.
    ///
    /// # Errors
    /// Why not.
    fn judge(&self, local: &str) -> Result<(), Withheld> {
        if self.malformed.is_some() {
            return Err(Withheld::Malformed);
        }
        if !self.curation.allow.is_empty() && !self.allow.is_match(local) {
            return Err(Withheld::NotAllowed);
        }
        if self.deny.is_match(local) { Err(Withheld::Denied) } else { Ok(()) }
    }

    /// Whether this tool is offered.
    ///
    /// # Errors
    /// Why not.
    pub fn judge_tool(&self, tool: &str) -> Result<(), Withheld> {
        self.judge(tool)?;
        match self.of(tool).and_then(|tool| tool.hidden) {
            Some(true) => Err(Withheld::HiddenItself),
            None if self.curation.hidden => Err(Withheld::Hidden),
            Some(false) | None => Ok(()),
        }
    }

    /// What the operator said, as it was said.
    pub fn curation(&self) -> &Curation {
        &self.curation
    }

    /// What is wrong with the curation itself.
    pub fn malformed(&self) -> Option<&str> {
        self.malformed.as_deref()
    }

    /// Whether its names stand without its own before them.
    pub fn is_plain(&self) -> bool {
        self.curation.plain
    }

    /// Whether the plugin is served alone, too.
    pub fn has_front(&self) -> bool {
        self.curation.front
    }

    /// What a model should know to use the plugin.
    pub fn instructions<'a>(&'a self, own: Option<&'a String>) -> Option<&'a String> {
        self.curation.instructions.as_ref().or(own)
    }

    /// The published name of something that `plugin` calls `local`.
    pub fn publish(&self, plugin: &str, local: &str) -> String {
        match (self.curation.plain, self.curation.separator) {
            (true, _) => names::plain(plugin, local),
            (false, Separator::Underscores) => names::prefixed(plugin, "__", local),
            (false, Separator::Dot) => names::prefixed(plugin, ".", local),
        }
    }

    /// What a tool is called where its plugin is alone.
    pub fn name_alone<'a>(&'a self, tool: &'a str) -> &'a str {
        self.of(tool).and_then(|tool| tool.rename.as_deref()).unwrap_or(tool)
    }

    /// Seconds that a call of this tool may take, where they are not those of all the plugin's calls.
    pub fn timeout_seconds(&self, tool: &str) -> Option<u64> {
        self.of(tool)?.timeout.map(whole_seconds)
    }

    /// Tools that have limits of their own, by the plugin's names, and which.
    pub fn quotas(&self) -> impl Iterator<Item = (&String, Quota)> {
        let limited = self.curation.tools.iter().filter(|(_, tool)| !tool.quota.is_empty());
        limited.map(|(local, tool)| (local, tool.quota))
    }

    /// Whether answers of this tool are kept: never those of one that may change something.
    ///
    /// # Errors
    /// A sentence, when the operator wants those of such a tool kept.
    pub fn caching(&self, tool: &str, read_only: bool) -> Result<Caching, &'static str> {
        let own = self.of(tool);
        let (lasts, scope) = own.map_or((None, None), |own| (own.cache, own.cache_scope));
        match (read_only, lasts) {
            (true, _) => Ok(Caching::of(lasts, scope.or(self.curation.cache_scope))),
            (false, Some(lasts)) if !lasts.is_zero() => Err(NOT_READ_ONLY),
            (false, _) => Ok(Caching::never()),
        }
    }

    /// Pointers to what of this tool's arguments is recorded nowhere.
    pub fn redact(&self, tool: &str) -> &[String] {
        self.of(tool).map_or(&[], |tool| &tool.redact)
    }

    /// Whether the contents of the plugin's resources are.
    pub fn caching_of_resources(&self) -> Caching {
        Caching::of(None, self.curation.cache_scope)
    }

    /// The longest of those that the operator gave to single tools; 0 if there is none.
    pub fn longest_timeout_seconds(&self) -> u64 {
        self.curation.tools.values().filter_map(|tool| tool.timeout).map(whole_seconds).max().unwrap_or(0)
    }

    /// The members of a tool's definition as clients see them, but for its name.
    ///
    /// # Errors
    /// A sentence, when annotations are to be put over something that is no object.
    pub fn curate(&self, tool: &str, definition: &Definition) -> Result<Object, String> {
        let mut object = definition.object().clone();
        let Some(curation) = self.of(tool) else { return Ok(object) };
        if let Some(description) = &curation.description {
            object.put("description", description.as_str());
        }
        if let Some(over) = curation.annotations.as_ref().and_then(serde_json::Value::as_object) {
            let own = object.get("annotations").map(Object::open).transpose();
            let own = own.map_err(|error| format!("its annotations are no object: {error}"))?;
            let mut annotations = own.unwrap_or_default();
            for (key, value) in over {
                annotations.set(key, Raw::value(value));
            }
            object.set("annotations", annotations.to_raw());
        }
        Ok(object)
    }

    fn of(&self, tool: &str) -> Option<&ToolCuration> {
        self.curation.tools.get(tool)
    }
}

fn whole_seconds(timeout: Duration) -> u64 {
    timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0)).max(1)
}

/// Compiles globs; `*` stands for anything, slashes too, since names are no paths.
///
/// # Errors
/// A sentence that names the malformed one.
pub fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| format!("{pattern:?} is no glob: {error}"))?);
    }
    set.build().map_err(|error| format!("the globs {patterns:?} cannot be used together: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::plugin::CacheScope;

    fn curator(curation: Curation) -> Curator {
        Curator::new(Arc::new(curation))
    }

    fn globs_of(globs: &[&str]) -> Vec<String> {
        globs.iter().map(|&glob| glob.to_owned()).collect()
    }

    #[test]
    fn deny_is_stronger_than_allow_and_hidden_is_said_of_all_or_of_one() {
        let all = curator(Curation::default());
        assert!(all.shows("anything/at all") && all.allows("x"));
        let mut curation =
            Curation { allow: globs_of(&["read_*"]), deny: globs_of(&["*secret*"]), ..Curation::default() };
        let some = curator(curation.clone());
        assert!(some.shows("read_file") && !some.shows("write_file") && !some.shows("read_secret/file"));
        curation.hidden = true;
        curation
            .tools
            .insert("read_one".to_owned(), ToolCuration { hidden: Some(false), ..ToolCuration::default() });
        curation.tools.insert(
            "read_secret".to_owned(),
            ToolCuration { hidden: Some(false), ..ToolCuration::default() },
        );
        let few = curator(curation);
        assert!(few.shows("read_one") && !few.shows("read_file") && few.allows("read_file"));
        assert!(!few.shows("read_secret"), "what is denied stays denied");
        let why =
            ["write_file", "read_secret", "read_file", "read_one"].map(|tool| few.judge_tool(tool).err());
        assert_eq!(why, [Some(Withheld::NotAllowed), Some(Withheld::Denied), Some(Withheld::Hidden), None]);
    }

    #[test]
    fn nothing_is_offered_where_it_cannot_be_told_what_is_denied() {
        let curator = curator(Curation { deny: globs_of(&["[a"]), ..Curation::default() });
        assert!(!curator.allows("x") && curator.malformed().is_some_and(|why| why.contains("[a")));
    }

    #[test]
    fn an_override_changes_what_it_names_and_leaves_every_other_byte() {
        let raw =
            r#"{"name":"t","x":1.50,"annotations":{"title":"T","readOnlyHint":false},"description":"old"}"#;
        let definition = Definition::open(&Raw::trusted(raw)).unwrap();
        let tool = ToolCuration {
            rename: Some("better".to_owned()),
            description: Some("new".to_owned()),
            annotations: Some(json!({"readOnlyHint": true})),
            timeout: Some(Duration::from_millis(1500)),
            ..ToolCuration::default()
        };
        let curator = curator(Curation { tools: [("t".to_owned(), tool)].into(), ..Curation::default() });
        let wanted =
            r#"{"name":"t","x":1.50,"annotations":{"title":"T","readOnlyHint":true},"description":"new"}"#;
        assert_eq!(curator.curate("t", &definition).unwrap().to_raw().as_str(), wanted);
        assert_eq!(curator.curate("u", &definition).unwrap().to_raw().as_str(), raw);
        assert_eq!((curator.name_alone("t"), curator.name_alone("u")), ("better", "u"));
        assert_eq!((curator.timeout_seconds("t"), curator.timeout_seconds("u")), (Some(2), None));
    }

    #[test]
    fn answers_of_a_tool_are_kept_only_if_it_is_read_only() {
        let minute = Duration::from_secs(60);
        let tool = |cache, cache_scope| ToolCuration { cache, cache_scope, ..ToolCuration::default() };
        let tools = [
            ("kept".to_owned(), tool(Some(minute), None)),
            ("never".to_owned(), tool(Some(Duration::ZERO), None)),
            ("private".to_owned(), tool(None, Some(CacheScope::Private))),
        ];
        let cache_scope = Some(CacheScope::Public);
        let curator = curator(Curation { tools: tools.into(), cache_scope, ..Curation::default() });
        let kept = curator.caching("kept", true).unwrap();
        assert_eq!((kept.lasts(None), kept.scope()), (Some(minute), cache_scope));
        assert!(curator.caching("kept", false).is_err_and(|why| why.contains("readOnlyHint")));
        assert!(!curator.caching("never", true).unwrap().heeds());
        assert!(!curator.caching("other", false).unwrap().heeds());
        assert!(curator.caching("never", false).is_ok());
        assert_eq!(curator.caching("private", true).unwrap().scope(), Some(CacheScope::Private));
        assert_eq!(curator.caching_of_resources().scope(), cache_scope);
    }

    #[test]
    fn names_are_prefixed_by_two_underscores_a_dot_or_nothing() {
        let name = |plain, separator| {
            curator(Curation { plain, separator, ..Curation::default() }).publish("p", "t")
        };
        assert_eq!(name(false, Separator::Underscores), "p__t");
        assert_eq!(name(false, Separator::Dot), "p.t");
        assert_eq!(name(true, Separator::Dot), "t");
    }
}
