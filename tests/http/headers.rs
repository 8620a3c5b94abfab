//! The headers that repeat the body: each must be there once and say the same, and gaps in the body are told first.

use serde_json::{Value, json};

use crate::support::{Http, MODERN, Reply, Server, encoded, message};

#[track_caller]
fn refused(reply: &Reply, code: i64) {
    assert_eq!((reply.status, reply.code()), (400, code), "{}", reply.text());
    assert_eq!(reply.json()["id"], 1);
}

#[track_caller]
fn mismatch(server: &Server, request: &Http) {
    let reply = request.send(server.address);
    refused(&reply, -32020);
    assert_eq!(reply.json()["error"]["data"]["reason"], "header_mismatch");
}

#[track_caller]
fn served(server: &Server, request: &Http) -> Value {
    request.send(server.address).result()
}

/// A request whose `_meta` is changed.
fn with_meta(change: impl FnOnce(&mut Value)) -> Http {
    let mut body = message("tools/list", json!({}));
    change(&mut body["params"]);
    Http { body: body.to_string().into_bytes(), ..Http::modern("tools/list", json!({})) }
}

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

#[test]
fn a_gap_in_the_body_is_told_before_a_gap_in_the_headers() {
    let server = Server::shared();
    let changes: [fn(&mut Value); 9] = [
        |params| params["_meta"] = Value::Null,
        |params| drop(params.as_object_mut().and_then(|params| params.remove("_meta"))),
        |params| params["_meta"] = json!({}),
        |params| params["_meta"] = json!([]),
        |params| params["_meta"][VERSION] = json!(20_260_728),
        |params| params["_meta"][VERSION] = Value::Null,
        |params| drop(params["_meta"].as_object_mut().and_then(|meta| meta.remove(VERSION))),
        |params| drop(params["_meta"].as_object_mut().and_then(|meta| meta.remove(CAPABILITIES))),
        |params| params["_meta"][CAPABILITIES] = json!([]),
    ];
    for change in changes {
        let request = with_meta(change);
        refused(&request.send(server.address), -32602);
        // Worse headers change nothing.
        refused(&request.without("Mcp-Method").send(server.address), -32602);
    }
    let gap =
        with_meta(|params| drop(params["_meta"].as_object_mut().and_then(|meta| meta.remove(CAPABILITIES))));
    refused(&gap.clone().set("MCP-Protocol-Version", "2099-01-01").send(server.address), -32602);
    refused(&gap.without("MCP-Protocol-Version").send(server.address), -32602);
}

#[test]
fn a_client_need_not_say_who_it_is_and_may_say_more_than_we_know() {
    let server = Server::shared();
    served(
        &server,
        &with_meta(|params| {
            drop(
                params["_meta"]
                    .as_object_mut()
                    .and_then(|meta| meta.remove("io.modelcontextprotocol/clientInfo")),
            );
        }),
    );
    served(
        &server,
        &with_meta(|params| params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!("nonsense")),
    );
    served(
        &server,
        &with_meta(|params| {
            params["_meta"]["com.example/unknown"] = json!({"a": [1]});
            params["_meta"][CAPABILITIES] = json!({
                "roots": {"listChanged": true}, "elicitation": {"form": {}, "voice": {}}, "tasks": {"list": {}},
                "extensions": {"io.modelcontextprotocol/ui": {}}, "experimental": {"x": {}}, "futures": {},
            });
            params["unknown"] = json!(1);
        }),
    );
}

#[test]
fn the_version_stands_in_the_header_and_says_what_the_body_says() {
    let server = Server::shared();
    let request = Http::modern("tools/list", json!({}));
    mismatch(&server, &request.clone().without("MCP-Protocol-Version"));
    mismatch(&server, &request.clone().set("MCP-Protocol-Version", ""));
    mismatch(&server, &request.clone().set("MCP-Protocol-Version", "2025-11-25"));
    mismatch(&server, &request.clone().set("MCP-Protocol-Version", "2099-01-01"));
    mismatch(&server, &request.clone().header("MCP-Protocol-Version", MODERN));
    mismatch(&server, &request.clone().header("mcp-protocol-version", "2025-11-25"));
    // Only names of headers come in any letters.
    served(&server, &request.without("MCP-Protocol-Version").header("mCp-pRoToCoL-vErSiOn", MODERN));
}

#[test]
fn a_version_that_is_not_served_is_named_with_those_that_are() {
    let server = Server::shared();
    let offered = server.call("server/discover", json!({})).result()["supportedVersions"].clone();
    for version in ["2099-01-01", "2025-11-25", "2024-11-05", "draft", ""] {
        let request = with_meta(|params| params["_meta"][VERSION] = json!(version));
        let reply = request.set("MCP-Protocol-Version", version).send(server.address);
        refused(&reply, -32022);
        let data = &reply.json()["error"]["data"];
        assert_eq!((&data["supported"], &data["requested"]), (&offered, &json!(version)));
    }
    // A header that differs wins.
    mismatch(&server, &with_meta(|params| params["_meta"][VERSION] = json!("2099-01-01")));
}

#[test]
fn the_method_stands_in_the_header_letter_for_letter() {
    let server = Server::shared();
    let request = Http::modern("tools/list", json!({}));
    mismatch(&server, &request.clone().without("Mcp-Method"));
    for wrong in ["", "tools/call", "Tools/List", "TOOLS/LIST", "tools/list/", &encoded("tools/list")] {
        mismatch(&server, &request.clone().set("Mcp-Method", wrong));
    }
    mismatch(&server, &request.clone().header("Mcp-Method", "tools/list"));
    mismatch(&server, &request.clone().set("Mcp-Method", "caf\u{e9}"));
    served(&server, &request.set("Mcp-Method", " \t tools/list \t"));
    // Also where the method is not known: the header is what a router went by.
    mismatch(&server, &Http::modern("no/such", json!({})).set("Mcp-Method", "tools/list"));
}

#[test]
fn methods_of_other_eras_and_unknown_ones_are_not_found() {
    let server = Server::shared();
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "roots/list",
        "sampling/createMessage",
        "elicitation/create",
        "tools/List",
        "no/such",
        "",
        "tools/list ",
    ] {
        let reply = Http::modern(method, json!({})).send(server.address);
        if method.trim() == method {
            assert_eq!((reply.status, reply.code()), (404, -32601), "{method:?}: {}", reply.text());
        } else {
            // White space around a header's value is not part of it.
            refused(&reply, -32020);
        }
    }
}

#[test]
fn the_name_stands_in_the_header_where_the_body_has_one() {
    let server = Server::shared();
    for (method, params, name) in [
        ("tools/call", json!({"name": "repeat"}), "repeat"),
        ("prompts/get", json!({"name": "greeting", "arguments": {"who": "you"}}), "greeting"),
        ("resources/read", json!({"uri": "test://counter"}), "test://counter"),
    ] {
        let request = Http::modern(method, params);
        served(&server, &request);
        served(&server, &request.clone().set("Mcp-Name", &format!("\t {name} ")));
        served(&server, &request.clone().set("Mcp-Name", &encoded(name)));
        mismatch(&server, &request.clone().without("Mcp-Name"));
        mismatch(&server, &request.clone().header("Mcp-Name", name));
        for wrong in ["", "other", &name.to_uppercase(), &format!("{name}x"), &encoded("other")] {
            mismatch(&server, &request.clone().set("Mcp-Name", wrong));
        }
    }
    // Where there is nothing to repeat, the header is not looked at.
    served(&server, &Http::modern("tools/list", json!({})).header("Mcp-Name", "anything"));
}

#[test]
fn the_name_that_is_compared_is_the_one_that_is_used() {
    let server = Server::shared();
    // A router that goes by `Mcp-Name` must not be shown another name than the server reads.
    let both = json!({"uri": "test://counter", "name": "harmless"});
    let request = Http::modern("resources/read", both);
    mismatch(&server, &request.clone().set("Mcp-Name", "harmless"));
    served(&server, &request.set("Mcp-Name", "test://counter"));
    let both = json!({"name": "repeat", "uri": "harmless"});
    let request = Http::modern("tools/call", both);
    mismatch(&server, &request.clone().set("Mcp-Name", "harmless"));
    served(&server, &request.set("Mcp-Name", "repeat"));
}

#[test]
fn a_name_that_no_header_can_hold_comes_in_base64() {
    let server = Server::shared();
    let request = Http::modern("resources/read", json!({"uri": "test://grüße"}));
    let result = served(&server, &request.clone().set("Mcp-Name", &encoded("test://grüße")));
    assert_eq!(result["contents"][0]["text"], "grüße");
    mismatch(&server, &request); // as raw UTF-8
    for broken in [
        "=?base64?dGVzdDovL2dyw7zDn2U?=",   // padding left out
        "=?base64?dGVzdDovL2dyw7zDn2U=x?=", // more after it
        "=?base64?dGVz dDovL2dyw7zDn2U=?=", // white space in it
        "=?base64?dGVzdDovL2dyw7zDn2V=?=",  // other bits than the canonical ones
        "=?base64?__79?=",                  // another alphabet
        "=?base64?/w==?=",                  // not UTF-8
        "=?base64??=",
    ] {
        mismatch(&server, &request.clone().set("Mcp-Name", broken));
    }
    // Half a sentinel, or one in other letters, is text, and no tool has that name.
    for literal in ["=?base64?cmVwZWF0", "cmVwZWF0?=", "=?BASE64?cmVwZWF0?="] {
        let reply = Http::modern("tools/call", json!({"name": literal})).send(server.address);
        refused(&reply, -32602);
    }
    // An unknown tool with such a name is an unknown tool.
    let reply = Http::modern("tools/call", json!({"name": "größe"})).set("Mcp-Name", &encoded("größe"));
    refused(&reply.send(server.address), -32602);
}

#[test]
fn a_body_without_the_name_is_told_so_rather_than_about_the_header() {
    let server = Server::shared();
    for (method, key) in [("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")] {
        for params in [json!({}), json!({key: 7}), json!({key: null})] {
            refused(&Http::modern(method, params.clone()).without("Mcp-Name").send(server.address), -32602);
            refused(&Http::modern(method, params).set("Mcp-Name", "x").send(server.address), -32602);
        }
    }
}

/// A call of the tool whose arguments headers repeat.
fn mirrored(arguments: Value, headers: &[(&str, &str)]) -> Http {
    headers.iter().fold(Http::tool("mirrored", arguments), |request, (name, value)| {
        request.header(&format!("Mcp-Param-{name}"), value)
    })
}

#[test]
fn an_argument_that_a_header_repeats_must_be_repeated() {
    let server = Server::shared();
    for (arguments, headers) in [
        (json!({}), &[][..]),
        (json!({"city": "Bonn"}), &[("City", "Bonn")]),
        (json!({"city": "Bonn"}), &[("cItY", " Bonn ")]),
        (json!({"city": ""}), &[("City", "")]),
        (json!({"city": "Köln"}), &[("City", &encoded("Köln"))]),
        (json!({"city": " Bonn"}), &[("City", &encoded(" Bonn"))]),
        (json!({"city": "=?base64?Qm9ubg==?="}), &[("City", &encoded("=?base64?Qm9ubg==?="))]),
        (json!({"city": "=?base64?Qm9ubg"}), &[("City", "=?base64?Qm9ubg")]),
        (json!({"count": 42}), &[("Count", "42")]),
        (json!({"count": 42}), &[("Count", "42.0")]),
        (json!({"count": -7}), &[("Count", "-7")]),
        (json!({"count": 9_007_199_254_740_991_i64}), &[("Count", "9007199254740991")]),
        (json!({"fast": true}), &[("Fast", "true")]),
        (json!({"fast": false}), &[("Fast", "false")]),
        (json!({"place": {"region": "Rhein"}}), &[("Region", "Rhein")]),
        (json!({"place": {}}), &[]),
        (json!({"city": "Bonn", "count": 1}), &[("City", "Bonn"), ("Count", "1"), ("Unheard-Of", "x")]),
    ] {
        let result = served(&server, &mirrored(arguments.clone(), headers));
        assert_eq!(result["isError"], Value::Null, "{arguments} {headers:?}: {result}");
    }
}

#[test]
fn an_argument_header_that_lacks_differs_or_stands_alone_is_refused() {
    let server = Server::shared();
    for (arguments, headers) in [
        (json!({"city": "Bonn"}), &[][..]),
        (json!({"city": "Bonn"}), &[("City", "bonn")]),
        (json!({"city": "Bonn"}), &[("City", "")]),
        (json!({"city": "Bonn"}), &[("City", "Bonn"), ("City", "Bonn")]),
        (json!({"city": "Bonn"}), &[("City", "=?base64?Qm9ubg?=")]),
        (json!({"city": "Köln"}), &[("City", "Köln")]),
        (json!({"city": null}), &[("City", "null")]),
        (json!({}), &[("City", "Bonn")]),
        (json!({}), &[("City", "")]),
        (json!({"count": 42}), &[]),
        (json!({"count": 42}), &[("Count", "43")]),
        (json!({"count": 42}), &[("Count", "forty-two")]),
        (json!({"count": 42}), &[("Count", "NaN")]),
        (json!({"count": 9_007_199_254_740_993_i64}), &[("Count", "9007199254740992")]),
        (json!({"count": null}), &[("Count", "0")]),
        (json!({"fast": true}), &[("Fast", "True")]),
        (json!({"fast": true}), &[("Fast", "1")]),
        (json!({"fast": true}), &[("Fast", "false")]),
        (json!({"place": {"region": "Rhein"}}), &[]),
        (json!({"place": {"region": "Rhein"}}), &[("Region", "Main")]),
        (json!({"place": {}}), &[("Region", "Rhein")]),
        (json!({"place": {"region": null}}), &[("Region", "Rhein")]),
    ] {
        let reply = mirrored(arguments.clone(), headers).send(server.address);
        assert_eq!((reply.status, reply.code()), (400, -32020), "{arguments} {headers:?}: {}", reply.text());
    }
    let nothing = mirrored(json!({"city": null, "count": null, "place": null}), &[]).send(server.address);
    // Null is for the schema to judge, not for the headers.
    assert_eq!(nothing.result()["isError"], true);
}

#[test]
fn the_name_is_checked_before_the_parameters_and_the_tool_before_its_headers() {
    let server = Server::shared();
    mismatch(&server, &Http::tool("no_such", json!({})).set("Mcp-Name", "other"));
    let unknown = Http::tool("no_such", json!({})).header("Mcp-Param-City", "Bonn");
    refused(&unknown.send(server.address), -32602);
    let both = mirrored(json!({"city": "Bonn", "count": "no number"}), &[]);
    mismatch(&server, &both);
}

#[test]
fn what_belongs_to_other_eras_is_passed_over_and_never_given_out() {
    let server = Server::shared();
    let request = Http::modern("tools/list", json!({}))
        .header("Mcp-Session-Id", "0123456789")
        .header("Last-Event-ID", "7");
    let reply = request.send(server.address);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("mcp-session-id"), None);
}
