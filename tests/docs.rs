//! What the documents list is what there is: every metric, every error code, every setting's page that is pointed at.
//!
//! `WAYGATE_BLESS=1 cargo test --test docs` writes anew the tables of metrics, of the doctor's checks and of acts, and the page of the
//! command line.

#[cfg(test)]
#[path = "support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use waygate_mcp::storage::acts;
use waygate_mcp::telemetry::metrics::TABLE;

use support::generated::hold;
use support::{Server, codes};

const BEGIN: &str = "<!-- metrics: made from the table in src/telemetry/metrics.rs -->\n";
const END: &str = "<!-- /metrics -->";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

const CHECKS_BEGIN: &str = "<!-- checks: made from the table in src/cli/doctor/table.rs -->\n";
const CHECKS_END: &str = "<!-- /checks -->";

fn metrics_table() -> String {
    let mut text = String::from("\n| Metric | Kind | Labels | What it tells |\n|---|---|---|---|\n");
    for (name, kind, labels, help) in TABLE {
        let kind = kind.trim_start_matches("Int").trim_end_matches("Vec").to_lowercase();
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _infallible = writeln!(text, "| `{name}` | {kind} | {} | {} |", labels.join(", "), help.trim());
    }
    text + "\n"
}

#[test]
fn every_metric_is_documented() {
    hold("docs/operations.md", (BEGIN, END), &metrics_table());
}

#[test]
fn the_page_of_the_command_line_is_made_from_it() {
    let (page, made) = (path("docs/cli.md"), waygate_mcp::cli::cli_md());
    if std::env::var_os("WAYGATE_BLESS").is_some() {
        fs::write(&page, &made).unwrap();
    }
    let there = fs::read_to_string(&page).unwrap_or_default();
    assert!(there == made, "docs/cli.md is out of date: run this test with WAYGATE_BLESS=1");
}

#[test]
fn every_check_of_the_doctor_is_documented() {
    let mut text = String::from("\n| Check | What it looks at | What `--fix` mends |\n|---|---|---|\n");
    for (id, looks_at, fixes) in waygate_mcp::cli::doctor_checks() {
        let _infallible = writeln!(text, "| `{id}` | {looks_at} | {fixes} |");
    }
    hold("docs/doctor.md", (CHECKS_BEGIN, CHECKS_END), &(text + "\n"));
}

#[test]
fn every_act_is_documented() {
    let mut text = String::from("\n| Act | When |\n|---|---|\n");
    for (names, when) in acts::TABLE {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let _infallible = writeln!(text, "| {} | {when} |", names.join(", "));
    }
    let begin = "<!-- acts: made from the table in src/storage/acts.rs -->\n";
    hold("docs/operations.md", (begin, "<!-- /acts -->"), &(text + "\n"));
}

/// The names in what the program calls its acts, as they stand in its source: who adds one there and not in the table is found.
#[test]
fn the_table_of_acts_has_all_that_the_program_records_and_nothing_else() {
    let mut named = std::collections::BTreeSet::new();
    for (file, begins) in [("src/storage/acts.rs", "pub const "), ("src/access/keys/act.rs", "Self::")] {
        let source = fs::read_to_string(path(file)).unwrap();
        let lines = source.lines().map(str::trim).filter(|line| line.starts_with(begins));
        let names = lines.filter_map(|line| line.split('"').nth(1)).filter(|name| name.contains('/'));
        named.extend(names.map(str::to_owned));
    }
    let told = acts::TABLE.iter().flat_map(|(names, _)| names.iter()).map(|name| (*name).to_owned());
    assert_eq!(named, told.collect());
    assert!(named.len() > 20, "{named:?}");
}

/// Whoever records an act does so by its name in the table.
#[test]
fn no_act_is_recorded_by_a_name_of_its_own() {
    let files = sources(&path("src"));
    assert!(files.len() > 100, "the sources are found: {}", files.len());
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for begin in ["Act::done(\"", "name: \""] {
            let own = source.split(begin).skip(1).filter_map(|rest| rest.split('"').next());
            let own: Vec<&str> = own.filter(|name| name.contains('/')).collect();
            assert!(own.is_empty(), "{}: {own:?}", file.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let rules = fs::read_to_string(path("packaging/prometheus/alerts.yml")).unwrap();
    let dashboard = fs::read_to_string(path("packaging/grafana/waygate.json")).unwrap();
    let mut asked = 0;
    for word in rules
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .chain(dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
    {
        if !word.starts_with("waygate_") && !word.starts_with("process_") {
            continue;
        }
        let known = TABLE.iter().any(|(name, kind, ..)| {
            let rest = word.strip_prefix(name);
            rest == Some("")
                || kind.starts_with("Histogram") && matches!(rest, Some("_bucket" | "_sum" | "_count"))
        });
        assert!(known, "packaging/ asks for {word}, which is not in src/telemetry/metrics.rs");
        asked += 1;
    }
    assert!(asked > 40, "{asked}");
}

#[test]
fn every_error_code_is_documented() {
    let text = fs::read_to_string(path("docs/protocol.md")).unwrap();
    for code in codes::all() {
        let begins = format!("| {} | `{}` | ", code.rpc(), code.name());
        assert!(
            text.lines().any(|line| line.starts_with(&begins)),
            "docs/protocol.md lacks a line {begins:?}"
        );
    }
}

#[test]
fn every_link_to_a_file_or_a_heading_leads_to_one() {
    for page in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/operations.md",
        "docs/runbook.md",
        "docs/doctor.md",
        "docs/backup.md",
        "docs/keys.md",
        "docs/limits.md",
        "docs/loadtest.md",
        "docs/protocol.md",
        "docs/plugins.md",
        "docs/plugin-files.md",
        "docs/cli.md",
        "docs/clients.md",
        "docs/tls.md",
        "docs/behind-a-proxy.md",
        "SECURITY.md",
    ] {
        let text = fs::read_to_string(path(page)).unwrap();
        let folder = path(page).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://")) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { path(page) } else { folder.join(file) };
            assert!(file.exists(), "{page} points at {link}, which is not there");
            if !place.is_empty() {
                let there = places(&fs::read_to_string(file).unwrap());
                assert!(
                    there.iter().any(|known| known == place),
                    "{page} points at {link}, which is no heading"
                );
            }
        }
    }
}

/// What the headings of a page are called in links to them.
fn places(page: &str) -> Vec<String> {
    let is_kept = |char: &char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_');
    let name =
        |heading: &str| heading.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-");
    page.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| name(line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn the_tool_that_asks_is_the_example_and_works() {
    let example = fs::read_to_string(path("examples/greet.rs")).unwrap();
    let page = fs::read_to_string(path("docs/plugins.md")).unwrap();
    assert!(
        page.contains(&format!("```rust\n{}\n```", example.trim_end())),
        "docs/plugins.md shows another greet.rs"
    );
    let server = Server::start("greet");
    let asked = server.tool("greet", json!({}));
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["inputRequests"]["name"]["method"], "elicitation/create");
    let mut again = json!({
        "name": "greet",
        "arguments": {},
        "inputResponses": {"name": {"action": "accept", "content": {"name": "Ada"}}},
    });
    again["requestState"] = asked["requestState"].clone();
    let reply = server.call("tools/call", again);
    assert_eq!(reply.json()["result"]["content"][0]["text"], "Hello, Ada!", "{}", reply.text());
}
