//! What the plugin `faulty` offers.

use serde_json::{Value, json};
use waygate_mcp::plugins::Inventory;
use waygate_mcp::protocol::Definition;

/// All of it, after so many touches of the lists of tools, prompts and resources.
pub fn inventory(touches: [u64; 3]) -> Inventory {
    let [tools_touched, prompts_touched, resources_touched] = touches.map(|n| format!("Touched {n} times"));
    let mut tools = plain();
    tools.push(Definition::tool("touched", &tools_touched, json!({"type": "object"})));
    tools.extend(with_schemas());
    tools.extend(invalid());
    Inventory {
        tools,
        prompts: vec![
            Definition::prompt("greeting", "Greets somebody")
                .argument("who", "Whom to greet", true)
                .argument("style", "How", false),
            Definition::prompt("prompt_asks", "Asks for a name first"),
            Definition::prompt("rich", "Of every age").with("title", "Rich").with("icons", icons()),
            Definition::prompt("prompt_nonsense", "Answers without messages"),
            Definition::prompt("touched", &prompts_touched),
        ],
        resources: vec![
            Definition::resource("test://counter", "counter").with("description", "Counts its touches"),
            Definition::resource("test://grüße", "grüße").with("mimeType", "text/plain"),
            Definition::resource("test://asks", "asks"),
            Definition::resource("test://empty", "empty").with("title", "Empty").with("icons", icons()),
            Definition::resource("test://touched", "touched").with("description", resources_touched),
        ],
        templates: vec![
            Definition::template("test://item/{id}", "item").with("title", "Item").with("icons", icons()),
        ],
        instructions: Some("Nothing here is of use but to tests.".to_owned()),
        completes: true,
        subscribes: true,
        ..Inventory::default()
    }
}

/// Tools whose arguments are a few optional numbers and words.
fn plain() -> Vec<Definition> {
    let tool = |name: &str, description: &str, numbers: &[&str], words: &[&str]| {
        let number = numbers.iter().map(|key| ((*key).to_owned(), json!({"type": "integer", "minimum": 0})));
        let word = words.iter().map(|key| ((*key).to_owned(), json!({"type": "string"})));
        let properties: serde_json::Map<String, Value> = number.chain(word).collect();
        let schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
        Definition::tool(name, description, schema)
    };
    vec![
        tool("panic", "Panics", &[], &[]),
        tool("panic_blocking", "Panics on a blocking thread", &[], &[]),
        tool("hang", "Never answers", &[], &[]),
        tool("hang_blocking", "Blocks a thread for ms, or for ever", &["ms"], &[]),
        tool("flood", "Says more than anybody can read", &["n"], &[]),
        tool("steps", "Reports n steps, ms apart", &["n", "ms"], &[]),
        tool("logs", "Logs on every level", &[], &[]),
        tool("sleep", "Answers after ms", &["ms"], &[]),
        tool("ask", "Asks for a name and greets", &[], &["city"]),
        tool("ask_forever", "Asks again and again", &[], &[]),
        tool("ask_sampling", "Asks the client's model", &[], &[]),
        tool("ask_times", "Asks n times, one thing after another", &["n"], &[]),
        tool("ask_many", "Asks for n names at once", &["n"], &[]),
        tool("ask_url", "Asks the user to open a URL", &[], &[]),
        tool("ask_model_with_tools", "Asks the client's model, which may use a tool", &[], &[]),
        tool("ask_roots", "Asks for the client's roots", &[], &[]),
        tool("ask_choices", "Asks for a choice of each kind", &[], &[]),
        tool("quiet", "Says that it is quiet for ms, and is", &["ms"], &[]),
        tool("rich", "Answers with blocks of every age", &[], &[])
            .with("title", "Rich")
            .with("icons", icons())
            .with("annotations", json!({"readOnlyHint": true}))
            .with("_meta", json!({"example.org/own": 1})),
        tool("come_back", "Wants to be called again", &[], &[]),
        tool("precise", "Answers what must not be rounded", &[], &[]),
        tool("whoami", "Says who calls", &[], &[]),
        tool("shout", "Prints on stdout", &[], &[]),
        tool("fail", "Fails as a tool does", &[], &[]),
        tool("refuse", "Fails as a plugin does", &[], &["kind"]),
        tool("touch", "Changes the counter, or what it is told", &[], &["what"]),
    ]
}

fn icons() -> Value {
    json!([{"src": "https://example.com/icon.png", "mimeType": "image/png"}])
}

fn with_schemas() -> Vec<Definition> {
    let number = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let kind = json!({"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]});
    let mirrored = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "x-mcp-header": "City"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "fast": {"type": "boolean", "x-mcp-header": "Fast"},
            "place": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
        }
    });
    let strict = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"size": {"$anchor": "size", "type": "integer", "exclusiveMinimum": 0}},
        "properties": {
            "size": {"$ref": "#/$defs/size"},
            "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"$ref": "#size"}], "items": false},
            "kind": {"enum": ["box", "ball"]}
        },
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "box"}}},
        "then": {"required": ["size"]},
        "unevaluatedProperties": false
    });
    vec![
        Definition::tool("repeat", "Repeats its arguments", json!({"type": "object"})),
        Definition::tool("structured", "Answers a number", number.clone())
            .with("outputSchema", number.clone()),
        Definition::tool("nonsense", "Answers nonsense of a kind", kind).with("outputSchema", number),
        Definition::tool("mirrored", "Has arguments that headers repeat", mirrored),
        Definition::tool("strict_schema", "Has a schema of many keywords", strict),
    ]
}

/// Tools that break the rules: the house must leave them out, and keep the others.
fn invalid() -> Vec<Definition> {
    let repeated = json!({"type": "number", "x-mcp-header": "Amount"});
    let outside = json!({"$ref": "http://127.0.0.1:1/schema.json"});
    vec![
        Definition::tool(
            "dropped_mirror",
            "Repeats a number in a header",
            json!({"type": "object", "properties": {"amount": repeated}}),
        ),
        Definition::tool(
            "dropped_reference",
            "Has a schema that lies elsewhere",
            json!({"type": "object", "properties": {"a": outside}}),
        ),
    ]
}
