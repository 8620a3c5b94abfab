//! What is told of a load at a terminal: how far it is, and what came of it. Must not know how it was measured.

use std::fmt::Write as _;

use crate::loadtest::results::{Results, Spread};
use crate::loadtest::words::{bytes, count, many, milliseconds, perhaps, rate, short};
use crate::loadtest::{Moment, Phase};

/// One line, while it runs.
pub fn moment(moment: &Moment) -> String {
    let time = format!("{:.0} s of {:.0} s", moment.since.as_secs_f64(), moment.of.as_secs_f64());
    let seen = format!(
        "{}/s, p50 {}, p99 {}, failed {}",
        rate(moment.per_second),
        perhaps(moment.p50_ms, milliseconds),
        perhaps(moment.p99_ms, milliseconds),
        count(moment.failed)
    );
    match moment.phase {
        Phase::Streams(done, all) => format!("idle streams: {} of {}", count(done as u64), count(all as u64)),
        Phase::WarmUp => format!("{time}, not measured yet: {seen}"),
        Phase::Measured => format!("{time}: {seen}"),
        Phase::Ending(in_flight) => {
            format!("waiting for {} answers, failed {}", count(in_flight as u64), count(moment.failed))
        }
    }
}

/// All of it, for people.
pub fn table(results: &Results) -> String {
    let mut text = heading(results);
    let mut line = |name: &str, value: String| {
        let _infallible = writeln!(text, "  {name:<10} {value}");
    };
    let requests = &results.requests;
    line(
        "requests",
        format!(
            "{}/s, {}/s; {} answered, {} failed",
            rate(requests.per_second),
            bytes(requests.bytes_per_second),
            count(requests.answered),
            count(requests.failed)
        ),
    );
    line("latency", spread(results.latency_ms));
    if let Some(events) = requests.events_per_stream {
        line("streams", format!("{} events an answer", short(events)));
    }
    if let Some(server) = &results.server {
        line(
            "server",
            format!(
                "{} us of processor a request, {} processors busy, {} (before {})",
                perhaps(server.cpu_us_per_request, short),
                short(server.cores),
                bytes(server.rss_most_bytes as f64),
                bytes(server.rss_before_bytes as f64)
            ),
        );
    }
    if let Some(idle) = &results.idle_streams {
        let each =
            idle.bytes_each.map(|each| format!(", {} of memory each", bytes(each))).unwrap_or_default();
        let (opened, asked) = (count(idle.opened as u64), count(idle.asked as u64));
        line("idle", format!("{opened} of {asked} streams opened, {} lost{each}", count(idle.lost)));
    }
    line(
        "generator",
        format!("{} of {} processors busy", short(results.generator.cores), results.processors),
    );
    if results.calls.len() > 1 {
        text += "\n";
        for kind in &results.calls {
            let name = &kind.name;
            let _infallible =
                writeln!(text, "  {name}: {} answered; {}", count(kind.answered), spread(kind.latency_ms));
        }
    }
    for errors in &results.errors {
        let example = if errors.example.is_empty() { String::new() } else { format!(": {}", errors.example) };
        let _infallible = writeln!(text, "\nfailed {} times: {}{example}", count(errors.count), errors.what);
    }
    for remark in results.remarks() {
        let _infallible = write!(text, "\nnote: {remark}");
    }
    text
}

fn heading(results: &Results) -> String {
    let names: Vec<&str> = results.calls.iter().map(|kind| kind.name.as_str()).collect();
    let pace = results.rate.map(|rate_wanted| format!(" at {}/s", rate(rate_wanted))).unwrap_or_default();
    format!(
        "{} at {} ({}), {}{pace}, measured for {} s\n",
        names.join(", "),
        results.url,
        results.era,
        many(results.connections, "connection"),
        short(results.measured_seconds)
    )
}

fn spread(latency: Option<Spread>) -> String {
    let Some(latency) = latency else { return "–".to_owned() };
    let parts = [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p999),
        ("most", latency.max),
    ];
    parts.map(|(name, ms)| format!("{name} {}", milliseconds(ms))).join(", ")
}
