//! What the servers behind the gateways of `scripts/bench` answer, on HTTP and on pipes alike: an echo, of 2026-07-28 and of
//! 2025-11-25, with no more than a gateway needs to find it, so that the hop in front of it is what costs.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    arguments: Arguments<'a>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
}

/// What becomes of a message.
pub enum Answer {
    Given(String),
    /// An error: there is no such method.
    Refused(String),
    /// It wants none.
    Nothing,
    Malformed,
}

/// What is offered, made once.
pub struct Offer {
    tools: String,
    speaks_modern: bool,
}

impl Offer {
    /// An echo, and so many tools beside it that there are `count`.
    pub fn of(count: u16, speaks_modern: bool) -> Self {
        let tools: Vec<Value> = (0..count.max(1)).map(tool).collect();
        let listed =
            json!({"resultType": "complete", "tools": tools, "ttlMs": 60000, "cacheScope": "public"});
        Self { tools: listed.to_string(), speaks_modern }
    }

    pub fn answer(&self, message: &[u8]) -> Answer {
        let Ok(request) = serde_json::from_slice::<Request<'_>>(message) else { return Answer::Malformed };
        let Some(id) = request.id else { return Answer::Nothing };
        let result = match request.method {
            "tools/call" => {
                let params = request.params.map_or("", RawValue::get);
                let Ok(call) = serde_json::from_str::<Call<'_>>(params) else { return Answer::Malformed };
                let text = call.arguments.message.get();
                format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}]}}"#)
            }
            "server/discover" if self.speaks_modern => discovery().to_string(),
            "initialize" => welcome().to_string(),
            "tools/list" => self.tools.clone(),
            "ping" => "{}".to_owned(),
            _ => {
                let error = json!({"code": -32601, "message": "there is no such method"});
                return Answer::Refused(format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.get()));
            }
        };
        Answer::Given(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get()))
    }
}

fn discovery() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "ttlMs": 60000,
        "cacheScope": "public",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "upstream", "version": "0"}}
    })
}

fn welcome() -> Value {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "upstream", "version": "0"}
    })
}

/// The echo is the first; the others are as large as tools usually are.
fn tool(number: u16) -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    if number == 0 {
        let schema =
            json!({"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]});
        return json!({"name": "echo", "description": "Gives back the message it is given", "inputSchema": schema});
    }
    json!({
        "name": format!("search_{number}"),
        "title": format!("Search {number}"),
        "description": "Searches what was written, newest first, and gives title, author, day and a few words around each place \
            where the query was found. Give a cursor to go on where the last page ended.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": text("Words that must all occur"),
                "author": text("Only what this person wrote"),
                "since": text("Only what is newer than this day"),
                "cursor": text("Where the last page ended"),
                "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
            },
            "required": ["query"]
        },
        "annotations": {"readOnlyHint": true}
    })
}

/// What stands after `flag` on the command line.
pub fn after(flag: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)
}

/// The number after `flag`.
pub fn number_after(flag: &str) -> Option<u16> {
    after(flag)?.parse().ok()
}
