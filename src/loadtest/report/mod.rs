//! What came of a run as one page that needs nothing else: no scripts, no network, light or dark as whoever reads it likes. Must
//! not know how it was measured.

mod plot;
mod sweep;

use std::fmt::Write as _;

pub use sweep::page as sweep_page;

use super::results::{Interval, Kind, Results, Spread};
use super::words::{bytes, count, many, milliseconds, perhaps, rate, short};
use plot::{Axis, Frame, Point, Series, figure, nines};

const STYLE: &str = include_str!("style.css");
const MIB: f64 = 1_048_576.0;

/// The whole page of one run.
pub fn page(results: &Results) -> String {
    let names: Vec<&str> = results.calls.iter().map(|kind| kind.name.as_str()).collect();
    let title = format!("Load test of {}", names.join(", "));
    let mut text = head(&title, &results.ended_at, &about(results));
    text += &cards(results);
    text += &notes(&results.remarks());
    text += "<div class=\"plots\">\n";
    text += &plots(results);
    text += "</div>\n";
    text += &tables(results);
    text + &foot(results.version)
}

fn about(results: &Results) -> String {
    let pace = results.rate.map(|wanted| format!(" at {} requests/s", rate(wanted))).unwrap_or_default();
    format!(
        "{} · {} · {}{pace} · measured for {} s",
        results.url,
        results.era,
        many(results.connections, "connection"),
        short(results.measured_seconds)
    )
}

fn head(title: &str, when: &str, about: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n\
         <header><h1>{title}</h1><p>{}</p><p>{}</p></header>\n",
        escaped(about),
        escaped(&when.replace('T', " ").replace('Z', " UTC")),
        title = escaped(title)
    )
}

fn foot(version: &str) -> String {
    format!(
        "<footer>Written by <code>waygate-mcp loadtest</code> {}.</footer>\n</main></body></html>\n",
        escaped(version)
    )
}

fn card(text: &mut String, value: &str, unit: &str, what: &str, is_bad: bool) {
    let class = if is_bad { "card bad" } else { "card" };
    let _infallible = writeln!(
        text,
        "<div class=\"{class}\"><b>{} <small>{}</small></b><span>{}</span></div>",
        escaped(value),
        escaped(unit),
        escaped(what)
    );
}

fn cards(results: &Results) -> String {
    let mut text = String::from("<section class=\"cards\">\n");
    let (requests, latency) = (&results.requests, results.latency_ms);
    card(&mut text, &rate(requests.per_second), "/s", "answers", false);
    card(&mut text, &perhaps(latency.map(|ms| ms.p50), short), "ms", "p50 latency", false);
    card(&mut text, &perhaps(latency.map(|ms| ms.p99), short), "ms", "p99 latency", false);
    card(&mut text, &count(requests.failed), "", "failed", requests.failed > 0);
    if let Some(server) = &results.server {
        card(&mut text, &perhaps(server.cpu_us_per_request, short), "µs", "CPU a request", false);
        card(&mut text, &short(server.rss_most_bytes as f64 / MIB), "MiB", "server memory", false);
    }
    if let Some(idle) = &results.idle_streams {
        let lost = idle.lost > 0 || idle.opened < idle.asked;
        card(&mut text, &count(idle.opened as u64), "", "idle streams held", lost);
    }
    text + "</section>\n"
}

fn notes(remarks: &[String]) -> String {
    if remarks.is_empty() {
        return String::new();
    }
    let items: String = remarks.iter().map(|remark| format!("<li>{}</li>\n", escaped(remark))).collect();
    format!("<ul class=\"notes\">\n{items}</ul>\n")
}

/// A line of one figure of each interval.
fn over_time<'a>(
    intervals: &[Interval],
    (name, colour, is_filled): (&'a str, u8, bool),
    value: impl Fn(&Interval) -> Option<f64>,
) -> Series<'a> {
    let point = |at: &Interval| Some(Point { x: at.at_seconds, y: value(at)?, spread: None });
    Series { name, colour, points: intervals.iter().map(point).collect(), is_filled }
}

fn most(series: &[Series<'_>]) -> f64 {
    series.iter().flat_map(|one| one.points.iter().flatten()).map(|point| point.y).fold(0.0, f64::max)
}

fn plots(results: &Results) -> String {
    let of = &results.intervals;
    let time = Axis::until(of.last().map_or(1.0, |last| last.at_seconds), "seconds");
    let drawn = |title: &str, label: &str, say: fn(f64) -> String, is_wide: bool, series: &[Series<'_>]| {
        let axes = (&time, &Axis::round(most(series), label, say));
        figure(title, axes, series, Frame { is_wide, marked: None })
    };
    let width = |at: usize| {
        let before =
            at.checked_sub(1).and_then(|before| of.get(before)).map_or(0.0, |before| before.at_seconds);
        of.get(at).map_or(0.0, |now| now.at_seconds - before).max(f64::EPSILON)
    };
    let mut series = vec![over_time(of, ("answered", 1, true), |at| Some(at.per_second))];
    if results.requests.failed > 0 {
        let failed = of.iter().enumerate().map(|(at, now)| {
            Some(Point { x: now.at_seconds, y: now.failed as f64 / width(at), spread: None })
        });
        series.push(Series { name: "failed", colour: 4, points: failed.collect(), is_filled: false });
    }
    let mut text = drawn("Throughput over time", "requests a second", rate, true, &series);
    text += &percentiles(results);
    let series =
        [over_time(of, ("p99", 2, false), |at| at.p99_ms), over_time(of, ("p50", 1, false), |at| at.p50_ms)];
    text += &drawn("Latency over time", "milliseconds", short, false, &series);
    if results.server.is_some() {
        let series = [
            over_time(of, ("server", 1, true), |at| at.server_cores),
            over_time(of, ("generator", 3, false), |at| Some(at.generator_cores)),
        ];
        text += &drawn("CPU", "processors busy", short, false, &series);
        let series = [over_time(of, ("server", 1, true), |at| Some(at.server_rss_bytes? as f64 / MIB))];
        text += &drawn("Memory of the server", "MiB resident", short, false, &series);
    }
    text
}

fn percentiles(results: &Results) -> String {
    let points = results.curve.iter().map(|(part, ms)| Some(Point { x: nines(*part), y: *ms, spread: None }));
    let series = [Series { name: "latency", colour: 1, points: points.collect(), is_filled: true }];
    let last = results.curve.last().map_or(0.9, |(part, _)| *part);
    let axes = (Axis::nines(last, "percentile"), Axis::round(most(&series), "milliseconds", short));
    figure("Latency by percentile", (&axes.0, &axes.1), &series, Frame { is_wide: false, marked: None })
}

fn tables(results: &Results) -> String {
    let mut text =
        String::from("<h2>Latency</h2>\n<div class=\"scroll\"><table><thead><tr><th></th><th>answered</th>");
    for name in Spread::NAMES {
        let _infallible = write!(text, "<th>{name}</th>");
    }
    text += "</tr></thead><tbody>\n";
    let row = |text: &mut String, name: &str, answered: u64, spread: Option<Spread>| {
        let _infallible = write!(text, "<tr><td>{}</td><td>{}</td>", escaped(name), count(answered));
        for ms in Spread::columns(spread) {
            let _infallible = write!(text, "<td>{}</td>", perhaps(ms, milliseconds));
        }
        *text += "</tr>\n";
    };
    for Kind { name, answered, latency_ms, .. } in &results.calls {
        row(&mut text, name, *answered, *latency_ms);
    }
    if results.calls.len() > 1 {
        row(&mut text, "all", results.requests.answered, results.latency_ms);
    }
    text += "</tbody></table></div>\n";
    if !results.errors.is_empty() {
        text += "<h2>What failed</h2>\n<div class=\"scroll\"><table class=\"bad\"><thead><tr><th></th><th>times</th>\
                 <th style=\"text-align:left\">what was said</th></tr></thead><tbody>\n";
        for errors in &results.errors {
            let (what, example) = (escaped(&errors.what), escaped(&errors.example));
            let times = count(errors.count);
            let _infallible =
                writeln!(text, "<tr><td>{what}</td><td>{times}</td><td class=\"text\">{example}</td></tr>");
        }
        text += "</tbody></table></div>\n";
    }
    text + &facts(results)
}

fn facts(results: &Results) -> String {
    let mut facts: Vec<(&str, String)> = vec![
        ("Server", results.url.clone()),
        ("Era", results.era.to_owned()),
        (
            "Clients",
            match results.rate {
                Some(wanted) => format!(
                    "up to {} connections; {} requests/s are due whatever becomes of those before, and latency counts from then",
                    count(results.connections as u64),
                    rate(wanted)
                ),
                None => format!(
                    "{} connections, each asks again as soon as it has its answer",
                    count(results.connections as u64)
                ),
            },
        ),
        ("Answers", format!("{}/s", bytes(results.requests.bytes_per_second))),
        (
            "Generator",
            format!(
                "{} {}, {} of {} processors busy",
                results.threads,
                if results.threads == 1 { "thread" } else { "threads" },
                short(results.generator.cores),
                results.processors
            ),
        ),
    ];
    if let Some(server) = &results.server {
        let (before, after) = (bytes(server.rss_before_bytes as f64), bytes(server.rss_after_bytes as f64));
        facts.push(("Server's cost", format!(
            "{} processors busy, memory {before} before and {after} after; of the history's queue at most {} of {} places taken, {} \
             records without room",
            short(server.cores),
            count(server.history_queue_most),
            count(server.history_queue_max),
            count(server.history_dropped)
        )));
    }
    if let Some(idle) = &results.idle_streams {
        let each =
            idle.bytes_each.map(|each| format!(", {} of memory each", bytes(each))).unwrap_or_default();
        facts.push((
            "Idle streams",
            format!(
                "{} of {} opened, {} lost{each}",
                count(idle.opened as u64),
                count(idle.asked as u64),
                count(idle.lost)
            ),
        ));
    }
    let items: String =
        facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(value))).collect();
    format!("<h2>How it was measured</h2>\n<dl>\n{items}</dl>\n")
}

/// Text of others, made fit for a page.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::results::{Errors, example};
    use super::*;

    #[test]
    fn what_others_named_cannot_break_out_of_the_page() {
        let nasty = "<script>\"&";
        let mut results = example();
        results.url = format!("http://127.0.0.1/{nasty}");
        results.calls[0].name = nasty.to_owned();
        results.requests.failed = 1;
        let (what, example) = (nasty.to_owned(), nasty.to_owned());
        results.errors.push(Errors { what, count: 1, example });
        results.server_unknown = Some(nasty.to_owned());
        let page = page(&results);
        assert!(!page.contains("<script") && !page.contains("\"&\"") && !page.contains(nasty), "{page}");
        // Title, heading, table of latencies, address twice, error twice, and the note.
        assert!(page.matches("&lt;script&gt;&quot;&amp;").count() >= 8, "{page}");
    }

    #[test]
    fn of_a_run_without_answers_no_time_is_told() {
        let mut results = example();
        (results.latency_ms, results.requests.answered) = (None, 0);
        results.calls[0].latency_ms = None;
        let page = page(&results);
        assert!(page.contains("<b>– <small>ms</small></b><span>p50 latency"), "{page}");
        assert!(page.contains("<td>–</td>") && !page.contains("0 ms"), "{page}");
    }
}
