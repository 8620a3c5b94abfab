//! The prefix that an operator put before a server's URIs: added to what it says, taken off what it is asked.
//!
//! Without a prefix nothing is touched, or looked at. Must not know what a URI leads to.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::plugins::{Change, Inventory, PluginError, Reference, Request};
use crate::protocol::{Definition, Object, Raw};

/// What stands before every URI of one server; may be empty.
#[derive(Debug, Clone, Default)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// This prefix.
    pub fn new(prefix: &str) -> Self {
        Self(prefix.into())
    }

    /// A request in the server's own URIs.
    ///
    /// # Errors
    /// `Unknown` for a URI without the prefix: it is none of this server's.
    pub fn strip(&self, mut request: Request) -> Result<Request, PluginError> {
        if self.0.is_empty() {
            return Ok(request);
        }
        match &mut request {
            Request::Read { uri, .. }
            | Request::Subscribe { uri, .. }
            | Request::Complete { of: Reference::Resource(uri), .. } => {
                let own = uri.strip_prefix(&*self.0).map(str::to_owned);
                *uri = own.ok_or_else(|| PluginError::Unknown(uri.clone()))?;
            }
            Request::Call { .. } | Request::Prompt { .. } | Request::Complete { .. } => {}
        }
        Ok(request)
    }

    /// A change in prefixed URIs.
    pub fn of_change(&self, change: Change) -> Change {
        match change {
            Change::Updated(uri) if !self.0.is_empty() => Change::Updated([&*self.0, &uri].concat()),
            other => other,
        }
    }

    /// An inventory in prefixed URIs.
    pub fn of_inventory(&self, mut inventory: Inventory) -> Inventory {
        if self.0.is_empty() {
            return inventory;
        }
        inventory.tools.iter_mut().for_each(|tool| self.in_definition(tool, Self::in_tool));
        inventory.resources.iter_mut().for_each(|one| self.in_definition(one, |this, it| this.at(it, "uri")));
        let template = |this: &Self, it: &mut Object| this.at(it, "uriTemplate");
        inventory.templates.iter_mut().for_each(|one| self.in_definition(one, template));
        inventory
    }

    /// A result in prefixed URIs: links and embedded resources of tools and prompts, contents of resources.
    pub fn of_result(&self, result: Raw) -> Raw {
        // The word is looked for in the whole text: a false alarm costs the slow way, nothing else.
        if self.0.is_empty() || !(result.as_str().contains("\"uri\"") || result.as_str().contains("\\u")) {
            return result;
        }
        let Ok(mut object) = Object::open(&result) else { return result };
        self.each(&mut object, "content", |this, block| this.in_block(block));
        self.each(&mut object, "contents", |this, contents| this.at(contents, "uri"));
        self.each(&mut object, "messages", |this, message| {
            this.within(message, "content", Self::in_block);
            this.each(message, "content", |this, block| this.in_block(block));
        });
        object.to_raw()
    }

    fn in_definition(&self, definition: &mut Definition, change: impl Fn(&Self, &mut Object)) {
        let mut object = definition.object().clone();
        change(self, &mut object);
        if let Ok(changed) = Definition::open(&object.to_raw()) {
            *definition = changed;
        }
    }

    /// MCP Apps point from a tool to the resource that shows it.
    fn in_tool(&self, tool: &mut Object) {
        self.within(tool, "_meta", |this, meta| {
            this.within(meta, "ui", |this, ui| this.at(ui, "resourceUri"));
            this.at(meta, "ui/resourceUri");
        });
    }

    fn in_block(&self, block: &mut Object) {
        match block.text("type").as_deref() {
            Some("resource_link") => self.at(block, "uri"),
            Some("resource") => self.within(block, "resource", |this, resource| this.at(resource, "uri")),
            _ => {}
        }
    }

    /// Puts the prefix before the text under `key`.
    fn at(&self, object: &mut Object, key: &str) {
        if let Some(uri) = object.text(key) {
            object.put(key, [&*self.0, &uri].concat());
        }
    }

    /// Changes the object under `key`, if there is one.
    fn within(&self, object: &mut Object, key: &str, change: impl Fn(&Self, &mut Object)) {
        let inner = object.get(key).filter(|raw| raw.is_object()).and_then(|raw| Object::open(raw).ok());
        if let Some(mut inner) = inner {
            change(self, &mut inner);
            object.set(key, inner.to_raw());
        }
    }

    /// Changes every object of the list under `key`, if there is one.
    fn each(&self, object: &mut Object, key: &str, change: impl Fn(&Self, &mut Object)) {
        let Some(list) = object.get(key).filter(|raw| raw.as_str().starts_with('[')).cloned() else { return };
        let Ok(items) = list.read::<Vec<&RawValue>>() else { return };
        let changed: Vec<String> = items
            .into_iter()
            .map(|item| match Object::open(&list.part(item)) {
                Ok(mut item) => {
                    change(self, &mut item);
                    item.to_raw().as_str().to_owned()
                }
                Err(_) => item.get().to_owned(),
            })
            .collect();
        object.set(key, Raw::trusted(format!("[{}]", changed.join(","))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_place_that_names_a_resource_gets_the_prefix_and_nothing_else_is_touched() {
        let prefix = Prefix::new("a+");
        let result = json!({"content": [
            {"type": "resource_link", "uri": "x://1", "name": "uri", "size": 12},
            {"type": "resource", "resource": {"uri": "x://2", "text": "x://3"}},
            {"type": "text", "text": "x://4", "uri": "x://5"},
        ]});
        let done: Value = prefix.of_result(Raw::value(&result)).read().unwrap();
        assert_eq!(
            done["content"][0],
            json!({"type": "resource_link", "uri": "a+x://1", "name": "uri", "size": 12})
        );
        assert_eq!(done["content"][1]["resource"], json!({"uri": "a+x://2", "text": "x://3"}));
        assert_eq!(done["content"][2], result["content"][2]);
        let messages = json!({"messages": [{"role": "user", "content": {"type": "resource", "resource": {"uri": "x"}}}]});
        let done: Value = prefix.of_result(Raw::value(&messages)).read().unwrap();
        assert_eq!(done["messages"][0]["content"]["resource"]["uri"], "a+x");
        let tool =
            json!({"name": "t", "_meta": {"ui": {"resourceUri": "ui://t"}}, "inputSchema": {"uri": "x"}});
        let inventory = Inventory {
            tools: vec![Definition::open(&Raw::value(&tool)).unwrap()],
            templates: vec![Definition::template("x://{id}", "t")],
            ..Inventory::default()
        };
        let shown = prefix.of_inventory(inventory);
        assert_eq!(shown.templates[0].uri(), "a+x://{id}");
        let tool: Value = shown.tools[0].object().to_raw().read().unwrap();
        assert_eq!(
            (&tool["_meta"]["ui"]["resourceUri"], &tool["inputSchema"]["uri"]),
            (&json!("a+ui://t"), &json!("x"))
        );
        assert_eq!(prefix.of_change(Change::Updated("x".into())), Change::Updated("a+x".into()));
    }

    #[test]
    fn without_a_prefix_the_same_bytes_go_through() {
        let result = Raw::trusted(r#"{"contents": [ {"uri" : "x"} ]}"#);
        assert_eq!(Prefix::default().of_result(result.clone()).as_str(), result.as_str());
    }

    #[test]
    fn a_uri_without_the_prefix_is_none_of_this_servers() {
        let strip =
            |uri: &str| Prefix::new("a+").strip(Request::Subscribe { uri: uri.to_owned(), begins: true });
        assert!(matches!(strip("a+x://1"), Ok(Request::Subscribe { uri, .. }) if uri == "x://1"));
        assert!(matches!(strip("x://1"), Err(PluginError::Unknown(_))));
    }
}
