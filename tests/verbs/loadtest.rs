//! Load on real servers: what is measured is told in every form, what fails is counted, and whatever the server does, it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Server, code_of, eventually};
use super::{command, refused, said, waygate};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A short run, as JSON; with its exit code.
fn load(server: &Server, words: &[&str]) -> (Option<i32>, Value) {
    load_at(&server.folder, &server.url("/mcp"), words)
}

fn load_at(folder: &Path, url: &str, words: &[&str]) -> (Option<i32>, Value) {
    let brief = [["--duration", "600ms"], ["--warm-up", "100ms"], ["--connections", "4"]];
    let brief = brief.iter().filter(|[flag, _]| !words.contains(flag)).flatten().copied();
    let brief: Vec<&str> = ["loadtest", url, "--json"].into_iter().chain(brief).collect();
    told(&waygate(folder, &[&brief, words].concat()))
}

fn told(output: &Output) -> (Option<i32>, Value) {
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), told)
}

fn number(told: &Value, place: &str) -> f64 {
    told.pointer(place).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {place}: {told:#}"))
}

/// One that goes on until it is told to stop.
fn begin(server: &Server, words: &[&str]) -> Child {
    let url = server.url("/mcp");
    let mut load = command(&server.folder, &[&["loadtest", &url, "--json"], words].concat());
    let child = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the load runs", || {
        let metrics = server.metrics();
        let calls = metrics.lines().filter(|line| line.starts_with("waygate_requests_total{"));
        let calls = calls.filter(|line| line.contains("tools/call"));
        let counts = calls.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        (counts.sum::<f64>() > 20.0).then_some(())
    });
    child
}

fn end(mut child: Child) -> (Option<i32>, Value) {
    let status = eventually("the load ends", || child.try_wait().unwrap());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (code_of(status), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Its exit code, what it wrote to stdout, and what to stderr.
fn last_words(mut child: Child) -> (Option<i32>, String, String) {
    let status = eventually("the load ends", || child.try_wait().unwrap());
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (code_of(status), out, err)
}

/// How a server behaves that is none of ours.
#[derive(Clone, Copy)]
struct Manners {
    /// How long each answer takes.
    takes: Duration,
    /// A connection on which nothing comes for so long is closed: silently, or with a 408 when nothing ever came.
    patience: Duration,
}

/// Starts one that answers every request but `never`, and tells the methods that it hears.
fn plain_server(manners: Manners) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || serve(&stream, manners, &tell));
        }
    });
    (url, heard)
}

fn serve(mut stream: &TcpStream, manners: Manners, tell: &Sender<String>) {
    stream.set_read_timeout(Some(manners.patience)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut is_used = false;
    while let Some(message) = heard(&mut reader) {
        is_used = true;
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        let is_answered = method != "never";
        drop(tell.send(method));
        std::thread::park_timeout(manners.takes);
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": []}}).to_string();
        let status = if message.is_null() { "404 Not Found" } else { "200 OK" };
        let length = answer.len();
        if is_answered {
            let head = "content-type: application/json\r\ncontent-length";
            drop(write!(stream, "HTTP/1.1 {status}\r\n{head}: {length}\r\n\r\n{answer}"));
        }
    }
    if !is_used {
        drop(write!(
            stream,
            "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ));
    }
}

/// The message of the next request; nothing of one without.
fn heard(reader: &mut BufReader<&TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_ascii_lowercase();
        length = line.strip_prefix("content-length:").map_or(length, |said| said.trim().parse().unwrap());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
fn a_request_that_waited_for_a_connection_took_from_when_it_was_due() {
    let folder = tempfile::tempdir().unwrap();
    let manners = Manners { takes: Duration::from_millis(100), patience: Duration::from_secs(60) };
    let (url, _heard) = plain_server(manners);
    let words = ["--rate", "50", "--connections", "1", "--warm-up", "0s", "--duration", "1s"];
    let (code, told) = load_at(folder.path(), &url, &words);
    assert_eq!(code, Some(0), "{told:#}");
    // From when it was sent, each took a little more than 100 ms.
    assert!(number(&told, "/latencyMs/max") >= 300.0, "{told:#}");
    assert!(number(&told, "/latencyMs/min") >= 100.0 && number(&told, "/requests/unsent") > 0.0, "{told:#}");
}

#[test]
fn a_server_that_closes_connections_at_rest_is_not_blamed_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let manners = Manners { takes: Duration::ZERO, patience: Duration::from_millis(700) };
    let (url, _heard) = plain_server(manners);
    // One every 1.4 s: the second client's connection would have been closed unused, the first one's is when its turn comes again.
    let words = ["--rate", "0.7", "--connections", "2", "--warm-up", "0s", "--duration", "4500ms"];
    let (code, told) = load_at(folder.path(), &url, &words);
    assert_eq!((code, &told["requests"]["failed"]), (Some(0), &json!(0)), "{told:#}");
    assert!(number(&told, "/requests/answered") >= 3.0, "{told:#}");
}

#[test]
fn idle_streams_that_the_server_refuses_are_failures_with_their_reason() {
    let server = Server::with("echo", &[("WAYGATE_MCP_STREAMS_MAX", "2")]);
    let (code, told) = load(&server, &["--idle-streams", "5"]);
    assert_eq!((code, &told["requests"]["failed"]), (Some(1), &json!(3)), "{told:#}");
    assert_eq!((&told["idleStreams"]["opened"], &told["errors"][0]["count"]), (&json!(2), &json!(3)));
    assert!(told["errors"][0]["what"].as_str().unwrap().starts_with("no idle stream: "), "{told:#}");
    assert!(told["errors"][0]["example"].as_str().unwrap().contains("streams"), "{told:#}");
}

#[test]
fn the_sessions_of_idle_streams_end_with_the_load() {
    let server = Server::start("echo");
    let (code, told) = load(&server, &["--era", "legacy", "--idle-streams", "5"]);
    assert_eq!((code, &told["idleStreams"]["opened"]), (Some(0), &json!(5)), "{told:#}");
    assert_eq!(told["idleStreams"]["lost"], 0, "{told:#}");
    let sessions = server.get("/diagnostics/connection").1;
    assert_eq!(sessions["sessions"]["open"], 0, "{sessions:#}");
}

#[test]
fn who_ends_it_before_anything_was_measured_is_told_so_and_keeps_the_files_of_before() {
    let server = Server::start("echo");
    let csv = server.folder.join("load.csv");
    fs::write(&csv, "of before").unwrap();
    let files = ["--csv", csv.to_str().unwrap()];
    let warming = begin(&server, &[&files[..], &["--warm-up", "600s"]].concat());
    // One whose first request is never answered.
    let manners = Manners { takes: Duration::ZERO, patience: Duration::from_secs(60) };
    let (url, heard) = plain_server(manners);
    let mix = server.folder.join("mix.toml");
    fs::write(&mix, "[[calls]]\nmethod = \"never\"\n").unwrap();
    let words = ["loadtest", &url, "--timeout", "600s", "--mix", mix.to_str().unwrap()];
    let mut asking = command(&server.folder, &[&words, &files[..]].concat());
    let asking = asking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while heard.recv_timeout(Duration::from_secs(60)).unwrap() != "never" {}
    for child in [warming, asking] {
        interrupt(&child);
        let (code, out, err) = last_words(child);
        assert!(code == Some(1) && out.is_empty() && err.contains("before anything was measured"), "{err}");
        assert_eq!(fs::read_to_string(&csv).unwrap(), "of before");
    }
}

#[test]
fn several_keys_in_a_file_are_used_in_turn_and_a_wrong_one_among_them_is_told() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", KEY)]);
    let another = said(&server.folder, &["keys", "create", "another"]);
    let (file, url) = (server.folder.join("keys"), server.url("/mcp"));
    fs::write(&file, format!("{KEY}\n\n{}\n", another.trim())).unwrap();
    let words = ["--key-file", file.to_str().unwrap()];
    // The server may take a moment to know it.
    let told = eventually("both keys do", || {
        let brief = ["loadtest", &url, "--json", "-d", "300ms", "--warm-up", "0s", "-c", "2"];
        let output = waygate(&server.folder, &[&brief[..], &words].concat());
        (output.status.code() != Some(77)).then(|| told(&output))
    });
    assert_eq!(told.0, Some(0), "{:#}", told.1);
    assert!(number(&told.1, "/server/cpuUsPerRequest") > 0.0, "the first one opens the diagnostics");
    let callers = eventually("both are in the history", || {
        let rows = said(&server.folder, &["history", "export", "--kind", "outcome"]);
        let rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap());
        let calls = rows.filter(|row| row["tool"] == "echo");
        let callers: BTreeSet<String> = calls.map(|row| row["caller"].to_string()).collect();
        (callers.len() > 1).then_some(callers)
    });
    assert_eq!(callers.len(), 2, "{callers:?}");
    fs::write(&file, format!("{KEY}\nanother-key-of-thirty-two-letters\n")).unwrap();
    let (code, why) = refused(&server.folder, &[&["loadtest", &url][..], &words].concat());
    assert!(code == 77 && !why.contains("another-key"), "{code}: {why}");
}

#[test]
fn every_era_is_measured_from_both_sides() {
    let server = Server::start("echo");
    for era in ["modern", "streamed", "legacy"] {
        let (code, told) = load(&server, &["--era", era]);
        assert_eq!((code, &told["era"], &told["loop"]), (Some(0), &json!(era), &json!("closed")), "{told:#}");
        assert_eq!((&told["requests"]["failed"], &told["errors"]), (&json!(0), &json!([])), "{told:#}");
        assert!(number(&told, "/requests/answered") > 0.0 && number(&told, "/requests/perSecond") > 0.0);
        assert!(number(&told, "/latencyMs/p50") > 0.0, "{told:#}");
        assert!(number(&told, "/latencyMs/p50") <= number(&told, "/latencyMs/max"), "{told:#}");
        assert!(number(&told, "/server/cpuUsPerRequest") > 0.0, "{told:#}");
        assert!(number(&told, "/server/rssMostBytes") > 1e6, "{told:#}");
        let events = told["requests"]["eventsPerStream"].as_f64();
        assert_eq!(events.is_some_and(|events| events >= 2.0), era == "streamed", "{era}: {events:?}");
    }
    let sessions = server.get("/diagnostics/connection").1;
    assert_eq!(sessions["sessions"]["open"], 0, "each client ended its session: {sessions:#}");
}

#[test]
fn at_a_rate_as_many_requests_come_as_are_due_beside_idle_streams() {
    let server = Server::start("echo");
    let (code, told) = load(&server, &["--rate", "20", "--ramp", "100ms", "--idle-streams", "12"]);
    assert_eq!((code, &told["loop"], &told["rate"]), (Some(0), &json!("open"), &json!(20.0)), "{told:#}");
    let answered = number(&told, "/requests/answered");
    assert!((1.0..=20.0).contains(&answered), "{told:#}");
    assert_eq!(
        (&told["idleStreams"]["opened"], &told["idleStreams"]["lost"]),
        (&json!(12), &json!(0)),
        "{told:#}"
    );
    // More than so few connections can do: what was never sent is told, and the waiting is in the latencies.
    let (_, told) = load(&server, &["--rate", "1000000", "--connections", "1"]);
    assert!(number(&told, "/requests/unsent") > 1000.0, "{told:#}");
}

#[test]
fn a_mix_is_asked_by_its_weights_with_texts_of_their_sizes() {
    let server = Server::start("echo");
    let mix = server.folder.join("mix.toml");
    let calls = "[[calls]]\ntool = \"echo\"\nweight = 3\npayload_bytes = 5000\narguments = { message = \"{payload}\" }\n\
                 [[calls]]\nmethod = \"tools/list\"\n";
    fs::write(&mix, calls).unwrap();
    let (code, told) = load(&server, &["--mix", mix.to_str().unwrap(), "--connections", "1"]);
    assert_eq!(code, Some(0), "{told:#}");
    let (echo, list) = (number(&told, "/calls/0/answered"), number(&told, "/calls/1/answered"));
    assert!((echo - 3.0 * list).abs() <= 3.0, "{echo} and {list}");
    let bytes = number(&told, "/requests/bytesPerSecond") / number(&told, "/requests/perSecond");
    assert!(bytes > 0.7 * 5000.0, "{bytes} bytes an answer");
    fs::write(&mix, calls.replace("\"echo\"", "\"ecko\"")).unwrap();
    let url = server.url("/mcp");
    let (code, why) = refused(&server.folder, &["loadtest", &url, "--mix", mix.to_str().unwrap()]);
    assert!(code == 2 && why.contains("no tool ecko") && why.contains("echo"), "{code}: {why}");
}

#[test]
fn what_is_refused_under_load_is_counted_and_told() {
    let server = Server::with("echo", &[("WAYGATE_LIMITS_ADDRESS_REQUESTS_PER_MINUTE", "12")]);
    let (code, told) = load(&server, &["--warm-up", "0s"]);
    assert_eq!(code, Some(1), "{told:#}");
    assert!(number(&told, "/requests/failed") > 0.0, "{told:#}");
    assert!(told["errors"][0]["what"].as_str().unwrap().contains("429"), "{told:#}");
    assert!(!told["errors"][0]["example"].as_str().unwrap().is_empty(), "{told:#}");
}

#[test]
fn a_server_that_falls_silent_is_given_up_at_the_deadline() {
    let server = Server::start("echo");
    let words = ["--duration", "1500ms", "--timeout", "400ms", "--connections", "3"];
    let child = begin(&server, &words);
    server.signal("-STOP");
    let (code, told) = end(child);
    server.signal("-CONT");
    assert_eq!(code, Some(1), "{told:#}");
    let what: Vec<&str> =
        told["errors"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert!(what.contains(&"no answer within 0.4 s"), "{told:#}");
    // One that never speaks is not even begun with.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", silent.local_addr().unwrap());
    let (code, why) = refused(&server.folder, &["loadtest", &url, "--timeout", "300ms"]);
    assert!(code == 75 && why.contains("did not answer"), "{code}: {why}");
    let (code, why) = refused(&server.folder, &["loadtest", &url, "--timeout", "300ms", "--era", "legacy"]);
    assert!(code == 75 && why.contains("did not answer"), "{code}: {why}");
}

#[test]
fn who_ends_it_early_is_told_what_was_measured_by_then() {
    let server = Server::start("echo");
    let child = begin(&server, &["--duration", "600s", "--warm-up", "0s", "--connections", "2"]);
    interrupt(&child);
    let (code, told) = end(child);
    assert_eq!((code, &told["interrupted"]), (Some(0), &json!(true)), "{told:#}");
    assert!(
        number(&told, "/requests/answered") > 0.0 && number(&told, "/measuredSeconds") < 60.0,
        "{told:#}"
    );
}

#[test]
fn a_key_comes_from_the_environment_or_a_file_and_a_wrong_one_is_said_to_be_that() {
    let server = Server::with("echo", &[("WAYGATE_API_KEY", KEY)]);
    let url = server.url("/mcp");
    let (code, why) = refused(&server.folder, &["loadtest", &url]);
    assert!(code == 77 && why.to_lowercase().contains("key"), "{code}: {why}");
    let file = server.folder.join("key");
    fs::write(&file, "another-key-of-thirty-two-letters\n").unwrap();
    let named = file.to_str().unwrap();
    for era in ["modern", "legacy"] {
        let (code, why) = refused(&server.folder, &["loadtest", &url, "--key-file", named, "--era", era]);
        assert!(code == 77 && why.to_lowercase().contains("key"), "{era}, {code}: {why}");
        assert!(!why.contains("another-key"), "{why}");
    }
    fs::write(&file, format!("{KEY}\n")).unwrap();
    let (code, told) = load(&server, &["--key-file", named]);
    assert!(code == Some(0) && !told.to_string().contains(KEY), "{told:#}");
    assert!(number(&told, "/server/cpuUsPerRequest") > 0.0, "the key opens the diagnostics, too");
    let output = command(&server.folder, &["loadtest", &url, "-d", "200ms", "--warm-up", "0s", "--json"])
        .env("WAYGATE_API_KEY", KEY)
        .output();
    assert_eq!(told_code(&output.unwrap()), Some(0));
}

fn told_code(output: &Output) -> Option<i32> {
    told(output).0
}

#[test]
fn another_machine_is_left_alone_and_what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (words, says) in [
        (&["http://192.0.2.1/mcp"][..], "--allow-remote"),
        (&["http://127.0.0.1:1/mcp", "--report", "/no/where.html"], "cannot be written"),
        (&["http://127.0.0.1:1/mcp", "--duration", "0s"], "--duration"),
        (&["http://127.0.0.1:1/mcp", "--key-file", "/no/where"], "--key-file"),
        (&["http://127.0.0.1:1/mcp", "--sweep-workers", "1,2"], "--sweep-workers"),
    ] {
        let (code, why) = refused(folder.path(), &[&["loadtest"], words].concat());
        assert!(code == 2 && why.contains(says), "{words:?}, {code}: {why}");
    }
    assert_eq!(refused(folder.path(), &["loadtest", "http://127.0.0.1:1/mcp"]).0, 69);
}

/// Whether a page needs nothing but itself, and suits the light and the dark.
fn assert_page(path: &Path, plots: usize) {
    let page = fs::read_to_string(path).unwrap();
    assert_eq!(page.matches("<svg").count(), plots, "{page}");
    assert_eq!(page.matches("</svg>").count(), plots);
    for foreign in ["<script", "<link", "<img", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.ends_with("</html>\n"));
    assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
}

#[test]
fn a_page_with_plots_and_a_file_for_spreadsheets_are_written() {
    let server = Server::start("echo");
    let (csv, page) = (server.folder.join("load.csv"), server.folder.join("load.html"));
    let files = ["--csv", csv.to_str().unwrap(), "--report", page.to_str().unwrap()];
    let (code, told) = load(&server, &files);
    assert_eq!(code, Some(0), "{told:#}");
    assert_page(&page, 5);
    let csv = fs::read_to_string(&csv).unwrap();
    let intervals = told["intervals"].as_array().unwrap().len();
    assert!(
        csv.starts_with("at_seconds,per_second,failed,") && csv.lines().count() == intervals + 1,
        "{csv}"
    );
    let text =
        String::from_utf8(waygate(&server.folder, &["loadtest", &server.url("/mcp"), "-d", "300ms"]).stdout);
    let text = text.unwrap();
    for part in ["echo at http://", "requests ", "p99 ", "us of processor a request", "generator "] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_sweep_starts_its_own_servers_says_how_many_workers_are_enough_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("sweep.html");
    let brief =
        ["--duration", "400ms", "--warm-up", "100ms", "--connections", "4", "--json", "--rounds", "1"];
    let words =
        ["loadtest", "--sweep-workers", "2,1", "--era", "streamed", "--report", page.to_str().unwrap()];
    let mut load = command(folder.path(), &[&words[..], &brief].concat());
    // What is set for another server must not be used, and least of all its data.
    load.env("TMPDIR", folder.path()).env("WAYGATE_DATABASE_URL", "postgres://nobody@127.0.0.1:1/no");
    let (code, told) = told(&load.output().unwrap());
    assert_eq!(code, Some(0), "{told:#}");
    assert_eq!(
        (&told["rows"][0]["workers"], &told["rows"][1]["workers"]),
        (&json!(1), &json!(2)),
        "{told:#}"
    );
    for at in 0..2 {
        assert!(number(&told, &format!("/rows/{at}/perSecond/median")) > 0.0, "{told:#}");
        assert!(number(&told, &format!("/rows/{at}/cpuUsPerRequest/median")) > 0.0, "{told:#}");
        assert!(number(&told, &format!("/rows/{at}/rssBytes/median")) > 1e6, "{told:#}");
    }
    assert_eq!(told["calls"], json!(["load__echo"]));
    let knee = told["knee"]["workers"].as_u64().unwrap();
    assert!((1..=2).contains(&knee), "{told:#}");
    assert_eq!(told["advice"][0]["setting"], "WAYGATE_WORKERS");
    // No more of them than processors, whatever was the best.
    let advised = told["advice"][0]["value"].as_str().unwrap().parse::<u64>().unwrap();
    assert!((1..=knee).contains(&advised), "{told:#}");
    assert!(
        told["advice"].as_array().unwrap().iter().all(|advice| advice["reason"].as_str().unwrap().len() > 20)
    );
    assert_page(&page, 4);
    let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.starts_with("waygate-loadtest")));
}
