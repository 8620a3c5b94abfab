//! `serve`: the server's life as its operator sees it: load, start, say what to do next, wait, stop.

use std::io::Write as _;
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Signal, getpid, kill_process, set_dumpable_behavior};
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, output};
use crate::app::{App, Builder, Ended, Entry, StartError, service};
use crate::config::{Loaded, Mode, weak_key};
use crate::storage::StorageError;
use crate::telemetry::logging::{self, LogHandle};

/// What `serve` can be told.
#[derive(Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// Take over from the server that runs on the same data folder: it serves until this one does, and no connection is
    /// refused in between
    #[arg(long)]
    take_over: bool,
    /// Have a tool to be measured with, and end when stdin does: how `loadtest` starts it
    #[arg(long, hide = true)]
    measured: bool,
}

/// Runs the server until it is told to stop, or another one has taken over.
pub fn run(args: &ServeArgs, builder: Builder, loaded: &Loaded) -> ExitCode {
    let config = &loaded.config;
    // Before the first thread, the log's.
    let given = service::socket();
    let container = config.server.mode == Mode::Container;
    let logs = config.server.data_dir.join("logs");
    let log = match logging::start(&config.log, config.log.file.then_some(&*logs), container) {
        Ok(log) => log,
        Err(error) => return fail(&error.to_string(), Exit::CannotCreate),
    };
    for note in &loaded.notes {
        log::info!("{note}");
    }
    if let Err(error) = hide_memory() {
        log::warn!("other programs of this user can look into this process, and see its key: {error}");
    }
    let builder = if args.measured {
        end_with_stdin();
        builder.measured()
    } else {
        builder
    };
    let entry = match given {
        Ok(Some(socket)) => Entry::Given(socket),
        Ok(None) if args.take_over => Entry::TakeOver,
        Ok(None) => Entry::Fresh,
        Err(why) => return fail(&why, Exit::CannotCreate),
    };
    actix_rt::System::new().block_on(live(builder, loaded, entry, &log))
}

/// Hides the memory and the environment, the key among it, from other processes of the same user: a server that runs as a
/// plugin is one, and Landlock is not everywhere.
fn hide_memory() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Stops as a signal would have it stop when whoever started this holds its stdin no longer, as when that process was killed.
fn end_with_stdin() {
    let waiting = std::thread::Builder::new().name("stdin".to_owned());
    let waits = waiting.spawn(|| {
        // However reading ends, nobody is there any more.
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        if kill_process(getpid(), Signal::TERM).is_err() {
            std::process::exit(i32::from(Exit::Internal.code()));
        }
    });
    if let Err(error) = waits {
        log::warn!("it does not end with whoever started it: {error}");
    }
}

async fn live(builder: Builder, loaded: &Loaded, entry: Entry, log: &LogHandle) -> ExitCode {
    let signals =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::user_defined1(), SignalKind::hangup()]
            .map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut reopen), Ok(mut reload)] = signals else {
        return fail("signals cannot be received", Exit::Internal);
    };
    // A start may wait long for the database; who says stop meanwhile need not wait, too. Nothing is recorded yet.
    let started = tokio::select! {
        started = App::start(builder, &loaded.config, entry) => Some(started),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let app = match started {
        None => {
            log::info!("told to stop while it started; it stops");
            leave(log, Exit::Ok)
        }
        Some(Ok(app)) => app,
        Some(Err(error)) => return fail(&error.to_string(), exit_of(&error)),
    };
    announce(&app, loaded);
    let doom = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = reopen.recv() => log.reopen(),
            _ = reload.recv() => app.reload("local: SIGHUP"),
            () = app.taken_over() => {
                log::info!("another server has taken over");
                break None;
            }
            why = app.doomed() => break Some(why),
        }
    };
    service::stopping();
    match &doom {
        None => {
            log::info!("stopping: calls in flight have {} s to finish", loaded.config.server.drain_seconds)
        }
        Some(why) => log::error!("not live any more, so the server drains and exits: {why}"),
    }
    let ended = tokio::select! {
        ended = app.stop() => ended,
        _ = interrupt.recv() => Ended::Cut("a second interrupt ended it at once".to_owned()),
    };
    match (&ended, doom) {
        (_, Some(_)) => leave(log, Exit::Internal),
        (Ended::Clean, None) => {
            log::info!("stopped; everything is on disk");
            leave(log, Exit::Ok)
        }
        (Ended::Cut(why), None) => {
            log::error!("stopped, but {why}");
            leave(log, Exit::Internal)
        }
    }
}

/// Ends the process, its last words written, even where a blocked thread of a plugin would hold it.
fn leave(log: &LogHandle, exit: Exit) -> ! {
    log.flush();
    std::process::exit(i32::from(exit.code()))
}

/// Says where it listens and what to do next: to a person on stdout, to a collector as a log line.
fn announce(app: &App, loaded: &Loaded) {
    let config = &loaded.config;
    let address = app.address().map(|address| format!("{}://{address}", config.scheme())).unwrap_or_default();
    let url = config.server.public_url.clone().unwrap_or(address);
    service::ready(&url);
    log::info!(url = url.as_str(), workers = config.server.workers, took_ms = app.age().as_millis() as u64; "serving {url}/mcp");
    let open = app.is_open();
    if open {
        log::warn!(
            "there is no key: everyone who reaches this address may call every tool; the first key closes it at once: make one by \
             `waygate-mcp keys create NAME`, or set WAYGATE_API_KEY"
        );
    }
    if let Some(why) = weak_key(config) {
        log::warn!("{why}");
    }
    if config.server.mode == Mode::Container {
        return;
    }
    let key = if open { "" } else { " -H 'Authorization: Bearer '$WAYGATE_API_KEY" };
    let text = format!(
        "Waygate {version} serves MCP at {url}/mcp\n\n\
         See what it offers:   waygate-mcp tools list\n\
         Call a tool:          waygate-mcp tools call waygate__status\n\
         Look after it:        curl{key} {url}/health\n\
         Its data:             {data}\n\
         Stop it:              Ctrl-C\n",
        version = env!("CARGO_PKG_VERSION"),
        data = config.server.data_dir.display(),
    );
    // A closed stdout is no reason to stop.
    drop(std::io::stdout().write_all(text.as_bytes()));
}

pub(super) fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::Storage(error) => exit_of_storage(error),
        StartError::Restore(error) => super::backup::exit_of(error),
        StartError::Open(_) | StartError::Tls(_) => Exit::Configuration,
        StartError::Part(_) => Exit::Internal,
        StartError::Listen(_) | StartError::Plugin(_) | StartError::Key(_) => Exit::CannotCreate,
    }
}

pub(super) fn exit_of_storage(error: &StorageError) -> Exit {
    match error {
        StorageError::Taken { .. }
        | StorageError::Locked(_)
        | StorageError::Busy(_)
        | StorageError::Slow(_)
        | StorageError::Closed(_) => Exit::Temporary,
        error if error.is_absence() => Exit::Temporary,
        StorageError::Forbidden(_) => Exit::NotPermitted,
        _ => Exit::Storage,
    }
}

pub(super) fn fail(why: &str, exit: Exit) -> ExitCode {
    log::error!("the server does not start: {why}");
    log::logger().flush();
    output::say(&format!("waygate-mcp: {why}"));
    exit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_holds_in_memory_is_hidden_from_its_user_s_other_programs() {
        hide_memory().unwrap();
        let behavior = rustix::process::dumpable_behavior().unwrap();
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
        assert_eq!(behavior, DumpableBehavior::NotDumpable);
    }

    #[test]
    fn only_what_may_be_over_soon_is_worth_a_retry() {
        let (place, cause) = ("here".to_owned(), "so".to_owned());
        for passing in [
            StorageError::Locked(place.clone()),
            StorageError::Busy(place.clone()),
            StorageError::Slow(place.clone()),
            StorageError::Unreachable { place: place.clone(), cause: cause.clone() },
            StorageError::Taken { folder: "/here".into(), owner: "process 1".to_owned() },
        ] {
            assert_eq!(exit_of_storage(&passing), Exit::Temporary, "{passing}");
        }
        assert_eq!(exit_of_storage(&StorageError::Forbidden("/here".into())), Exit::NotPermitted);
        for lasting in [
            StorageError::Missing(place.clone()),
            StorageError::ReadOnly(place.clone()),
            StorageError::Corrupt { place: place.clone(), cause },
            StorageError::Encoding { place, encoding: "LATIN1".to_owned() },
        ] {
            assert_eq!(exit_of_storage(&lasting), Exit::Storage, "{lasting}");
        }
    }
}
