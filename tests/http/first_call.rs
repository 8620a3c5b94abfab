//! The first call of a new user.

use serde_json::json;

use crate::support::Server;

#[test]
fn a_tool_gives_back_what_it_was_given() {
    let server = Server::start("echo");
    let result = server.tool("echo", json!({"message": "hello"}));
    assert_eq!(result["content"][0]["text"], "hello");
    assert_eq!(result["resultType"], "complete");
}
