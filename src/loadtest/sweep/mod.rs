//! One server after another, each with another number of workers and under the same load: what each does, from where on more workers
//! are of no use, and what that says about settings. Reading order: here, the rounds; `knee`, the judgement; `advice`, the words.
//!
//! Must not know how a server is started.

mod advice;
mod knee;

use std::fmt::Write as _;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use advice::Advice;
pub use knee::Knee;

use super::results::Results;
use super::{LoadError, Moment, Plan, run};

/// A server with so many workers, under this load.
pub struct Contender {
    /// How many.
    pub workers: u32,
    /// The load.
    pub plan: Plan,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sweep {
    /// Of this program.
    pub version: &'static str,
    /// When it ended, in UTC.
    pub ended_at: String,
    /// How the servers were spoken to.
    pub era: &'static str,
    /// What was asked.
    pub calls: Vec<String>,
    /// Clients.
    pub connections: usize,
    /// Requests a second that were to come.
    pub rate: Option<f64>,
    /// How often each server was measured, and for how long each time.
    pub rounds: usize,
    pub round_seconds: f64,
    /// Processors of this machine.
    pub processors: usize,
    /// Whether somebody ended it.
    pub interrupted: bool,
    /// One a number of workers, the least first; medians over the rounds.
    pub rows: Vec<Row>,
    /// From where on more workers are of no use.
    pub knee: Knee,
    /// What to set.
    pub advice: Vec<Advice>,
    /// What whoever reads this should know before.
    pub remarks: Vec<String>,
    /// What went wrong, of all rounds.
    pub errors: Vec<super::results::Errors>,
    /// Whether each run was well.
    #[serde(skip)]
    are_well: bool,
}

/// A number of workers, and what came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// How many.
    pub workers: u32,
    /// Answers a second.
    pub per_second: Middle,
    /// Half of the requests took no longer.
    pub p50_ms: Option<Middle>,
    /// All but a hundredth of them did.
    pub p99_ms: Option<Middle>,
    /// Processor time of one request.
    pub cpu_us_per_request: Option<Middle>,
    /// Processors that the server kept busy.
    pub cores: Option<Middle>,
    /// Its memory at its most.
    pub rss_bytes: Option<Middle>,
    /// Processors that the generator kept busy.
    pub generator_cores: Middle,
    /// The median of its rates against those of the same rounds at the best number of workers.
    pub to_best: f64,
    /// Requests that failed.
    pub failed: u64,
    /// History records that found no room, and the most that waited.
    pub history_dropped: u64,
    pub history_queue_most: u64,
    pub history_queue_max: u64,
}

/// A figure of several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Middle {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Middle {
    /// Of these; none where there are none.
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut all: Vec<f64> = figures.collect();
        all.sort_by(f64::total_cmp);
        Some(Self { median: median(&all)?, least: *all.first()?, most: *all.last()? })
    }
}

/// Of figures in order.
fn median(sorted: &[f64]) -> Option<f64> {
    let (upper, lower) = (sorted.get(sorted.len() / 2)?, sorted.get(sorted.len().saturating_sub(1) / 2)?);
    Some(f64::midpoint(*upper, *lower))
}

/// Loads each in turn, and in the other order the next time, so that what else the machine does falls on all of them alike.
/// `watch` is told the round, the workers, and how far that is.
///
/// # Errors
/// When one of them could not be measured.
pub async fn sweep(
    contenders: &[Contender],
    rounds: usize,
    stop: &CancellationToken,
    watch: &mut dyn FnMut(usize, u32, &Moment),
) -> Result<Sweep, LoadError> {
    let mut runs: Vec<Vec<Results>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        let forth = 0..contenders.len();
        let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
        for at in order {
            let Some(contender) = contenders.get(at).filter(|_| !stop.is_cancelled()) else { continue };
            let mut told = |moment: &Moment| watch(round, contender.workers, moment);
            // One that was cut off is no match for those that were not.
            let whole = match run(contender.plan.clone(), stop, &mut told).await {
                Err(LoadError::Interrupted(_)) => None,
                results => Some(results?).filter(|results| !results.interrupted),
            };
            if let Some(runs) = runs.get_mut(at) {
                runs.extend(whole);
            }
        }
    }
    let workers: Vec<u32> = contenders.iter().map(|contender| contender.workers).collect();
    gather(&workers, &runs, stop.is_cancelled())
}

/// Of the rounds in which each of them was measured to the end.
fn gather(workers: &[u32], runs: &[Vec<Results>], interrupted: bool) -> Result<Sweep, LoadError> {
    let whole = runs.iter().map(Vec::len).min().unwrap_or(0);
    let runs: Vec<&[Results]> = runs.iter().filter_map(|runs| runs.get(..whole)).collect();
    let Some(first) = runs.first().and_then(|runs| runs.first()) else {
        let why = "it was ended before the first round was, so there is nothing to compare";
        return Err(LoadError::Interrupted(why.to_owned()));
    };
    let rates = workers.iter().zip(&runs);
    let rates: Vec<(u32, Vec<f64>)> = rates
        .map(|(workers, runs)| (*workers, runs.iter().map(|run| run.requests.per_second).collect()))
        .collect();
    let knee = knee::find(&rates);
    let rows = workers.iter().zip(&runs).zip(&knee.to_best);
    let rows: Vec<Row> =
        rows.filter_map(|((workers, runs), to_best)| Row::of(*workers, runs, *to_best)).collect();
    let mut errors: Vec<super::results::Errors> = Vec::new();
    for error in runs.iter().copied().flatten().flat_map(|run| &run.errors) {
        match errors.iter_mut().find(|known| known.what == error.what) {
            Some(known) => known.count += error.count,
            None => errors.push(error.clone()),
        }
    }
    let advice = advice::of(&rows, &knee, first.processors, first.rate.is_some());
    let remarks = advice::remarks(&rows, &knee, first.processors, interrupted);
    Ok(Sweep {
        version: first.version,
        ended_at: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        era: first.era,
        calls: first.calls.iter().map(|kind| kind.name.clone()).collect(),
        connections: first.connections,
        rate: first.rate,
        rounds: whole,
        round_seconds: first.measured_seconds,
        processors: first.processors,
        interrupted,
        rows,
        knee,
        advice,
        remarks,
        errors,
        are_well: runs.iter().copied().flatten().all(Results::is_well),
    })
}

impl Row {
    fn of(workers: u32, runs: &[Results], to_best: f64) -> Option<Self> {
        let server = || runs.iter().filter_map(|run| run.server);
        Some(Self {
            workers,
            per_second: Middle::of(runs.iter().map(|run| run.requests.per_second))?,
            p50_ms: Middle::of(runs.iter().filter_map(|run| Some(run.latency_ms?.p50))),
            p99_ms: Middle::of(runs.iter().filter_map(|run| Some(run.latency_ms?.p99))),
            cpu_us_per_request: Middle::of(server().filter_map(|server| server.cpu_us_per_request)),
            cores: Middle::of(server().map(|server| server.cores)),
            rss_bytes: Middle::of(server().map(|server| server.rss_most_bytes as f64)),
            generator_cores: Middle::of(runs.iter().map(|run| run.generator.cores))?,
            to_best,
            failed: runs.iter().map(|run| run.requests.failed).sum(),
            history_dropped: server().map(|server| server.history_dropped).sum(),
            history_queue_most: server().map(|server| server.history_queue_most).max().unwrap_or(0),
            history_queue_max: server().map(|server| server.history_queue_max).max().unwrap_or(0),
        })
    }
}

impl Sweep {
    /// Whether every request was answered rightly, and every idle stream was held, in each run that counts.
    pub fn is_well(&self) -> bool {
        self.are_well
    }

    /// The row of the knee.
    pub fn best(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.workers == self.knee.workers)
    }

    /// Row by row, for spreadsheets.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "workers,per_second,per_second_least,per_second_most,to_best,p50_ms,p99_ms,cpu_us_per_request,server_cores,\
             rss_bytes,generator_cores,failed\n",
        );
        for row in &self.rows {
            let figure =
                |figure: Option<Middle>| figure.map(|of| format!("{:.3}", of.median)).unwrap_or_default();
            let _infallible = writeln!(
                text,
                "{},{:.1},{:.1},{:.1},{:.4},{},{},{},{},{},{:.3},{}",
                row.workers,
                row.per_second.median,
                row.per_second.least,
                row.per_second.most,
                row.to_best,
                figure(row.p50_ms),
                figure(row.p99_ms),
                figure(row.cpu_us_per_request),
                figure(row.cores),
                figure(row.rss_bytes),
                row.generator_cores.median,
                row.failed
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_of_few_and_of_many() {
        let of = |figures: &[f64]| Middle::of(figures.iter().copied()).map(|middle| middle.median);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some(3.0));
        assert_eq!(of(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    fn failing(what: &str) -> Results {
        let mut run = super::super::results::example();
        run.requests.failed = 1;
        run.errors.push(super::super::results::Errors {
            what: what.to_owned(),
            count: 1,
            example: String::new(),
        });
        run
    }

    #[test]
    fn what_was_not_measured_by_all_is_in_no_figure() {
        let run = super::super::results::example;
        let runs = [vec![run(), failing("of the second round")], vec![run()]];
        let swept = gather(&[1, 2], &runs, true).unwrap();
        assert_eq!((swept.rounds, swept.errors.len(), swept.rows[0].failed), (1, 0, 0));
        assert!(swept.is_well());
        let nothing = gather(&[1, 2], &[vec![run()], Vec::new()], true).unwrap_err();
        assert!(matches!(nothing, LoadError::Interrupted(_)), "{nothing}");
    }

    #[test]
    fn a_sweep_is_well_when_each_of_its_runs_was() {
        let run = super::super::results::example;
        assert!(!gather(&[1], &[vec![run(), failing("status 503")]], false).unwrap().is_well());
        let mut lonely = run();
        lonely.idle_streams =
            Some(super::super::results::Idle { asked: 3, opened: 2, lost: 0, bytes_each: None });
        assert!(!gather(&[1], &[vec![lonely]], false).unwrap().is_well());
        let mut silent = run();
        (silent.latency_ms, silent.requests.answered) = (None, 0);
        let swept = gather(&[1, 2], &[vec![run()], vec![silent]], false).unwrap();
        assert!(swept.rows.len() == 2 && swept.rows[1].p99_ms.is_none() && !swept.is_well());
    }
}
