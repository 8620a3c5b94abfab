//! Servers behind plugins that misbehave in every way that was ever seen: the caller learns what happened, the operator
//! finds it in `/plugins`, and the plugin next door does not notice.

mod announcing;
mod answering;
mod bulkheads;
mod cancelling;
mod connecting;
mod killing;
mod listing;
mod modern;
mod old_transport;
mod operator;
mod processes;
mod recording;
mod reloading;
mod remote_lists;
mod scripted;
mod sessions;
mod shelves;
mod starting;
mod telling;

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Http, Open, Reply, Server, eventually};

/// What every house has beside the hostile plugin.
const NEIGHBOUR: &str = "neighbour";

/// The real program with plugin files, one of them the neighbour's.
struct House {
    server: Server,
    root: TempDir,
}

/// Says on the end of a test, be it a failed one, that whoever runs beside it shall end.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The interpreter itself: what stands in PATH may be a script that only looks for it.
fn python() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let says = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        String::from_utf8(says.expect("python3 runs").stdout).expect("a path").trim().to_owned()
    })
}

/// The file of a plugin that is the hostile server in a mode.
fn hostile(mode: &str, more: &str) -> String {
    hostile_with(mode, "", more)
}

fn hostile_with(mode: &str, argument: &str, more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hostile_server.py");
    format!("command = {:?}\nargs = [{script:?}, {mode:?}, {argument:?}]\n{more}\n", python())
}

/// The file of a plugin that is reached by HTTP.
fn remote(url: &str, more: &str) -> String {
    format!("url = {url:?}\n{more}\n")
}

impl House {
    /// Starts it, and waits for the neighbour.
    fn with(plugins: &[(&str, String)]) -> Self {
        Self::under(&[], plugins)
    }

    fn under(settings: &[(&str, &str)], plugins: &[(&str, String)]) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("plugins")).expect("a folder");
        write(&root, NEIGHBOUR, &hostile("good", ""));
        for (name, text) in plugins {
            write(&root, name, text);
        }
        let path = std::env::var("PATH").expect("a PATH");
        let settings = [&[("PATH", path.as_str())], settings].concat();
        let server = Server::on("waygate-mcp", root.path(), &settings);
        let house = Self { server, root };
        house.is_ready(NEIGHBOUR);
        house
    }

    /// What the operator sees of a plugin.
    fn plugin(&self, name: &str) -> Value {
        self.server.get(&format!("/plugins/{name}")).1
    }

    #[track_caller]
    fn is_ready(&self, name: &str) {
        eventually(&format!("{name} is ready"), || (self.plugin(name)["state"] == "ready").then_some(()));
    }

    /// Waits until the operator is told this of a plugin that is not ready.
    #[track_caller]
    fn is_not_ready_because(&self, name: &str, why: &str) -> Value {
        eventually(&format!("{name} is not ready: {why}"), || {
            let shown = self.plugin(name);
            let says = shown["why"].as_str().is_some_and(|says| says.contains(why));
            (says && shown["state"] != "ready").then_some(shown)
        })
    }

    fn call(&self, tool: &str, arguments: Value) -> Reply {
        self.server.call("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Sends a call and does not wait for its answer.
    fn begin(&self, tool: &str, arguments: Value) -> Open {
        Http::tool(tool, arguments).open(self.server.address)
    }

    /// The text of a call that must succeed.
    #[track_caller]
    fn says(&self, tool: &str, arguments: Value) -> String {
        let reply = self.call(tool, arguments);
        assert_eq!(reply.status, 200, "{tool}: {}", reply.text());
        text_of(&reply)
    }

    /// A call that must fail with this status, and say this.
    #[track_caller]
    fn fails(&self, tool: &str, arguments: Value, status: u16, says: &str) -> Reply {
        let reply = self.call(tool, arguments);
        assert_eq!(reply.status, status, "{tool}: {}", reply.text());
        let message = reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(says), "{tool}: {message}");
        reply
    }

    /// The plugin next door serves, and was never away.
    #[track_caller]
    fn neighbour_is_well(&self) {
        assert_eq!(self.says("neighbour__say", json!({"text": "well"})), "well");
        let shown = self.plugin(NEIGHBOUR);
        assert_eq!((&shown["state"], &shown["restarts"]), (&json!("ready"), &json!(0)), "{shown}");
    }

    /// Writes a plugin's file anew.
    fn describe(&self, name: &str, text: &str) {
        write(&self.root, name, text);
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.root.path().join(format!("plugins/{name}.toml"))).expect("it was there");
    }

    /// Has the files read anew, and gives the report.
    fn reload(&self) -> Value {
        let request = Http { head: "POST /plugins/reload".to_owned(), ..Http::post("") };
        let reply = request.send(self.server.address);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// All published tools, page by page.
    fn tools(&self) -> Vec<Value> {
        let (mut tools, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
            let page = self.server.call("tools/list", params).result();
            tools.extend(page["tools"].as_array().expect("a list").iter().cloned());
            cursor = page["nextCursor"].clone();
            if cursor.is_null() {
                return tools;
            }
        }
    }

    /// The names of those of one plugin.
    fn names_of(&self, plugin: &str) -> Vec<String> {
        let tools = self.tools();
        let names = tools.iter().filter_map(|tool| tool["name"].as_str());
        names.filter(|name| name.starts_with(&format!("{plugin}__"))).map(str::to_owned).collect()
    }
}

/// A file appears whole: the house watches its folder.
fn write(root: &TempDir, name: &str, text: &str) {
    let whole = root.path().join(format!("{name}.new"));
    fs::write(&whole, text).expect("a file");
    fs::rename(whole, root.path().join(format!("plugins/{name}.toml"))).expect("a file");
}

fn text_of(reply: &Reply) -> String {
    reply.result()["content"][0]["text"].as_str().expect("a text").to_owned()
}
