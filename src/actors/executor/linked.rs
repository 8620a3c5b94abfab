//! The resources that a result links to or holds: remembered, so that whoever reads one later is led to its plugin.
//!
//! Must not know how the memory is bounded.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::messages::Task;
use crate::catalog::Links;
use crate::protocol::Raw;

/// Links of one result that are remembered.
const LINKS_MAX: usize = 1_000;

/// What of a result may hold links; what has another shape has none.
#[derive(Deserialize)]
struct Linking<'a> {
    /// Of a tool.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    /// Of a prompt.
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    /// Of a resource.
    #[serde(borrow)]
    contents: Option<&'a RawValue>,
}

/// One of a prompt's messages.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Block<'a>>,
}

/// A `resource_link`, an embedded `resource`, or the contents of one.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource: Option<Embedded<'a>>,
}

#[derive(Deserialize)]
struct Embedded<'a> {
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
}

/// Notes what `result` links to as `task`'s plugin's.
pub fn note(links: &Links, task: &Task, result: &Raw) {
    // Most results link to nothing, and are not read for it.
    if !result.as_str().contains("\"uri\"") {
        return;
    }
    let plugin = &task.seat().name;
    for uri in uris(result).into_iter().take(LINKS_MAX) {
        links.note(&uri, plugin);
    }
}

fn uris(result: &Raw) -> Vec<String> {
    let Ok(linking) = result.read::<Linking<'_>>() else { return Vec::new() };
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for list in [linking.content, linking.contents].into_iter().flatten() {
        blocks.extend(serde_json::from_str::<Vec<Block<'_>>>(list.get()).unwrap_or_default());
    }
    if let Some(messages) = linking.messages {
        let messages: Vec<Message<'_>> = serde_json::from_str(messages.get()).unwrap_or_default();
        blocks.extend(messages.into_iter().filter_map(|message| message.content));
    }
    let of = |block: Block<'_>| -> [Option<String>; 2] {
        let embedded = block.resource.and_then(|resource| resource.uri);
        [block.uri.map(Cow::into_owned), embedded.map(Cow::into_owned)]
    };
    blocks.into_iter().flat_map(of).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_embedded_resources_are_found_and_nothing_else() {
        let found = |text: &'static str| uris(&Raw::trusted(text));
        let tool = r#"{"content":[{"type":"text","text":"\"uri\""},{"type":"resource_link","uri":"a:1","name":"x"},
            {"type":"resource","resource":{"uri":"a:2","text":"t"}}],"structuredContent":{"uri":"b:1"}}"#;
        assert_eq!(found(tool), ["a:1", "a:2"]);
        assert_eq!(found(r#"{"contents":[{"uri":"a:\u0033","text":"t"}]}"#), ["a:3"]);
        let prompt =
            r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:4"}}}]}"#;
        assert_eq!(found(prompt), ["a:4"]);
        assert!(found(r#"{"content":"uri"}"#).is_empty() && found("[]").is_empty());
    }
}
