//! `loadtest`: many clients at once against one server, or against one of its own after another with ever more workers. Reading
//! order: here, what can be typed; `calls`, what is asked; `show`, how it is told; `sheet`, the files; `sweep` and `servers`, one server after another.
//!
//! Must not know how load is made.

mod calls;
mod servers;
mod sheet;
mod show;
mod sweep;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::remote::{ClientError, is_own};
use super::whereabouts::Whereabouts;
use super::{Exit, output, progress};
use crate::config::{Config, Loaded, Secret};
use crate::loadtest::{Era, LoadError, Plan, Target};

pub const EXAMPLES: &str = "\
Examples:
  waygate-mcp loadtest                                          the server that runs here
  waygate-mcp loadtest http://127.0.0.1:9000/mcp --tool echo --arg message=hello
  waygate-mcp loadtest --tool echo --arg 'message={payload}' --payload-bytes 2048 --connections 64
  waygate-mcp loadtest --rate 2000 --ramp 10s --duration 60s    as they come, not as fast as they are answered
  waygate-mcp loadtest --mix calls.toml --report load.html      several tools, and a page with plots
  waygate-mcp loadtest --era legacy --idle-streams 1000         sessions, and a thousand streams held open beside them
  waygate-mcp loadtest --sweep-workers 1,2,4,8 --report sweep.html   how many workers are enough on this machine

Without --tool and --mix it calls the tool `echo` where there is one, and asks for `tools/list` where there is none. The key is
that of WAYGATE_API_KEY or of --key-file. Ctrl-C ends it, and what was measured by then is told. The exit code is 1 when a
request was not answered rightly. --sweep-workers starts servers of its own, with a tool to be measured with, and ends them.
";

const KEY_FILE_MAX_BYTES: u64 = 1 << 20;
const THREADS_MAX: usize = 8;

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum EraName {
    /// 2026-07-28, answers as JSON
    Modern,
    /// 2026-07-28 with a progress token, answers as event streams
    Streamed,
    /// 2025-11-25, a session for each connection
    Legacy,
}

/// What load, on whom.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadtestArgs {
    /// The server's MCP endpoint, in place of that of the one that runs on the data folder, or at the configured address
    #[arg(value_name = "URL", conflicts_with = "sweep_workers")]
    url: Option<String>,
    /// How it is spoken to
    #[arg(long, value_enum, value_name = "ERA", default_value = "modern")]
    era: EraName,
    /// The tool to call
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// One argument of it; may be given again
    #[arg(long = "arg", value_name = "KEY=VALUE", requires = "tool")]
    args: Vec<String>,
    /// All its arguments, as a JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "args", requires = "tool")]
    arguments: Option<String>,
    /// A file of several calls with weights, TOML or JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tool", "payload_bytes"])]
    mix: Option<PathBuf>,
    /// The size of the text that takes the place of an argument {payload}
    #[arg(long, value_name = "BYTES")]
    payload_bytes: Option<usize>,
    /// Clients at once, each with one connection and one request at a time
    #[arg(long, short, value_name = "COUNT", default_value_t = 32, value_parser = count(100_000))]
    connections: u32,
    /// Requests a second that come whatever becomes of those before; latency counts from when each was due
    #[arg(long, value_name = "PER_SECOND", value_parser = read_rate)]
    rate: Option<f64>,
    /// How long it is measured
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = read_time)]
    duration: Duration,
    /// How long it runs before that
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = read_time)]
    warm_up: Duration,
    /// How long it takes, still before, until all clients or the whole rate are there
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = read_time)]
    ramp: Duration,
    /// After how long an answer is not waited for any more
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = read_time)]
    timeout: Duration,
    /// Streams that are opened before and held, though nothing comes on them
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    idle_streams: u32,
    /// Threads that make the load; half of the processors if nothing is said
    #[arg(long, value_name = "COUNT", value_parser = count(256))]
    threads: Option<u32>,
    /// A file with the key, in place of WAYGATE_API_KEY; with several, one a line, each connection uses one of them in turn
    #[arg(long, value_name = "FILE", conflicts_with = "sweep_workers")]
    key_file: Option<PathBuf>,
    /// Load a server on another machine
    #[arg(long, conflicts_with = "sweep_workers")]
    allow_remote: bool,
    /// Start a server with each of these numbers of workers, load them in turn, and tell how many are enough
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = count(1024))]
    sweep_workers: Vec<u32>,
    /// How often each of them is loaded
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = count(1000), requires = "sweep_workers")]
    rounds: u32,
    /// Write a line for each second, or each 250 ms of less than 10 s, into this file; of a sweep, for each number of workers
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a page with plots into this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn count(most: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=most)
}

fn read_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.01..=10_000_000.0).contains(rate));
    rate.ok_or_else(|| "a rate is a number from 0.01 to 10000000".to_owned())
}

fn read_time(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_secs(7 * 86_400);
    let time = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    let time = time.filter(|time| *time <= MOST);
    time.ok_or_else(|| "a time is written as 500ms, 10s, 1.5s or 5m, and a week is the most".to_owned())
}

/// Loads the server and tells what came of it.
///
/// # Errors
/// When the files or stdout cannot be written.
pub fn run(args: &LoadtestArgs, loaded: &Loaded, json: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = load(args, &loaded.config, &runtime, json);
    done.map(ExitCode::from).or_else(|error| match exit_of(&error) {
        Some(exit) => {
            output::say(&format!("waygate-mcp: {error:#}"));
            Ok(exit.into())
        }
        None => Err(error),
    })
}

fn exit_of(error: &anyhow::Error) -> Option<Exit> {
    let of_load = error.downcast_ref().map(|error| match error {
        LoadError::Usage(_) => Exit::Usage,
        LoadError::Unreachable { .. } => Exit::Unreachable,
        LoadError::TooSlow { .. } => Exit::Temporary,
        LoadError::NotPermitted { .. } => Exit::NotPermitted,
        LoadError::Refused { .. } | LoadError::Interrupted(_) => Exit::Failure,
        LoadError::Machine(_) => Exit::CannotCreate,
    });
    of_load.or_else(|| error.downcast_ref().map(ClientError::exit))
}

fn load(
    args: &LoadtestArgs,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    json: bool,
) -> anyhow::Result<Exit> {
    if args.duration.is_zero() || args.timeout.is_zero() {
        return Err(usage("--duration and --timeout must be more than nothing"));
    }
    if !args.sweep_workers.is_empty() {
        return sweep::run(args, config, runtime, json);
    }
    let here = args.url.clone().map_or_else(|| Whereabouts::of(config), |url| Ok(Whereabouts::Named(url)))?;
    let root = &config.server.data_dir;
    let url = here.url().ok_or_else(|| usage(&here.why_no_url(root)))?;
    let shows_key = args.key_file.is_some() || config.access.api_key.is_some();
    if let Some(why) = here.why_no_key(root).filter(|_| shows_key) {
        return Err(usage(&why));
    }
    let sheets = [sheet::Sheet::new(args.csv.as_deref())?, sheet::Sheet::new(args.report.as_deref())?];
    let target = runtime.block_on(Target::find(url, args.allow_remote))?;
    let keys = keys_of(args, config, url, target.is_near())?;
    let calls = calls::of(args, config, keys.first(), &target)?;
    let plan = plan_of(args, target, keys, calls);
    let line = progress::Line::new();
    let stop = stop_at_a_signal(runtime)?;
    let results = runtime.block_on(crate::loadtest::run(plan, &stop, &mut |moment| {
        line.show(&show::moment(moment));
    }));
    drop(line);
    let results = results?;
    let [csv, report] = sheets;
    csv.publish(|| results.to_csv())?;
    report.publish(|| crate::loadtest::report::page(&results))?;
    if json {
        output::print_json(&serde_json::to_value(&results)?)?;
    } else {
        output::print(&output::for_stdout(&show::table(&results)))?;
    }
    Ok(if results.is_well() { Exit::Ok } else { Exit::Failure })
}

fn usage(why: &str) -> anyhow::Error {
    LoadError::Usage(why.to_owned()).into()
}

fn plan_of(
    args: &LoadtestArgs,
    target: Target,
    keys: Vec<Secret>,
    calls: Vec<crate::loadtest::Call>,
) -> Plan {
    let half = std::thread::available_parallelism().map_or(1, |all| all.get() / 2).clamp(1, THREADS_MAX);
    let connections = args.connections as usize;
    let threads = args.threads.map_or(half, |threads| threads as usize).min(connections);
    Plan {
        target,
        keys,
        era: args.era.into(),
        calls,
        connections,
        rate: args.rate,
        threads,
        ramp: args.ramp,
        warm_up: args.warm_up,
        duration: args.duration,
        timeout: args.timeout,
        idle_streams: args.idle_streams as usize,
    }
}

impl From<EraName> for Era {
    fn from(name: EraName) -> Self {
        match name {
            EraName::Modern => Self::Modern,
            EraName::Streamed => Self::Streamed,
            EraName::Legacy => Self::Legacy,
        }
    }
}

/// The keys of the file that is named; else that of the configuration, for servers of this machine and for its own.
fn keys_of(args: &LoadtestArgs, config: &Config, url: &str, is_near: bool) -> anyhow::Result<Vec<Secret>> {
    let Some(path) = &args.key_file else {
        let key = config.access.api_key.clone().filter(|_| is_near || is_own(url, config, None));
        return Ok(key.into_iter().collect());
    };
    let wrong = |why: &str| usage(&format!("--key-file {}{why}", path.display()));
    let size = std::fs::metadata(path).map(|file| file.len());
    let text = size.and_then(|size| match size {
        0..=KEY_FILE_MAX_BYTES => std::fs::read_to_string(path),
        _ => Err(std::io::Error::other("it is too large to be a file of keys")),
    });
    let text = text.map_err(|error| wrong(&format!(" cannot be used: {error}")))?;
    let keys: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if keys.is_empty() || !keys.iter().all(|key| key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(wrong(" holds no key: each is one word of ASCII, on a line of its own"));
    }
    Ok(keys.into_iter().map(Secret::new).collect())
}

/// Told when somebody wants it to end: what was measured by then is told, and a second signal ends it at once.
fn stop_at_a_signal(runtime: &tokio::runtime::Runtime) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    let _inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be received")?;
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| anyhow!("signals cannot be received: {error}"))?;
    runtime.spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(i32::from(Exit::Failure.code()));
            }
            told.cancel();
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_as_people_write_them() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("1.5s", 1500), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(read_time(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in ["", "10", "-1s", "1y", "8d", "ten"] {
            assert!(read_time(bad).is_err(), "{bad}");
        }
        assert_eq!(read_rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "x"] {
            assert!(read_rate(bad).is_err(), "{bad}");
        }
    }
}
