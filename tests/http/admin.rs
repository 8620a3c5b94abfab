//! The admin API: keys over HTTP, with an admin key or as the user whose server this is.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::keys::{OWN, becomes, create, id_of, with};
use crate::support::{Http, Reply, Server};

fn admin(server: &Server, key: &str, head: &str, body: Option<Value>) -> Reply {
    let mut request = Http { head: head.to_owned(), ..Http::get("/") };
    if let Some(body) = body {
        request = request.header("Content-Type", "application/json");
        request.body = body.to_string().into_bytes();
    }
    with(key, request).send(server.address)
}

#[test]
fn a_key_is_made_shown_rotated_revoked_and_deleted_and_each_holds_at_once() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    let form = json!({"name": "app", "owner": "Ada", "expires": "90d", "allow": ["echo*"],
                      "limits": {"requestsPerMinute": 60, "burst": 5, "concurrent": 2}});
    let made = admin(&server, OWN, "POST /admin/api/keys", Some(form));
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{}", made.text());
    let made = made.json();
    let (id, secret) =
        (made["key"]["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned());
    assert_eq!((&made["key"]["limits"]["burst"], &made["key"]["scopes"]), (&json!(5), &json!(["mcp"])));
    assert!(made["key"]["expiresAt"].is_string() && id_of(&secret) == id);
    let list = |key: &str| with(key, Http::modern("tools/list", json!({}))).send(server.address);
    assert_eq!(list(&secret).status, 200, "it holds at once");
    let listed = admin(&server, OWN, "GET /admin/api/keys", None);
    assert!(!listed.text().contains(&secret[13..]) && listed.text().contains(&id), "{}", listed.text());
    assert_eq!(admin(&server, OWN, &format!("GET /admin/api/keys/{id}"), None).json()["key"]["name"], "app");
    let rotated =
        admin(&server, OWN, &format!("POST /admin/api/keys/{id}/rotate"), Some(json!({"grace": "1h"})));
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let rotated = rotated.json();
    let next = rotated["secret"].as_str().unwrap();
    assert_eq!((list(&secret).status, list(next).status), (200, 200));
    assert_eq!(rotated["others"], json!([id]));
    let next_id = rotated["key"]["id"].as_str().unwrap();
    assert_eq!(rotated["key"]["tools"]["allow"], json!(["echo*"]));
    let revoked = admin(&server, OWN, &format!("POST /admin/api/keys/{next_id}/revoke"), None);
    assert_eq!((revoked.status, &revoked.json()["others"]), (200, &json!([id])), "{}", revoked.text());
    assert_eq!((list(&secret).status, list(next).status), (401, 401));
    let deleted = admin(&server, OWN, &format!("DELETE /admin/api/keys/{id}"), None);
    assert_eq!((deleted.status, &deleted.json()["secret"]), (200, &Value::Null));
    assert_eq!(admin(&server, OWN, &format!("GET /admin/api/keys/{id}"), None).status, 404);
    assert!(
        !server.log().contains(&secret[13..]) && server.log().contains("keys/create"),
        "{}",
        server.log()
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let server = Server::with("faulty_server", &[("WAYGATE_API_KEY", OWN)]);
    for (body, says) in [
        (json!({"name": "a\u{1b}[2J"}), "cannot be seen"),
        (json!({"name": "a", "scope": ["mcp"]}), "scopes"),
        (json!({"name": "a", "scopes": ["root"]}), "ops:read"),
        (json!({"name": "a", "expires": "yesterday"}), "90d"),
        (json!({"name": "a", "allow": ["[a"]}), "no glob"),
        (json!({"name": "a", "limits": {"burst": 1}}), "set one"),
        (json!({}), "name"),
        (json!([1]), "not what is taken"),
        (json!(["n"]), "expected a JSON object"),
        (json!(["n", null, null, ["admin"]]), "expected a JSON object"),
        (json!({"name": "n", "limits": [60, 2, 1]}), "expected a JSON object"),
    ] {
        let reply = admin(&server, OWN, "POST /admin/api/keys", Some(body));
        assert!(reply.status == 400 && reply.text().contains(says), "{says}: {}", reply.text());
    }
    let big = admin(&server, OWN, "POST /admin/api/keys", Some(json!({"name": "x".repeat(5 << 20)})));
    assert_eq!(big.status, 413);
    for head in [
        "POST /admin/api/keys/nobody/revoke",
        "DELETE /admin/api/keys/nobody",
        "POST /admin/api/keys/nobody/rotate",
    ] {
        let reply = admin(&server, OWN, head, None);
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].as_str()),
            (404, Some("not_found")),
            "{head}"
        );
    }
    let reply = admin(&server, OWN, "PUT /admin/api/keys", None);
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, POST")));
    assert_eq!(admin(&server, OWN, "GET /admin/api", None).status, 404);
}

#[test]
fn only_an_admin_key_or_the_user_of_the_server_makes_keys() {
    let server = Server::start("faulty_server");
    // On a server that is open to everybody, nobody is known to be the operator.
    let open = admin(&server, "", "POST /admin/api/keys", Some(json!({"name": "mine", "scopes": ["admin"]})));
    assert!(open.status == 403 && open.text().contains("keys create"), "{}", open.text());
    let body = json!({"name": "first", "scopes": ["admin"]}).to_string();
    let mut socket = UnixStream::connect(server.folder.join("data/waygate.sock")).unwrap();
    let head = "POST /admin/api/keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json";
    write!(socket, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let made: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let first = made["secret"].as_str().unwrap();
    assert_eq!(admin(&server, "", "GET /admin/api/keys", None).status, 401, "it closed the server");
    assert_eq!(admin(&server, first, "GET /admin/api/keys", None).status, 200);
    let plain = create(&server, &["plain"]);
    becomes(&server, &plain, 200);
    for head in [
        "GET /admin/api/keys",
        "POST /admin/api/keys",
        "DELETE /admin/api/keys/x",
        "POST /admin/api/keys/x/revoke",
    ] {
        assert_eq!(admin(&server, &plain, head, None).status, 403, "{head}");
    }
}
