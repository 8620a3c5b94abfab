//! Results of 2026-07-28 as a client of an older revision knows them: what it cannot read is taken out, or said in text.
//!
//! MCP's changelogs. A result that has nothing of the kind is passed on without being opened.
//! Must not know who asked, nor how an answer travels.

use serde_json::value::RawValue;

use crate::protocol::render::Finished;
use crate::protocol::{Id, Method, Object, Raw, RawError, Revision};

/// The answer to request `id` with this result.
///
/// # Errors
/// When the result is not one of its method.
pub fn answer(id: &Id, method: Method, finished: &Finished, revision: Revision) -> Result<Vec<u8>, RawError> {
    let mut out = Vec::with_capacity(finished.bytes().len() + id.as_str().len() + 40);
    for part in ["{\"jsonrpc\":\"2.0\",\"id\":", id.as_str(), ",\"result\":"] {
        out.extend_from_slice(part.as_bytes());
    }
    match finished.plain_inner().filter(|inner| !is_foreign(method, inner, revision)) {
        Some(inner) => {
            out.push(b'{');
            out.extend_from_slice(inner.as_bytes());
        }
        None => out.extend_from_slice(result(method, finished, revision)?.bytes()),
    }
    out.push(b'}');
    Ok(out)
}

/// The same result in the words of `revision`.
///
/// # Errors
/// When the result is not one of its method.
pub fn result(method: Method, finished: &Finished, revision: Revision) -> Result<Raw, RawError> {
    let mut result = finished.plain()?;
    result.remove("ttlMs");
    result.remove("cacheScope");
    match method {
        Method::ToolsCall => tool_result(&mut result, revision)?,
        Method::PromptsGet => messages(&mut result, revision)?,
        Method::ToolsList => each(&mut result, "tools", |tool| tool_definition(tool, revision))?,
        Method::PromptsList => each(&mut result, "prompts", |prompt| {
            definition(prompt, revision);
            match prompt.get("arguments") {
                Some(_) => each(prompt, "arguments", |argument| {
                    definition(argument, revision);
                    Ok(())
                }),
                None => Ok(()),
            }
        })?,
        Method::ResourcesList => each(&mut result, "resources", |resource| {
            definition(resource, revision);
            Ok(())
        })?,
        Method::TemplatesList => each(&mut result, "resourceTemplates", |template| {
            definition(template, revision);
            Ok(())
        })?,
        Method::ResourcesRead | Method::Complete | Method::Discover | Method::Listen => {}
    }
    Ok(result.to_raw())
}

/// Whether a result may hold what `revision` does not know. The words are looked for in the whole text: a false alarm
/// costs the slow way, nothing else.
fn is_foreign(method: Method, inner: &str, revision: Revision) -> bool {
    match method {
        Method::ToolsCall | Method::PromptsGet => {
            inner.contains("\"structuredContent\"")
                || (!revision.has_url_elicitation() && inner.contains("\"icons\""))
                || (!revision.has_structured_results() && inner.contains("\"resource_link\""))
                || (!revision.has_audio_and_annotations() && inner.contains("\"audio\""))
        }
        Method::Complete => false,
        _ => true,
    }
}

fn tool_result(result: &mut Object, revision: Revision) -> Result<(), RawError> {
    let mut content = items(result.get("content"))?;
    let structured = result.get("structuredContent").cloned();
    if let Some(structured) = structured
        && !(revision.has_structured_results() && structured.is_object())
    {
        result.remove("structuredContent");
        let mut says_it = false;
        for block in &content {
            says_it |= Object::open(block)?.text("type").as_deref() == Some("text");
        }
        if !says_it {
            content.push(text_block(structured.as_str()));
        }
    }
    let content = content.iter().map(|block| self::block(block, revision)).collect::<Result<Vec<_>, _>>()?;
    result.set("content", list(&content));
    Ok(())
}

fn messages(result: &mut Object, revision: Revision) -> Result<(), RawError> {
    each(result, "messages", |message| {
        if let Some(content) = message.get("content").cloned() {
            message.set("content", block(&content, revision)?);
        }
        Ok(())
    })
}

/// A content block that `revision` knows: links and sounds are told in text where they came later.
fn block(raw: &Raw, revision: Revision) -> Result<Raw, RawError> {
    let block = Object::open(raw)?;
    let member = |key: &str| block.text(key).unwrap_or_default();
    Ok(match block.text("type").as_deref() {
        Some("resource_link") if !revision.has_structured_results() => {
            text_block(&format!("{}: {}", member("name"), member("uri")))
        }
        Some("audio") if !revision.has_audio_and_annotations() => {
            text_block(&format!("[{}, which revision {} cannot carry]", member("mimeType"), revision.name()))
        }
        Some("resource_link") if !revision.has_url_elicitation() => {
            let mut link = block;
            link.remove("icons");
            link.to_raw()
        }
        _ => raw.clone(),
    })
}

fn tool_definition(tool: &mut Object, revision: Revision) -> Result<(), RawError> {
    definition(tool, revision);
    let keeps = match tool.get("outputSchema") {
        Some(schema) => {
            revision.has_structured_results()
                && Object::open(schema)?.text("type").as_deref() == Some("object")
        }
        None => true,
    };
    if !keeps {
        tool.remove("outputSchema");
    }
    if !revision.has_audio_and_annotations() {
        tool.remove("annotations");
    }
    Ok(())
}

/// Takes out the members of a list's entry that came after `revision`.
fn definition(entry: &mut Object, revision: Revision) {
    if !revision.has_url_elicitation() {
        entry.remove("icons");
    }
    if !revision.has_structured_results() {
        entry.remove("title");
        entry.remove("_meta");
    }
}

/// Changes every object of the list under `key`.
fn each(
    of: &mut Object,
    key: &str,
    change: impl Fn(&mut Object) -> Result<(), RawError>,
) -> Result<(), RawError> {
    let mut changed = Vec::new();
    for item in items(of.get(key))? {
        let mut item = Object::open(&item)?;
        change(&mut item)?;
        changed.push(item.to_raw());
    }
    of.set(key, list(&changed));
    Ok(())
}

fn items(of: Option<&Raw>) -> Result<Vec<Raw>, RawError> {
    let Some(of) = of else { return Ok(Vec::new()) };
    let items: Vec<&RawValue> = of.read()?;
    Ok(items.into_iter().map(|item| of.part(item)).collect())
}

fn list(items: &[Raw]) -> Raw {
    Raw::trusted(format!("[{}]", items.iter().map(Raw::as_str).collect::<Vec<_>>().join(",")))
}

fn text_block(says: &str) -> Raw {
    Raw::value(&super::super::content::text(says))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::render::{self, ServerInfo};
    use serde_json::{Value, json};

    fn converted(method: Method, result: &Value, revision: Revision) -> Value {
        let info = ServerInfo::new("w", "1");
        let finished = render::complete(&Raw::value(result), &info).unwrap();
        let Ok(crate::protocol::Message::Request { id, .. }) =
            crate::protocol::Message::parse(br#"{"jsonrpc":"2.0","id":"q","method":"x"}"#[..].into())
        else {
            panic!("a request")
        };
        let answer: Value =
            serde_json::from_slice(&answer(&id, method, &finished, revision).unwrap()).unwrap();
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!("q")));
        answer["result"].clone()
    }

    #[test]
    fn nothing_of_the_stateless_revision_is_left_in_a_result() {
        for result in [
            json!({"content": [{"type": "text", "text": "a"}]}),
            json!({"content": [{"type": "text", "text": "a"}], "_meta": {"a/b": 1}}),
        ] {
            for revision in [Revision::V20241105, Revision::V20251125] {
                assert_eq!(converted(Method::ToolsCall, &result, revision), result);
            }
        }
        let read = json!({"contents": [{"uri": "a:1", "text": "x"}], "ttlMs": 0, "cacheScope": "private"});
        let plain = json!({"contents": [{"uri": "a:1", "text": "x"}]});
        assert_eq!(converted(Method::ResourcesRead, &read, Revision::V20250618), plain);
        assert_eq!(converted(Method::Complete, &json!({}), Revision::V20250618), json!({}));
    }

    #[test]
    fn a_structured_result_is_kept_where_it_is_known_and_said_in_text_elsewhere() {
        let object = json!({"content": [], "structuredContent": {"n": 12345678901234567890_u64}});
        assert_eq!(converted(Method::ToolsCall, &object, Revision::V20250618), object);
        let told = converted(Method::ToolsCall, &object, Revision::V20250326);
        assert_eq!(told, json!({"content": [{"type": "text", "text": "{\"n\":12345678901234567890}"}]}));
        let list = json!({"content": [{"type": "text", "text": "one"}], "structuredContent": [1]});
        let told = converted(Method::ToolsCall, &list, Revision::V20251125);
        assert_eq!(told, json!({"content": [{"type": "text", "text": "one"}]}));
    }

    #[test]
    fn links_and_sounds_are_told_in_text_to_those_who_do_not_know_them() {
        let result = json!({"content": [
            {"type": "resource_link", "uri": "a:1", "name": "one"},
            {"type": "audio", "data": "AA==", "mimeType": "audio/wav"},
        ]});
        let types = |revision: Revision| -> Vec<Value> {
            let content = converted(Method::ToolsCall, &result, revision)["content"].clone();
            content.as_array().unwrap().iter().map(|block| block["type"].clone()).collect()
        };
        assert_eq!(types(Revision::V20250618), ["resource_link", "audio"]);
        assert_eq!(types(Revision::V20250326), ["text", "audio"]);
        assert_eq!(types(Revision::V20241105), ["text", "text"]);
        let prompt = json!({"messages": [{"role": "user", "content": {"type": "audio", "data": "", "mimeType": "a/b"}}]});
        let told = converted(Method::PromptsGet, &prompt, Revision::V20241105);
        assert_eq!(told["messages"][0]["content"]["type"], "text");
    }

    #[test]
    fn lists_lose_what_came_later() {
        let tools = json!({"tools": [{"name": "t", "title": "T", "icons": [], "annotations": {}, "_meta": {},
            "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"}}],
            "nextCursor": "c", "ttlMs": 1, "cacheScope": "private"});
        let keys = |revision: Revision| -> Vec<String> {
            let list = converted(Method::ToolsList, &tools, revision);
            assert_eq!((list.as_object().unwrap().len(), &list["nextCursor"]), (2, &json!("c")));
            list["tools"][0].as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(Revision::V20251125).len(), 7);
        assert_eq!(keys(Revision::V20250618).len(), 6);
        assert_eq!(keys(Revision::V20250326), ["name", "annotations", "inputSchema"]);
        assert_eq!(keys(Revision::V20241105), ["name", "inputSchema"]);
        let array = json!({"tools": [{"name": "t", "inputSchema": {}, "outputSchema": {"type": "array"}}]});
        assert!(
            converted(Method::ToolsList, &array, Revision::V20251125)["tools"][0]["outputSchema"].is_null()
        );
    }
}
