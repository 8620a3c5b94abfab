//! What came of a sweep as a page: the curve and its knee, what it costs, and what to set. Must not know how it was judged.

use std::fmt::Write as _;

use super::super::sweep::{Middle, Row, Sweep};
use super::super::words::{bytes, count, many, milliseconds, perhaps, rate, short};
use super::plot::{Axis, Frame, Point, Series, figure};
use super::{MIB, card, escaped, foot, head, most, notes};

/// The whole page.
pub fn page(sweep: &Sweep) -> String {
    let pace = sweep.rate.map(|wanted| format!(" at {} requests/s", rate(wanted))).unwrap_or_default();
    let about = format!(
        "{} · {} · {}{pace} · {} of {} s each · {}",
        sweep.calls.join(", "),
        sweep.era,
        many(sweep.connections, "connection"),
        many(sweep.rounds, "round"),
        short(sweep.round_seconds),
        many(sweep.processors, "processor")
    );
    let mut text = head("How many workers", &sweep.ended_at, &about);
    text += "<section class=\"cards\">\n";
    card(&mut text, &sweep.knee.workers.to_string(), "workers", "are enough", false);
    if let Some(best) = sweep.best() {
        card(&mut text, &rate(best.per_second.median), "/s", "answers with them", false);
        card(&mut text, &perhaps(best.p99_ms.map(|ms| ms.median), short), "ms", "p99 latency", false);
        if let (Some(cpu), Some(memory)) = (best.cpu_us_per_request, best.rss_bytes) {
            card(&mut text, &short(cpu.median), "µs", "CPU a request", false);
            card(&mut text, &short(memory.median / MIB), "MiB", "server memory", false);
        }
    }
    let failed = sweep.rows.iter().map(|row| row.failed).sum();
    card(&mut text, &count(failed), "", "failed", failed > 0);
    text += "</section>\n";
    text += &notes(&sweep.remarks);
    text += "<div class=\"plots\">\n";
    text += &plots(sweep);
    text += "</div>\n";
    text += &advice(sweep);
    text += &table(sweep);
    text + &foot(sweep.version)
}

fn plots(sweep: &Sweep) -> String {
    let names: Vec<String> = sweep.rows.iter().map(|row| row.workers.to_string()).collect();
    let place = |at: usize| at as f64 + 0.5;
    let knee = sweep.rows.iter().position(|row| row.workers == sweep.knee.workers).map(place);
    let across = Axis::names(&names, "workers");
    let drawn = |title: &str, label: &str, say: fn(f64) -> String, series: &[Series<'_>]| {
        let highest = series.iter().flat_map(|one| one.points.iter().flatten());
        let highest = highest.filter_map(|point| Some(point.spread?.1)).fold(most(series), f64::max);
        figure(
            title,
            (&across, &Axis::round(highest, label, say)),
            series,
            Frame { is_wide: false, marked: knee },
        )
    };
    let line = |name: &'static str, colour: u8, of: &dyn Fn(&Row) -> Option<Middle>, unit: f64| {
        let point = |(at, row): (usize, &Row)| {
            let middle = of(row)?;
            let spread = Some((middle.least / unit, middle.most / unit));
            Some(Point { x: place(at), y: middle.median / unit, spread })
        };
        let points = sweep.rows.iter().enumerate().map(point).collect();
        Series { name, colour, points, is_filled: false }
    };
    let mut text = drawn(
        "Throughput",
        "answers a second",
        rate,
        &[line("answers/s", 1, &|row| Some(row.per_second), 1.0)],
    );
    text += &drawn(
        "Latency",
        "milliseconds",
        short,
        &[line("p99", 2, &|row| row.p99_ms, 1.0), line("p50", 1, &|row| row.p50_ms, 1.0)],
    );
    if sweep.rows.iter().any(|row| row.cpu_us_per_request.is_some()) {
        let cost = [line("server", 1, &|row| row.cpu_us_per_request, 1.0)];
        text += &drawn("CPU a request", "microseconds", short, &cost);
        let memory = [line("server", 1, &|row| row.rss_bytes, MIB)];
        text += &drawn("Memory of the server", "MiB resident", short, &memory);
    }
    text
}

fn advice(sweep: &Sweep) -> String {
    let items = sweep.advice.iter().map(|advice| {
        let (value, reason) = (escaped(&advice.value), escaped(&advice.reason));
        format!("<dt><code>{}={value}</code></dt><dd>{reason}</dd>\n", advice.setting)
    });
    format!("<h2>What to set</h2>\n<dl>\n{}</dl>\n", items.collect::<String>())
}

fn table(sweep: &Sweep) -> String {
    let mut text = String::from(
        "<h2>Figures</h2>\n<div class=\"scroll\"><table><thead><tr><th>workers</th><th>answers/s</th><th>of the most</th>\
         <th>p50</th><th>p99</th><th>processor a request</th><th>server busy</th><th>generator busy</th><th>memory</th>\
         <th>failed</th></tr></thead><tbody>\n",
    );
    for row in &sweep.rows {
        let class = if row.workers == sweep.knee.workers { " class=\"best\"" } else { "" };
        let figure = |of: Option<Middle>, say: fn(f64) -> String| perhaps(of.map(|of| of.median), say);
        let _infallible = writeln!(
            text,
            "<tr{class}><td>{}</td><td>{}</td><td>{} %</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            row.workers,
            rate(row.per_second.median),
            short(row.to_best * 100.0),
            figure(row.p50_ms, milliseconds),
            figure(row.p99_ms, milliseconds),
            figure(row.cpu_us_per_request, |us| format!("{} µs", short(us))),
            figure(row.cores, short),
            short(row.generator_cores.median),
            figure(row.rss_bytes, bytes),
            count(row.failed)
        );
    }
    text + "</tbody></table></div>\n<p><small>Medians over the rounds; lines through points reach from the least to the most. The \
            dashed line is where more workers are of no more use.</small></p>\n"
}
