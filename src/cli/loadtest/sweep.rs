//! `loadtest --sweep-workers`: starts a server for each number of workers, has all of them loaded in turn, and tells from where on
//! more are of no use. Must not know how that is judged.

use std::fmt::Write as _;

use tokio::runtime::Runtime;

use super::servers::{Folder, Server};
use super::sheet::Sheet;
use super::{LoadtestArgs, calls, plan_of, show, stop_at_a_signal, usage};
use crate::cli::{Exit, output, progress};
use crate::config::Config;
use crate::loadtest::sweep::{Contender, Middle, Sweep, sweep};
use crate::loadtest::words::{bytes, count, many, milliseconds, perhaps, rate, short};
use crate::loadtest::{Target, report};

/// The numbers of workers that are tried at once.
const CONTENDERS_MAX: usize = 16;

/// Starts the servers, loads them, and tells what came of it.
///
/// # Errors
/// When a server does not start or cannot be loaded, or the files or stdout cannot be written.
pub fn run(args: &LoadtestArgs, config: &Config, runtime: &Runtime, json: bool) -> anyhow::Result<Exit> {
    let workers = numbers(&args.sweep_workers)?;
    let (csv, page) = (Sheet::new(args.csv.as_deref())?, Sheet::new(args.report.as_deref())?);
    let folder = Folder::new()?;
    // Dropped before the folder in which they lie.
    let servers: Result<Vec<Server>, _> =
        workers.iter().map(|count| Server::start(&folder, *count)).collect();
    let servers = servers?;
    let mut contenders = Vec::new();
    for (workers, server) in workers.iter().zip(&servers) {
        let target = runtime.block_on(Target::find(&server.url, false))?;
        let calls = calls::of(args, config, None, &target)?;
        contenders.push(Contender { workers: *workers, plan: plan_of(args, target, Vec::new(), calls) });
    }
    let line = progress::Line::new();
    let stop = stop_at_a_signal(runtime)?;
    let rounds = args.rounds as usize;
    let swept = runtime.block_on(sweep(&contenders, rounds, &stop, &mut |round, workers, moment| {
        line.show(&format!("round {} of {rounds}, {workers} workers, {}", round + 1, show::moment(moment)));
    }));
    drop(line);
    let swept = swept?;
    csv.publish(|| swept.to_csv())?;
    page.publish(|| report::sweep_page(&swept))?;
    if json {
        output::print_json(&serde_json::to_value(&swept)?)?;
    } else {
        output::print(&output::for_stdout(&table(&swept)))?;
    }
    drop(servers);
    Ok(if swept.is_well() { Exit::Ok } else { Exit::Failure })
}

/// In ascending order, each once.
fn numbers(typed: &[u32]) -> anyhow::Result<Vec<u32>> {
    let mut numbers = typed.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() > CONTENDERS_MAX {
        return Err(usage(&format!(
            "--sweep-workers has {} numbers; {CONTENDERS_MAX} are the most",
            numbers.len()
        )));
    }
    Ok(numbers)
}

/// All of it, for people.
pub fn table(sweep: &Sweep) -> String {
    let pace = sweep.rate.map(|wanted| format!(" at {}/s", rate(wanted))).unwrap_or_default();
    let mut text = format!(
        "{} ({}), {}{pace}, {} of {} s each\n\n",
        sweep.calls.join(", "),
        sweep.era,
        many(sweep.connections, "connection"),
        many(sweep.rounds, "round"),
        short(sweep.round_seconds)
    );
    let figure = |figure: Option<Middle>, say: fn(f64) -> String| perhaps(figure.map(|of| of.median), say);
    let _infallible = writeln!(
        text,
        "  {:>7}  {:>10}  {:>11}  {:>9}  {:>9}  {:>11}  {:>9}",
        "workers", "answers/s", "of the most", "p50", "p99", "cpu/request", "memory"
    );
    for row in &sweep.rows {
        let mark = if row.workers == sweep.knee.workers { "*" } else { " " };
        let _infallible = writeln!(
            text,
            "{mark} {:>7}  {:>10}  {:>11}  {:>9}  {:>9}  {:>11}  {:>9}",
            row.workers,
            rate(row.per_second.median),
            format!("{} %", short(row.to_best * 100.0)),
            figure(row.p50_ms, milliseconds),
            figure(row.p99_ms, milliseconds),
            figure(row.cpu_us_per_request, |us| format!("{} us", short(us))),
            figure(row.rss_bytes, bytes),
        );
    }
    text += "\n";
    for advice in &sweep.advice {
        let _infallible = writeln!(text, "{}={}\n    {}", advice.setting, advice.value, advice.reason);
    }
    for errors in &sweep.errors {
        let example = if errors.example.is_empty() { String::new() } else { format!(": {}", errors.example) };
        let _infallible = writeln!(text, "\nfailed {} times: {}{example}", count(errors.count), errors.what);
    }
    for remark in &sweep.remarks {
        let _infallible = write!(text, "\nnote: {remark}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_workers_come_in_order_and_once() {
        assert_eq!(numbers(&[4, 1, 2, 4]).unwrap(), [1, 2, 4]);
        assert!(numbers(&(1..=17).collect::<Vec<_>>()).is_err());
    }
}
