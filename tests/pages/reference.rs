//! What the runbook names is what there is: each command with its options, setting, variable, metric, alert, URL and code; and each of
//! its tables is made from the program or held against it.
//!
//! `WAYGATE_BLESS=1 cargo test --test pages` writes the tables anew that are made.

use std::fmt::Write as _;
use std::process::Command;

use waygate_mcp::cli;
use waygate_mcp::config::settings::{Fallback, NOT_YET, SECTIONS, SETTINGS, Setting};
use waygate_mcp::telemetry::metrics;

use crate::blocks::{blocks, path, read};
use crate::commands;
use crate::runbook::PAGE;
use crate::support::{Http, Server, codes, generated::hold};

const COMMANDS: (&str, &str) = ("<!-- commands: made from the command line -->\n", "<!-- /commands -->");

/// A table of the page, its cells without the space around them.
struct Table {
    line: usize,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn tables(text: &str) -> Vec<Table> {
    let mut found: Vec<Table> = Vec::new();
    let mut is_in = false;
    for (number, line) in text.lines().enumerate() {
        if !line.starts_with("| ") && !line.starts_with("|-") {
            is_in = false;
        } else if !is_in {
            is_in = true;
            found.push(Table { line: number + 1, head: cells(line), rows: Vec::new() });
        } else if !line.starts_with("|-") {
            found.last_mut().unwrap().rows.push(cells(line));
        }
    }
    found
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn plain(cell: &str) -> &str {
    cell.trim_matches('`')
}

/// All code of the page: what stands in a line between backticks, and the blocks of commands; what was made of the command line
/// itself apart.
fn code() -> Vec<String> {
    let text = read(PAGE);
    let (before, rest) = text.split_once(COMMANDS.0).unwrap();
    let text = before.to_owned() + rest.split_once(COMMANDS.1).unwrap().1;
    let mut found: Vec<String> =
        blocks(&text).into_iter().filter(|block| block.is_command()).map(|block| block.text).collect();
    let mut is_prose = true;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_prose = !is_prose;
        } else if is_prose {
            prose += line;
            prose.push(if line.is_empty() || line.starts_with('|') { '\n' } else { ' ' });
        }
    }
    found.extend(prose.lines().flat_map(spans).map(str::to_owned));
    found
}

/// Every piece of the code that could be a name: of a setting, a variable, a metric, an alert.
fn names(code: &[String]) -> impl Iterator<Item = &str> {
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '.' || char == '-';
    code.iter()
        .flat_map(move |text| text.split(move |char| !is_of_name(char)))
        .map(|name| name.trim_matches('.'))
}

fn help_of(script: &str) -> String {
    let output = Command::new(path("scripts").join(script)).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The commands of `waygate-ctl`, as its help tells them: the command with its options, and what it does.
pub fn ctl_commands() -> Vec<(String, String)> {
    let help = help_of("waygate-ctl");
    let lines = help.lines().skip(2).take_while(|line| !line.is_empty());
    lines
        .map(|line| line.trim().split_once("  ").unwrap())
        .map(|(a, b)| (a.to_owned(), b.trim().to_owned()))
        .collect()
}

/// The alerts: severity, name, what it says and what to begin with.
fn alerts() -> Vec<[String; 4]> {
    let rules = read("packaging/prometheus/alerts.yml");
    let value = |rest: &str| rest.trim_matches('"').replace(" at {{ $labels.instance }}", "");
    let mut found: Vec<[String; 4]> = Vec::new();
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            found.push(["".to_owned(), name.to_owned(), "".to_owned(), "".to_owned()]);
        } else if let Some(rest) = line.strip_prefix("labels: { severity: ") {
            found.last_mut().unwrap()[0] = rest.trim_end_matches(" }").to_owned();
        } else if let Some(rest) = line.strip_prefix("summary: ") {
            found.last_mut().unwrap()[2] = varying(&value(rest), "…").replace("…B ", "… ");
        } else if let Some(rest) = line.strip_prefix("action: ") {
            found.last_mut().unwrap()[3] = varying(&value(rest), "NAME");
        }
    }
    found.sort_by(|a, b| a[0].cmp(&b[0]));
    found
}

/// The text of a template with this in the place of what it fills in.
fn varying(text: &str, with: &str) -> String {
    let mut pieces = text.split("{{");
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for (_, rest) in pieces.map(|piece| piece.split_once("}}").unwrap()) {
        filled += with;
        filled += rest;
    }
    filled
}

fn is_metric(name: &str) -> bool {
    metrics::TABLE.iter().any(|(known, kind, ..)| {
        let rest = name.strip_prefix(known);
        rest == Some("")
            || kind.starts_with("Histogram") && matches!(rest, Some("_bucket" | "_sum" | "_count"))
    })
}

fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn default_of(setting: &Setting) -> String {
    match setting.fallback {
        Fallback::Unset => "none".to_owned(),
        Fallback::Is(text) | Fallback::ByMode { local_vm: text, .. } => format!("`{text}`"),
    }
}

/// The server asked whether there is something at each URL that the page names.
fn assert_urls(code: &[String]) {
    let server = Server::start("waygate-mcp");
    let roots = ["dev", "etc", "mnt", "opt", "proc", "run", "srv", "tmp", "usr", "var"];
    let mut asked = 0;
    for word in code.iter().flat_map(|text| commands::of(text)).flatten() {
        let local = ["http://127.0.0.1:8000", "http://localhost", "localhost:8000"];
        let word = local.iter().find_map(|begin| word.strip_prefix(begin)).unwrap_or(&word);
        let target = word.split('?').next().unwrap_or_default();
        let Some(first) = target.strip_prefix('/').and_then(|rest| rest.split('/').next()) else { continue };
        if first.is_empty() || first.starts_with('$') || roots.contains(&first) {
            continue;
        }
        let reply =
            Http::get(&target.replace("{name}", "files").replace("NAME", "files")).send(server.address);
        assert!(!reply.text().contains("there is nothing at"), "{PAGE} names {target}, which is not served");
        asked += 1;
    }
    assert!(asked >= 10, "only {asked} URLs were asked for");
}

/// What of a script's commands in this code it does not know.
fn unknown_to(script: &str, help: &str, code: &str) -> Vec<String> {
    let mut unknown = Vec::new();
    for words in commands::of_program(code, script) {
        let said = |word: &str| help.split_whitespace().any(|known| known.trim_matches(['[', ']']) == word);
        let is_verb = |at: usize| script == "waygate-ctl" && at == 1;
        let mut of_it = words.iter().enumerate().filter(|(at, word)| is_verb(*at) || word.starts_with('-'));
        if !of_it.all(|(at, word)| said(word) && (!is_verb(at) || help.contains(&format!("\n  {word} ")))) {
            unknown.push(words.join(" "));
        }
    }
    unknown
}

#[test]
fn every_command_that_it_names_can_be_typed() {
    let (mut count, mut wrong) = (0, Vec::new());
    let verbs = cli::verbs();
    let helps = ["waygate-ctl", "backup.sh"].map(|script| (script, help_of(script)));
    for text in &code() {
        for words in commands::of_program(text, "waygate-mcp") {
            wrong.extend(cli::read_line(&words).err().map(|why| format!("`{}`: {why}", words.join(" "))));
            count += 1;
        }
        wrong.extend(helps.iter().flat_map(|(script, help)| unknown_to(script, help, text)));
        // A verb without its program could not be copied from the page.
        for words in commands::of(text).iter().filter(|words| words.len() > 1) {
            let is_verb = verbs.iter().any(|(usage, _)| usage.split(' ').nth(1) == Some(words[0].as_str()));
            wrong.extend(is_verb.then(|| format!("`{text}` without its program")));
        }
    }
    assert!(wrong.is_empty(), "{PAGE} names what cannot be typed:\n{}", wrong.join("\n"));
    assert!(count > 120, "only {count} commands were found");
}

#[test]
fn every_setting_metric_alert_url_and_code_that_it_names_is_there() {
    let code = code();
    for name in names(&code) {
        let section = name.split_once('.').map(|(section, rest)| (section, rest.contains('.')));
        let is_file = path("scripts").join(name).exists();
        if section
            .is_some_and(|(section, deeper)| !deeper && SECTIONS.iter().any(|(known, _)| *known == section))
            && !is_file
        {
            // What is in `/diagnostics/performance` is written the same way.
            assert!(
                setting(name).is_some() || name.starts_with("queues."),
                "{PAGE} names the setting {name}"
            );
        }
        if name.starts_with("WAYGATE_") {
            let base = name.strip_suffix("_FILE").unwrap_or(name);
            let is_known =
                SETTINGS.iter().any(|setting| setting.variable == name || setting.variable == base);
            let is_old = NOT_YET.iter().any(|(_, variable, _)| *variable == name);
            assert!(
                is_known && !is_old || help_of("waygate-ctl").contains(name),
                "{PAGE} names the variable {name}"
            );
        }
        // Tools of the plugin `waygate` have two.
        if (name.starts_with("waygate_") || name.starts_with("process_")) && !name.contains("__") {
            assert!(is_metric(name), "{PAGE} names the metric {name}");
        }
        if name.strip_prefix("Waygate").is_some_and(|rest| rest.starts_with(char::is_uppercase)) {
            assert!(alerts().iter().any(|[_, known, ..]| known == name), "{PAGE} names the alert {name}");
        }
        if let Some(number) = name.strip_prefix("-3").filter(|rest| rest.len() == 4) {
            let known = codes::all().any(|code| code.rpc().to_string() == format!("-3{number}"));
            assert!(known, "{PAGE} names the error code {name}");
        }
    }
    assert_urls(&code);
}

#[test]
fn the_tables_that_are_made_are_up_to_date() {
    let mut text = String::from("\n| Severity | Alert | What it says | Begin with |\n|---|---|---|---|\n");
    for [severity, name, says, action] in alerts() {
        let _infallible = writeln!(text, "| {severity} | `{name}` | {says} | {action} |");
    }
    let begin = "<!-- alerts: made from packaging/prometheus/alerts.yml -->\n";
    hold(PAGE, (begin, "<!-- /alerts -->"), &(text + "\n"));
    let mut text = String::from("\n| Command | What it does |\n|---|---|\n");
    for (usage, about) in cli::verbs() {
        let _infallible = writeln!(text, "| `{}` | {about} |", usage.replace('|', "\\|"));
    }
    hold(PAGE, COMMANDS, &(text + "\n"));
    let mut text = String::from("\n| Command | What it does |\n|---|---|\n");
    for (command, does) in ctl_commands() {
        let _infallible = writeln!(text, "| `waygate-ctl {command}` | {does} |");
    }
    let begin = "<!-- ctl: made from what scripts/waygate-ctl --help says -->\n";
    hold(PAGE, (begin, "<!-- /ctl -->"), &(text + "\n"));
}

/// The first cells of the rows, `…` apart.
fn column(table: &Table, at: usize) -> Vec<&str> {
    table.rows.iter().map(|row| plain(&row[at])).collect()
}

#[test]
fn every_other_table_is_what_the_program_says() {
    let server = Server::start("waygate-mcp");
    let health = server.get("/health").1;
    let checks: Vec<&str> = health["checks"].as_object().unwrap().keys().map(String::as_str).collect();
    for table in tables(&read(PAGE)) {
        let place = format!("{PAGE}:{}", table.line);
        match table.head[0].as_str() {
            // Those that are made have a test of their own.
            "Command" => {}
            "Severity" if table.head[1] == "Alert" => {}
            "Severity" => {
                let mut severities: Vec<String> =
                    alerts().iter().map(|[severity, ..]| severity.clone()).collect();
                severities.dedup();
                assert_eq!(column(&table, 0), severities, "{place}");
            }
            "Check in `/health`" => assert_eq!(column(&table, 0), checks, "{place}"),
            "Check of the doctor" => {
                let checks: Vec<&str> = cli::doctor_checks().map(|(id, ..)| id).collect();
                assert_eq!(column(&table, 0), checks, "{place}");
            }
            "Setting" => {
                for row in &table.rows {
                    let setting = setting(plain(&row[0])).unwrap_or_else(|| panic!("{place}: {}", row[0]));
                    assert_eq!(plain(&row[1]), setting.variable, "{place}: {}", row[0]);
                    assert_eq!(row[2], default_of(setting), "{place}: {}", row[0]);
                }
            }
            "Exit code" => {
                let shown: Vec<(u8, &str)> =
                    table.rows.iter().map(|row| (row[0].parse().unwrap(), row[1].as_str())).collect();
                assert_eq!(shown, cli::exit_codes().collect::<Vec<_>>(), "{place}");
            }
            "Code" => {
                let whose = |is_ours| if is_ours { "ours" } else { "the caller's" };
                let wanted: Vec<[String; 3]> = codes::all()
                    .map(|code| {
                        [
                            code.rpc().to_string(),
                            format!("`{}`", code.name()),
                            whose(code.is_ours()).to_owned(),
                        ]
                    })
                    .collect();
                let shown: Vec<&[String]> = table.rows.iter().map(|row| &row[..3]).collect();
                assert_eq!(shown, wanted, "{place}");
            }
            "Metric" => {
                for name in table.rows.iter().flat_map(|row| spans(&row[0])) {
                    assert!(is_metric(name), "{place}: {name}");
                }
            }
            // Its commands are typed by the test of all commands; here each row has one, or leads to where it stands.
            "What" | "What is seen" | "Then" => {
                for row in &table.rows {
                    let leads = row[1..].iter().any(|cell| cell.contains('`') || cell.contains("]("));
                    assert!(leads, "{place}: {}", row[0]);
                }
            }
            other => panic!("{place}: nobody holds the table of {other:?} against the program"),
        }
    }
}
