//! Every field read and written again, every fault with its place, and what becomes of clients' files.

mod written;

use std::time::Duration;

use serde_json::json;

use super::fields::FIELDS;
use super::*;

const EVERYTHING: [&str; 4] = [
    r#"
kind = "mcp"
enabled = false
url = "https://[2001:db8::1]:8443/mcp?a=b"
transport = "http"
headers = { Authorization = "Bearer ${TOKEN}", X-Key = "file:/run/key", X-Empty = "" }
tls = { ca = "/a.pem", cert = "/b.pem", key = "/c.pem" }
proxy = false
allow_ranges = ["169.254.0.0/16", "10.0.0.1"]
isolation = "shared"
sessions_max = 3
session_idle_seconds = 4
start_timeout_seconds = 5
timeout_seconds = 6
concurrency = 7
queue_max = 0
queue_timeout_seconds = 8
response_max_bytes = 2048
breaker = { failures = 9, open_seconds = 10 }
names = "plain"
separator = "."
uri_prefix = "gh+"
instructions = "Two\nlines"
allow = ["read_*"]
deny = ["delete_*", "x[0-9]"]
hidden = true
cache_scope = "none"
front = false
[tools."create issue"]
rename = "new_issue"
description = "Makes \"one\""
annotations = { readOnlyHint = true, title = "x", more = [1, 2.5, { a = "b" }] }
hidden = false
timeout_seconds = 120
requests_per_minute = 60
burst = 5
concurrent = 2
cache_seconds = 60
cache_scope = "public"
redact = ["/card/number", "/items/*/secret", "/a~1b"]
"#,
    r#"
command = "npx"
args = ["-y", "@scope/server", "a b", ""]
cwd = "/srv"
env.TOKEN = "env:GITHUB_TOKEN"
env.EMPTY = ""
inherit_env = ["HTTP_PROXY"]
exclusive = true
[sandbox]
memory_max_bytes = 1
files_max = 0
cpu_seconds_max = 2
folders = ["/srv:ro", "/a:b:rw"]
network = false
required = true
"#,
    r#"
kind = "builtin"
timeout_seconds = 6
concurrency = 7
queue_max = 0
queue_timeout_seconds = 8
names = "prefixed"
separator = "__"
allow = ["read_*"]
deny = ["x"]
hidden = false
front = true
[tools.read]
rename = "open"
concurrent = 2
redact = ["/a"]
"#,
    r#"
kind = "bundle"
plugins = ["files", "gitlab"]
tools = ["files__read_*"]
names = "plain"
instructions = "Read."
requests_per_minute = 600
burst = 50
concurrent = 20
"#,
];

fn server(text: &str) -> McpServer {
    match parse("github", text).unwrap().kind {
        PluginKind::Mcp(server) => *server,
        other => panic!("{other:?}"),
    }
}

/// The faults of a text, `place: sentence`.
fn faults(text: &str) -> Vec<String> {
    let faults = parse("github", text).expect_err(text);
    faults.iter().map(|fault| format!("{}: {}", fault.place, fault.sentence)).collect()
}

#[test]
fn every_field_is_read_and_written_again() {
    for text in EVERYTHING {
        let file = parse("github", text).unwrap();
        let written = render(&file);
        assert_eq!(parse("github", &written).unwrap(), file, "{written}");
        assert_eq!(render(&parse("github", &written).unwrap()), written);
    }
    for field in FIELDS {
        let word = field.key.rsplit('.').find(|word| *word != "*").unwrap();
        assert!(EVERYTHING.iter().any(|text| text.contains(word)), "{} is not tried", field.key);
    }
    let read = server(EVERYTHING[0]);
    let Reach::Http(reach) = &read.reach else { panic!() };
    assert_eq!((reach.transport, reach.proxy, reach.headers.len()), (HttpTransport::Http, false, 3));
    assert_eq!(reach.headers["Authorization"].0, "Bearer ${TOKEN}");
    assert_eq!((read.isolation, read.isolation_spoken, read.sessions_max), (Isolation::Shared, true, 3));
    assert_eq!(read.limits.breaker, Breaker { failures: 9, open: Duration::from_secs(10) });
    assert_eq!((read.limits.queue_max, read.limits.timeout), (Some(0), Some(Duration::from_secs(6))));
    let tool = &read.curation.tools["create issue"];
    assert_eq!(
        tool.annotations,
        Some(json!({"readOnlyHint": true, "title": "x", "more": [1, 2.5, {"a": "b"}]}))
    );
    assert!(read.curation.hidden && !read.curation.front && tool.hidden == Some(false));
    let Reach::Stdio(reach) = server(EVERYTHING[1]).reach else { panic!() };
    let folders = vec![("/srv".into(), false), ("/a:b".into(), true)];
    let sandbox = Sandbox {
        memory_max_bytes: Some(1),
        files_max: None,
        cpu_seconds_max: Some(2),
        folders: Some(folders),
        no_network: true,
        required: true,
    };
    assert_eq!((reach.sandbox, reach.args[3].as_str(), reach.exclusive), (sandbox, "", true));
}

#[test]
fn what_is_not_said_is_the_default() {
    let read = server("url = \"http://a/mcp\"");
    assert_eq!((read.isolation, read.isolation_spoken), (Isolation::PerClient, false));
    assert_eq!((read.sessions_max, read.response_max_bytes), (64, 16 << 20));
    assert!(read.curation.front && !read.curation.plain && read.limits == PluginLimits::default());
    let read = server("command = \"x\"\ntransport = \"stdio\"");
    assert_eq!((read.isolation, read.isolation_spoken), (Isolation::Shared, false));
    let text = render(&parse("a", "kind = \"mcp\"\ncommand = \"x\"").unwrap());
    assert_eq!(text, "kind = \"mcp\"\ncommand = \"x\"\n", "only what was said");
}

#[test]
fn all_faults_are_told_at_once_each_with_its_line_and_the_nearest_field() {
    let found = faults(
        "comand = \"x\"\nurl = 5\n\n[tool.x]\n[tools.x]\nrenam = \"y\"\nhidden = \"no\"\n[sandbox]\nfolder = []\n",
    );
    for wanted in [
        "github.toml:1: there is no field comand; did you mean command?",
        "github.toml:2: url is a whole number, but takes a text",
        "github.toml:4: there is no field tool; did you mean tools?",
        "github.toml:6: there is no field tools.x.renam; did you mean tools.x.rename?",
        "github.toml:7: tools.x.hidden is \"no\", but takes true or false",
        "github.toml:9: there is no field sandbox.folder; did you mean sandbox.folders?",
    ] {
        assert!(found.iter().any(|fault| fault == wanted), "{wanted} in {found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn each_fault_says_what_to_write() {
    const URL: &str = "url = \"https://a/\"\n";
    const COMMAND: &str = "command = \"x\"\n";
    for (head, text, wanted) in [
        ("", "", "neither url nor command"),
        ("", "a = [", "not TOML"),
        (URL, "command = \"x\"", "remove one of the two"),
        (URL, "args = []", "args goes with command"),
        (URL, "env = { A = \"b\" }", "env.A goes with command"),
        (URL, "exclusive = true", "exclusive goes with command"),
        (COMMAND, "exclusive = true\nisolation = \"per_client\"", "one for each client"),
        (COMMAND, "headers = { A = \"b\" }", "headers.A goes with url"),
        (COMMAND, "proxy = false", "proxy goes with url"),
        (URL, "transport = \"stdio\"", "goes with command"),
        (COMMAND, "transport = \"sse\"", "goes with url"),
        (URL, "transport = \"htp\"", "did you mean http?"),
        ("", "url = \"ftp://a/\"", "neither https:// nor http://"),
        ("", "url = \"https://u:pass@a/\"", "a user before its host"),
        ("", "url = \"a b\"", "is no URL"),
        ("", "url = \"/mcp\"", "is no URL"),
        ("", "url = \"https://a:99999/\"", "port"),
        ("", "url = \"https://a/#x\"", "after #"),
        ("", "url = \"https://a/?key=${KEY}\"", "secrets belong into headers"),
        ("", "command = \"./x\"", "whole path"),
        ("", "command = \"npx -y x\"", "go into args"),
        (COMMAND, "cwd = \"srv\"", "whole path"),
        (COMMAND, "env = { \"A B\" = \"\" }", "no name of a variable"),
        (COMMAND, "env = { A = \"${B\" }", "that no } closes"),
        (COMMAND, "env = { A = \"${WAYGATE_API_KEY}\" }", "Waygate's own"),
        (COMMAND, "env = { A = \"file:x\" }", "whole path"),
        (COMMAND, "env = { A = 5 }", "env.A is a whole number, but takes a text"),
        (COMMAND, "env = []", "takes a table"),
        (COMMAND, "inherit_env = [\"WAYGATE_API_KEY\"]", "Waygate's own"),
        (COMMAND, "inherit_env = [\"A=secret\"]", "inherit_env has \"A\""),
        (COMMAND, "sandbox = { folders = [\"srv:ro\"] }", "/path:ro or /path:rw"),
        (COMMAND, "sandbox = { folders = [\"/srv\"] }", "/path:ro or /path:rw"),
        (COMMAND, "sandbox = 1", "takes a table with memory_max_bytes"),
        (URL, "headers = { \"a b\" = \"\" }", "no name of a header"),
        (URL, "headers = { Mcp-Session-Id = \"x\" }", "Waygate's own to say"),
        (URL, "headers = { content-type = \"x\" }", "Waygate's own to say"),
        (URL, "headers = { A = \"x\", a = \"y\" }", "stands twice"),
        (URL, "headers = { A = \"x\\ny\" }", "no header can carry"),
        (URL, "tls = { ca = \"a.pem\" }", "whole path"),
        (URL, "tls = { cert = \"/a.pem\" }", "goes with tls.key"),
        ("", "url = \"http://a/\"\ntls = { ca = \"/a\" }", "goes with https://"),
        (URL, "allow_ranges = [\"10.0.0.0/33\"]", "allow_ranges has"),
        (URL, "timeout_seconds = 0", "from 1 to 86400 (seconds)"),
        (URL, "allow = [\"a[\"]", "no glob"),
        (URL, "deny = [\"\"]", "empty glob"),
        (URL, "tools.x.rename = \"a.b\"", "1 to 64 letters"),
        (URL, "tools.x.rename = \"a\"\ntools.y.rename = \"a\"", "another tool"),
        (URL, "tools.x.annotations = { readOnlyHint = \"yes\" }", "takes true or false"),
        (URL, "tools.x.annotations = { a = 1979-05-27 }", "a date"),
        (
            URL,
            "tools.pay.redact = [\"card\"]",
            "github.toml:2: tools.pay.redact has \"card\", which is no JSON pointer",
        ),
        (URL, "tools.pay.redact = [\"/a\", \"/b~\"]", "/ as ~1; write one as /card/number"),
        (URL, "tools.pay.redact = \"/card\"", "tools.pay.redact is \"/card\", but takes a list of strings"),
        (URL, "tools = [\"x\"]", "says `allow`"),
        (URL, "plugins = [\"x\"]", "write kind = \"bundle\""),
        (URL, "uri_prefix = \"a b\"", "blanks"),
        (URL, "enabled = true\nenabled = false", "not TOML"),
        ("", "kind = \"bundel\"", "did you mean bundle?"),
        ("kind = \"bundle\"\n", "", "neither plugins nor tools"),
        ("kind = \"bundle\"\n", "plugins = [\"a\", \"a\"]", "twice"),
        ("kind = \"bundle\"\n", "plugins = [\"github\"]", "itself"),
        ("kind = \"bundle\"\n", "plugins = [\"a__b*\"]", "no name of a plugin"),
        ("kind = \"bundle\"\n", "tools = [\"a[\"]", "no glob"),
        ("kind = \"bundle\"\nplugins = [\"a\"]\n", "burst = 5", "goes with requests_per_minute"),
        (URL, "[tools.x]\nburst = 5", "goes with tools.x.requests_per_minute"),
        ("kind = \"bundle\"\n", "plugins = [\"a\"]\nurl = \"https://a/\"", "write kind = \"mcp\""),
        (
            "kind = \"builtin\"\n",
            "command = \"x\"",
            "belongs to an MCP server, and this is a built-in plugin",
        ),
        ("kind = \"builtin\"\n", "uri_prefix = \"x\"", "belongs to an MCP server"),
        ("kind = \"builtin\"\n", "plugins = [\"x\"]", "write kind = \"bundle\""),
        ("kind = \"builtin\"\n", "enabled = false", "is not turned off here"),
        ("kind = \"builtin\"\n", "allow = [\"a[\"]", "no glob"),
        ("kind = \"builtin\"\n", "[tools.x]\nburst = 5", "goes with tools.x.requests_per_minute"),
    ] {
        let found = faults(&format!("{head}{text}"));
        assert!(found.iter().any(|fault| fault.contains(wanted)), "{text}: {wanted} in {found:#?}");
        assert!(
            !found.iter().any(|fault| fault.contains("secret\"") || fault.contains("pass@")),
            "{found:#?}"
        );
    }
}

#[test]
fn names_are_short_and_not_those_of_the_built_in_plugins() {
    let longest = "a".repeat(32);
    for good in ["a", "0-_", "github", longest.as_str()] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    let long = "a".repeat(33);
    for bad in ["", "-a", "_a", "A", "a.b", "a/b", "ä", "files", "waygate", "system", "reload", long.as_str()]
    {
        assert!(check_name(bad).is_err(), "{bad}");
        assert!(parse(bad, "url = \"http://a/\"").is_err(), "{bad}");
    }
}

#[test]
fn a_file_of_a_built_in_plugin_may_have_its_name_and_says_only_what_is_different() {
    for name in ["files", "system", "waygate", "whatever.an embedder calls it"] {
        let file = parse(name, "kind = \"builtin\"\nenabled = true").unwrap();
        assert_eq!(file.kind, PluginKind::Builtin(Box::default()), "{name}");
        assert_eq!(render(&file), "kind = \"builtin\"\n");
    }
    let said = parse("files", "kind = \"builtin\"\nhidden = false\n[tools.x]\ncache_seconds = 5").unwrap();
    let PluginKind::Builtin(tuning) = said.kind else { panic!("{said:?}") };
    assert_eq!((tuning.hidden, tuning.front, tuning.plain), (Some(false), None, None));
    assert_eq!(tuning.tools["x"].cache, Some(Duration::from_secs(5)));
}

fn one(text: &str) -> (String, Vec<String>) {
    let imports = import(text).unwrap();
    let [server] = imports.servers.as_slice() else { panic!("{imports:?}") };
    let rendered = server.outcome.as_ref().map_or_else(ToString::to_string, render);
    (rendered, server.warnings.clone())
}

#[test]
fn files_of_every_client_become_plugins() {
    let claude = r#"{"mcpServers": {"everything": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything", 5], "env": {"A": "${B}", "N": 1}}}}"#;
    let text = "kind = \"mcp\"\ncommand = \"npx\"\nargs = [\"-y\", \"@modelcontextprotocol/server-everything\", \"5\"]\nenv = { A = \"${B}\", N = \"1\" }\n";
    assert_eq!(one(claude), (text.to_owned(), vec![]));
    let http = |kind: &str| {
        format!(
            r#"{{"mcpServers": {{"a": {{"type": "{kind}", "url": "https://a/mcp", "headers": {{"Authorization": "Bearer ${{env:T}}"}}}}}}}}"#
        )
    };
    for (kind, line) in [
        ("http", "transport = \"http\"\n"),
        ("streamable-http", "transport = \"http\"\n"),
        ("sse", "transport = \"sse\"\n"),
    ] {
        let text = format!(
            "kind = \"mcp\"\nurl = \"https://a/mcp\"\n{line}headers = {{ Authorization = \"Bearer ${{T}}\" }}\n"
        );
        assert_eq!(one(&http(kind)), (text, vec![]), "{kind}");
    }
    for same in [
        r#"{"a": {"url": "https://a/mcp"}}"#,
        "{\"servers\": {\"a\": {\"url\": \"https://a/mcp\", /* x */ },}, \"inputs\": []} // end",
        r#"{"mcp": {"servers": {"a": {"url": "https://a/mcp"}}}, "editor.fontSize": 1}"#,
        r#"{"mcpServers": {"a": {"serverUrl": "https://a/mcp", "headers": null}}}"#,
    ] {
        assert_eq!(one(same), ("kind = \"mcp\"\nurl = \"https://a/mcp\"\n".to_owned(), vec![]), "{same}");
    }
    let (text, _) = one(r#"{"mcpServers": {"a": {"command": "x", "disabled": true}}}"#);
    assert_eq!(text, "kind = \"mcp\"\nenabled = false\ncommand = \"x\"\n");
}

#[test]
fn what_cannot_be_imported_is_told_with_advice_and_hurts_nothing_else() {
    let text = r#"{"mcpServers": {
        "My Server!": {"command": "x", "env": {"API_KEY": "hunter2"}, "timeout": 5, "autoApprove": []},
        "my-server": {"command": "y"},
        "files": {"url": "https://a/"},
        "ask": {"url": "https://a/", "headers": {"A": "${input:token}"}},
        "fallback": {"command": "x", "env": {"A": "${B:-hunter2}", "C": "${workspaceFolder}/x", "D": "file:./dev.db"}},
        "words": {"command": "x", "args": ["${HOME}/x"]},
        "socket": {"type": "ws", "url": "https://a/"},
        "odd": 5,
        "empty": {},
        "good": {"command": "x"}
    }, "theme": "dark"}"#;
    let imports = import(text).unwrap();
    let by = |was: &str| imports.servers.iter().find(|server| server.was == was).unwrap();
    let why = |was: &str| by(was).outcome.as_ref().unwrap_err().on_one_line();
    assert_eq!((by("My Server!").name.as_str(), by("files").name.as_str()), ("my-server", "files-mcp"));
    let warnings = by("My Server!").warnings.join("\n");
    for wanted in ["timeout_seconds", "autoApprove", "env.API_KEY stands in the file", "is called my-server"]
    {
        assert!(warnings.contains(wanted), "{wanted} in {warnings}");
    }
    for (was, wanted) in [
        ("my-server", "as My Server! does"),
        ("ask", "VS Code asks its user for \"token\""),
        ("fallback", "no value in place of a variable"),
        ("fallback", "only an editor knows"),
        ("fallback", "begins as a reference"),
        ("words", "nothing is put into arguments"),
        ("socket", "Waygate speaks no \"ws\""),
        ("odd", "no object"),
        ("empty", "neither url nor command"),
    ] {
        assert!(why(was).contains(wanted), "{was}: {}", why(was));
    }
    assert!(by("good").outcome.is_ok() && imports.warnings == ["the file's theme were not looked at"]);
    assert!(!format!("{imports:?}").contains("hunter2"));
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"a": 1}"#,
        r#"{"mcpServers": {}}"#,
        r#"{"mcpServers": []}"#,
        r#"{"command": "x"}"#,
    ] {
        assert!(import(bad).is_err(), "{bad}");
    }
}
