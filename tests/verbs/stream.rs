//! `history stream`: every row arrives at least once, whatever happens in between.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::chain::{ROWS, ledger, run};
use super::{command, refused, said, waygate};
use crate::support::eventually;

/// The numbers of the rows that arrived, in the order in which they did.
fn numbers(text: &str) -> Vec<i64> {
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line:?}"));
    text.lines().map(|line| row(line)["seq"].as_i64().unwrap()).collect()
}

fn all() -> Vec<i64> {
    (1..=ROWS).collect()
}

/// An endpoint that gives these answers, one a request, and then 204; it tells what came with each.
fn endpoint(answers: &'static [(u16, &'static str)]) -> (SocketAddr, Receiver<(u16, String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut answers = answers.iter();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
                    break;
                }
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let (status, more) = answers.next().copied().unwrap_or((204, ""));
            let answer =
                format!("HTTP/1.1 {status} x\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            drop(tell.send((status, head, String::from_utf8(body).unwrap())));
        }
    });
    (address, told)
}

#[test]
fn a_file_gets_every_row_with_its_hash_and_the_next_run_goes_on_where_it_ended() {
    let home = tempfile::tempdir().unwrap();
    let mut connection = ledger(home.path());
    let words = ["history", "stream", "--to", "out.ndjson", "--cursor", "siem.cursor", "--once"];
    said(home.path(), &words);
    let read = || fs::read_to_string(home.path().join("out.ndjson")).unwrap();
    assert_eq!(numbers(&read()), all());
    let first: Value = serde_json::from_str(read().lines().next().unwrap()).unwrap();
    assert_eq!(first["hash"].as_str().map(str::len), Some(64), "{first}");
    assert_eq!((&first["tool"], &first["instance_id"]), (&"echo".into(), &"01".into()));
    said(home.path(), &words);
    assert_eq!(numbers(&read()).len(), all().len(), "nothing is new");
    let added = "INSERT INTO command_history (instance_id, seq, call_id, kind, created_at) \
                 VALUES ('02', 9000, 'new', 'outcome', '2026-11-28 00:00:00')";
    run(&mut connection, &[added]);
    said(home.path(), &words);
    assert_eq!(numbers(&read())[all().len()..], [9000]);
}

#[test]
fn one_that_is_killed_forgets_no_row_and_leaves_no_torn_line() {
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    let out = home.path().join("out.ndjson");
    let words = ["history", "stream", "--to", "out.ndjson", "--cursor", "siem.cursor"];
    let mut child = command(home.path(), &words).spawn().unwrap();
    eventually("some rows", || fs::metadata(&out).ok().filter(|about| about.len() > 0));
    child.kill().unwrap();
    child.wait().unwrap();
    // As if the kill had come in the middle of a line.
    fs::OpenOptions::new().append(true).open(&out).unwrap().write_all(b"{\"seq\": 12").unwrap();
    said(home.path(), &[&words[..], &["--once"]].concat());
    let arrived = numbers(&fs::read_to_string(&out).unwrap());
    assert_eq!(arrived.iter().copied().collect::<BTreeSet<_>>(), all().into_iter().collect());
}

#[test]
fn an_endpoint_that_is_away_busy_or_small_gets_every_row_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    fs::write(home.path().join("secret"), "Splunk 123\n").unwrap();
    let (address, told) = endpoint(&[(503, ""), (429, "retry-after: 1\r\n"), (413, ""), (500, "")]);
    let url = format!("http://{address}/in?token=hidden");
    let words =
        ["history", "stream", "--to", &url, "--cursor", "c", "--authorization-file", "secret", "--once"];
    let output = waygate(home.path(), &words);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "2500 rows carried\n", "what went well in the end is no trouble");
    let came: Vec<_> = told.try_iter().collect();
    assert!([503, 429, 413, 500].iter().all(|wanted| came.iter().any(|(status, ..)| status == wanted)));
    assert!(came.iter().all(|(_, head, _)| head.to_ascii_lowercase().contains("authorization: splunk 123")));
    let taken: String =
        came.iter().filter(|(status, ..)| *status == 204).map(|(.., body)| body.as_str()).collect();
    assert_eq!(numbers(&taken), all());
}

#[test]
fn once_gives_up_after_a_few_tries_and_says_why() {
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    let (address, told) = endpoint(&[(503, ""); 5]);
    let (busy, patient) =
        (format!("http://{address}/in?token=hidden"), endpoint(&[(429, "retry-after: 600\r\n")]).0);
    let (patient, nobody) = (format!("http://{patient}/in"), "http://127.0.0.1:1/in");
    let runs = [
        ("/nodir/x", 73, "given up after 5 of 5 tries: /nodir/x"),
        ("/dev/full", 73, "given up after 5 of 5 tries: /dev/full"),
        (nobody, 69, "does not take it"),
        (&*busy, 75, "answers 503"),
        (&*patient, 75, "given up after 1 of 5 tries"),
    ];
    thread::scope(|scope| {
        for (n, (to, wanted, part)) in runs.into_iter().enumerate() {
            let (home, cursor) = (home.path(), format!("cursor-{n}"));
            scope.spawn(move || {
                let (code, why) =
                    refused(home, &["history", "stream", "--to", to, "--cursor", &cursor, "--once"]);
                assert!(
                    code == wanted && why.contains(part) && !why.contains("hidden"),
                    "{to}: {code} {why}"
                );
                assert_eq!(why.trim().lines().count(), 1, "{why}");
            });
        }
    });
    let deadline = Duration::from_secs(30);
    assert!((0..5).all(|_| told.recv_timeout(deadline).is_ok()) && told.try_recv().is_err(), "five tries");
    let said = waygate(home.path(), &["history", "stream", "--to", &busy, "--cursor", "cursor-3", "--once"]);
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("2500 rows carried"),
        "nothing was forgotten: {said:?}"
    );
}

#[test]
fn an_endpoint_that_refuses_is_an_error_and_nothing_is_forgotten() {
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    let (address, _told) = endpoint(&[(401, "")]);
    let url = format!("http://{address}/in");
    let words = ["history", "stream", "--to", &url, "--cursor", "c", "--once"];
    let (code, why) = refused(home.path(), &words);
    assert!(code == 1 && why.contains("401"), "{code} {why}");
    let output = waygate(home.path(), &words);
    assert!(String::from_utf8_lossy(&output.stderr).contains("2500 rows carried"), "{output:?}");
}

#[test]
fn a_database_that_was_restored_is_carried_anew_and_a_cursor_belongs_to_its_target() {
    let home = tempfile::tempdir().unwrap();
    let mut connection = ledger(home.path());
    let stream =
        |to: &str| waygate(home.path(), &["history", "stream", "--to", to, "--cursor", "c", "--once"]);
    assert!(stream("one").status.success());
    let refused = stream("two");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another target's"), "{refused:?}");
    run(&mut connection, &["DELETE FROM command_history WHERE seq > 1000"]);
    let again = stream("one");
    assert!(String::from_utf8_lossy(&again.stderr).contains("carried anew"), "{again:?}");
    let arrived = numbers(&fs::read_to_string(home.path().join("one")).unwrap());
    assert_eq!(arrived.len(), all().len() + 1_000);
}

#[test]
fn stdout_needs_no_cursor_and_all_else_does() {
    let home = tempfile::tempdir().unwrap();
    drop(ledger(home.path()));
    assert_eq!(numbers(&said(home.path(), &["history", "stream", "--once"])), all());
    assert_eq!(said(home.path(), &["history", "stream", "--once", "--from-now"]), "");
    let (code, why) = refused(home.path(), &["history", "stream", "--to", "file", "--once"]);
    assert!(code == 2 && why.contains("--cursor"), "{code} {why}");
    assert!(!Path::new(&home.path().join("file")).exists());
}
