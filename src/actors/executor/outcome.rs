//! What a plugin answered, made into a result: checked, so that nonsense never reaches a client.
//!
//! MCP 2026-07-28, server/tools, prompts, resources and basic/patterns/mrtr. Must not know how the plugin was run.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::messages::{Done, Hints, Task};
use crate::catalog::Caching;
use crate::error::{ErrorCode, Fault};
use crate::plugins::PluginError;
use crate::protocol::render::{self, ServerInfo};
use crate::protocol::{ClientCapabilities, InputRequest, Object, Raw};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    structured_content: Option<&'a RawValue>,
    is_error: Option<bool>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    contents: Option<&'a RawValue>,
    #[serde(borrow)]
    completion: Option<&'a RawValue>,
}

/// Makes a plugin's complete result one that can be sent.
///
/// # Errors
/// Our fault when the result lacks what its method promises.
pub fn complete(task: &Task, result: &Raw, info: &ServerInfo) -> Result<Done, Fault> {
    let nonsense = |what: &str| nonsense(task, what);
    let hints = hints_of(task, result);
    if let Task::Tool { entry, .. } = task
        && entry.output.is_none()
        && is_plain(result)
    {
        let result = render::complete(result, info).map_err(|error| nonsense(&error.to_string()))?;
        return Ok(Done { result, outcome: "ok", asks: None, hints });
    }
    let shape: Shape<'_> = result.read().map_err(|error| nonsense(&error.to_string()))?;
    let is_list = |member: Option<&RawValue>| member.is_some_and(|member| member.get().starts_with('['));
    let mut outcome = "ok";
    let mut cached = None;
    match task {
        Task::Tool { entry, .. } => {
            if !is_list(shape.content) {
                return Err(nonsense("no list `content`"));
            }
            if shape.is_error == Some(true) {
                outcome = "tool_error";
            } else if let Some(schema) = &entry.output {
                let structured = shape
                    .structured_content
                    .ok_or_else(|| nonsense("no `structuredContent`, though it has an outputSchema"))?;
                // What takes longer was checked before, elsewhere.
                if schema.is_soon_checked(result.bytes().len()) {
                    let value: Value = serde_json::from_str(structured.get())
                        .map_err(|error| nonsense(&error.to_string()))?;
                    schema.check_hiding(&value).map_err(|why| breaks_schema(task, &why))?;
                }
            }
        }
        Task::Prompt { .. } if !is_list(shape.messages) => return Err(nonsense("no list `messages`")),
        Task::Read { .. }
            if !is_list(shape.contents) || shape.contents.is_some_and(|list| list.get() == "[]") =>
        {
            return Err(nonsense("no `contents`"));
        }
        Task::Read { .. } => {
            cached = Some(with_cache_hints(result).map_err(|error| nonsense(&error.to_string()))?)
        }
        Task::Complete { .. } if shape.completion.is_none() => return Err(nonsense("no `completion`")),
        Task::Prompt { .. } | Task::Complete { .. } => {}
    }
    let result = render::complete(cached.as_ref().unwrap_or(result), info);
    Ok(Done { result: result.map_err(|error| nonsense(&error.to_string()))?, outcome, asks: None, hints })
}

/// Whether a tool's result evidently has its content and tells of no error, as most have: it need not be read for that.
fn is_plain(result: &Raw) -> bool {
    let text = result.as_str();
    // A key may be written with escapes.
    text.starts_with("{\"content\":[") && !text.contains("\"isError\"") && !text.contains("\\u")
}

fn nonsense(task: &Task, what: &str) -> Fault {
    Fault::internal(format!("plugin {} answered {} with nonsense: {what}", task.seat().name, task.target()))
}

/// The result of a tool is not what its plugin said that it would be.
pub fn breaks_schema(task: &Task, why: &str) -> Fault {
    nonsense(task, &format!("`structuredContent` breaks its outputSchema: {why}"))
}

/// What an answer says of itself, where that counts; most say nothing, and are not read for it.
fn hints_of(task: &Task, result: &Raw) -> Option<Hints> {
    let counts = task.caching().is_some_and(Caching::heeds);
    if !counts || !result.as_str().contains("\"ttlMs\"") {
        return None;
    }
    let said: Said<'_> = result.read().ok()?;
    let ttl_ms = said.ttl_ms?.get().parse().ok()?;
    let public = said.cache_scope.is_some_and(|scope| scope.get() == "\"public\"");
    Some(Hints { lasts: Duration::from_millis(ttl_ms), public })
}

/// MCP 2026-07-28, server/utilities/caching.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    #[serde(borrow)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_scope: Option<&'a RawValue>,
}

/// A read resource must say how long it may be kept: not at all, unless its plugin says more. For nobody else, whatever
/// its plugin says: that it is the same for all callers only an operator could know.
fn with_cache_hints(result: &Raw) -> Result<Raw, crate::protocol::RawError> {
    let mut object = Object::open(result)?;
    if object.get("ttlMs").and_then(|ttl| ttl.read::<u64>().ok()).is_none() {
        object.put("ttlMs", 0);
    }
    object.put("cacheScope", "private");
    Ok(object.to_raw())
}

/// Checks what a plugin wants to ask.
///
/// # Errors
/// -32021 when the client did not declare what is asked; our fault when nothing is asked or it may not be.
pub fn check_asks(
    task: &Task,
    requests: &[(String, InputRequest)],
    has_state: bool,
    client: &ClientCapabilities,
) -> Result<(), Fault> {
    if !task.method().may_ask() || (requests.is_empty() && !has_state) {
        return Err(Fault::internal(format!(
            "plugin {} asked for input where it may not, or for nothing",
            task.seat().name
        )));
    }
    let missing = requests.iter().find_map(|(_, request)| client.missing_for(request));
    missing.map_or(Ok(()), |required| Err(missing_capability(required)))
}

/// Why there is no result, as the caller may know it.
pub fn fault_of(task: &Task, error: PluginError) -> Fault {
    let target = task.target();
    match error {
        PluginError::Unknown(what) => match task {
            Task::Read { uri, .. } => {
                Fault::invalid_params(format!("there is no resource {uri:?}"), "list the resources")
                    .with("uri", uri.as_str())
            }
            _ => Fault::invalid_params(
                format!("there is no {what:?}"),
                "list what there is and use a name from there",
            ),
        },
        PluginError::InvalidParams(why) => Fault::invalid_params(why, "mend the parameters and call again"),
        PluginError::MissingCapability(required) => missing_capability(required),
        PluginError::Unavailable(why) => Fault::new(
            ErrorCode::Unavailable,
            format!("{target} is not available now"),
            "retry after a moment",
        )
        .because(why),
        PluginError::Away { why, returns } => {
            let fault = Fault::new(
                ErrorCode::Unavailable,
                format!("{target} is not available now: {why}"),
                "retry after a moment; if it lasts, the operator sees the server in `/plugins`",
            );
            returns.into_iter().fold(fault, Fault::retry_after).because(why)
        }
        PluginError::Full { why, returns } => Fault::new(
            ErrorCode::Unavailable,
            format!("{target} takes no call now: {why}"),
            "retry after a moment",
        )
        .retry_after(returns),
        PluginError::Answered { code, why, data } => Fault::new(
            ErrorCode::Internal,
            why,
            "it is the server's own word: mend what it speaks of, or tell the operator",
        )
        .relayed(code, data.map(|data| data.as_str().to_owned()))
        .because(format!(
            "the server behind plugin {} answered {target} with error {code}",
            task.seat().name
        )),
        PluginError::Upstream(why) => Fault::new(
            ErrorCode::Internal,
            why,
            "retry if the call may be made twice; if it fails again, tell the operator, who sees the server in `/plugins`",
        )
        .because(format!("the server behind plugin {} failed in {target}", task.seat().name)),
        PluginError::Failed(why) => {
            Fault::internal(format!("plugin {} in {target}: {why}", task.seat().name))
        }
    }
}

fn missing_capability(required: Value) -> Fault {
    Fault::new(
        ErrorCode::MissingCapability,
        "this needs a capability that the client did not declare on the request",
        "declare it in `io.modelcontextprotocol/clientCapabilities`, if the client has it",
    )
    .with("requiredCapabilities", required)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_need_not_be_read_would_be_read_as_content_without_an_error() {
        for (text, plain) in [
            (r#"{"content":[]}"#, true),
            (r#"{"content":[{"type":"text","text":"a\nb"}],"structuredContent":3}"#, true),
            (r#"{"content":[],"isError":true}"#, false),
            (r#"{"content":[],"is\u0045rror":true}"#, false),
            (r#"{"content":[],"isError":7}"#, false),
            (r#"{"content":{}}"#, false),
            (r#"{"isError":true,"content":[]}"#, false),
            ("[]", false),
        ] {
            let result = Raw::trusted(text);
            assert_eq!(is_plain(&result), plain, "{text}");
            let read = result.read::<Shape<'_>>().ok().filter(|shape| shape.is_error != Some(true));
            let has_list =
                read.and_then(|shape| shape.content).is_some_and(|list| list.get().starts_with('['));
            assert!(!plain || has_list, "{text}");
        }
    }
}
