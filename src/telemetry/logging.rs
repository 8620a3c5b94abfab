//! The log: what `log` is told, as lines of text or JSON, to a file and to the console.
//!
//! Lines are handed to one thread for each place, over a queue with a limit: a full disk or a console that nobody reads
//! costs lines, which are counted, and never time. Must not know what is logged, except that secrets never are.

mod file;
mod line;
mod outlet;

use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use env_logger::{Builder, Target, WriteStyle};
use log::{Log, Metadata, Record};

use crate::config::{self, LogFormat};
use file::{LogFile, Trouble};
use outlet::{Outlet, Writer};

/// The log's name in its folder.
pub const FILE_NAME: &str = "waygate.log";

/// How long the last lines may take at the end of the process.
const FLUSH_SECONDS: u64 = 2;

/// That of this process's file, since there is one log in a process.
static TROUBLE: OnceLock<Trouble> = OnceLock::new();

/// How the log's file stands: none where none is written; within, why lines do not come to it.
pub fn file_trouble() -> Option<Option<String>> {
    TROUBLE.get().map(|trouble| trouble.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be written.
    #[error("the log {path} cannot be written: {source}; let this user write it, or set log.file = false")]
    File {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// No thread for it.
    #[error("no thread for the log could be started: {0}; raise the limit of threads for this user")]
    Thread(std::io::Error),
    /// Another logger was there first.
    #[error("something in this process logs already; start Waygate's log before it, or not at all")]
    Taken,
}

/// The running log. Dropping it waits a little for the last lines to be written.
#[derive(Debug)]
pub struct LogHandle {
    outlets: Vec<Outlet>,
    reopen: Arc<AtomicBool>,
    trouble: Option<Trouble>,
}

impl LogHandle {
    /// Has the file opened anew with the next line: what SIGUSR1 asks for.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        for outlet in &self.outlets {
            outlet.wake();
        }
    }

    /// Waits until all lines so far are written, two seconds at most for each place.
    pub fn flush(&self) {
        let within = Duration::from_secs(FLUSH_SECONDS);
        for outlet in &self.outlets {
            outlet.flush(within);
        }
    }

    /// Lines that could not be written, in all.
    pub fn lost(&self) -> u64 {
        self.outlets.iter().map(Outlet::lost).sum()
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Starts the log of this process, and has panics logged. The file is `waygate.log` in `logs_folder`, written when the
/// settings want it and there is a folder; the console is stderr, or stdout in a container.
///
/// # Errors
/// When the file cannot be opened, no thread can be started, or something logs already.
pub fn start(
    settings: &config::Log,
    logs_folder: Option<&Path>,
    container: bool,
) -> Result<LogHandle, LogError> {
    let (logger, handle) =
        build(settings, logs_folder.filter(|_| settings.file), Console::of_process(container))?;
    log::set_boxed_logger(Box::new(logger)).map_err(|_taken| LogError::Taken)?;
    if let Some(trouble) = &handle.trouble {
        // There is no second log that could be in its place.
        TROUBLE.get_or_init(|| Arc::clone(trouble));
    }
    log::set_max_level(settings.level);
    log_panics();
    Ok(handle)
}

/// Where lines go beside the file.
struct Console {
    write: Box<dyn std::io::Write + Send>,
    colours: bool,
}

impl Console {
    fn of_process(container: bool) -> Self {
        if container {
            return Self { write: Box::new(std::io::stdout()), colours: false };
        }
        let stderr = std::io::stderr();
        // `Auto` would look at our pipe, which is no terminal; so the terminal is looked at here.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: stderr.is_terminal() && !plain, write: Box::new(stderr) }
    }
}

fn build(
    settings: &config::Log,
    folder: Option<&Path>,
    console: Console,
) -> Result<(Both, LogHandle), LogError> {
    let reopen = Arc::new(AtomicBool::new(false));
    let style = if console.colours { WriteStyle::Always } else { WriteStyle::Never };
    let to_console = Outlet::start("log-console", settings.format, Box::new(Plain(console.write)))
        .map_err(LogError::Thread)?;
    let mut loggers = vec![logger(settings, to_console.writer(), style)];
    let (mut outlets, mut trouble) = (vec![to_console], None);
    if let Some(folder) = folder {
        let path = folder.join(FILE_NAME);
        let file = LogFile::open(&path, Arc::clone(&reopen))
            .map_err(|source| LogError::File { path: path.display().to_string(), source })?;
        trouble = Some(file.trouble());
        let to_file = Outlet::start("log-file", settings.format, Box::new(file)).map_err(LogError::Thread)?;
        loggers.push(logger(settings, to_file.writer(), WriteStyle::Never));
        outlets.push(to_file);
    }
    Ok((Both(loggers), LogHandle { outlets, reopen, trouble }))
}

fn logger(settings: &config::Log, writer: Writer, style: WriteStyle) -> env_logger::Logger {
    let mut builder = Builder::new();
    builder.filter_level(settings.level).write_style(style).target(Target::Pipe(Box::new(writer)));
    match settings.format {
        LogFormat::Text => builder.format(|buffer, record| {
            let style = buffer.default_level_style(record.level());
            line::text(record, style).and_then(|line| buffer.write_all(line.as_bytes()))
        }),
        LogFormat::Json => builder.format(|buffer, record| buffer.write_all(line::json(record).as_bytes())),
    };
    builder.build()
}

/// The console, which needs no care.
struct Plain(Box<dyn std::io::Write + Send>);

impl outlet::Sink for Plain {
    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.0.write_all(line).and_then(|()| self.0.flush())
    }
    fn tick(&mut self) {}
}

/// The same record to each logger.
struct Both(Vec<env_logger::Logger>);

impl Log for Both {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.iter().any(|logger| logger.enabled(metadata))
    }
    fn log(&self, record: &Record<'_>) {
        for logger in &self.0 {
            logger.log(record);
        }
    }
    fn flush(&self) {}
}

/// A panic becomes one line: what and where, without a backtrace.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let said =
            payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let said = said.unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        log::error!(place = place.as_str(), thread = name; "panicked: {said}");
    }));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn settings(format: LogFormat) -> config::Log {
        config::Log { level: log::LevelFilter::Info, format, file: true }
    }

    fn say(logger: &Both, level: log::Level, text: &str) {
        logger.log(&Record::builder().level(level).target("waygate").args(format_args!("{text}")).build());
    }

    #[test]
    fn a_line_reaches_both_places_and_only_the_terminal_has_colours() {
        let folder = tempfile::tempdir().unwrap();
        let screen = Screen::default();
        let console = Console { write: Box::new(screen.clone()), colours: true };
        let (logger, handle) = build(&settings(LogFormat::Text), Some(folder.path()), console).unwrap();
        say(&logger, log::Level::Warn, "watch out");
        say(&logger, log::Level::Debug, "not wanted");
        handle.flush();
        let path = folder.path().join(FILE_NAME);
        let file = fs::read_to_string(&path).unwrap();
        assert!(file.ends_with(" WARN  waygate watch out\n") && file.lines().count() == 1, "{file:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let screen = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        assert!(screen.contains("\u{1b}[") && screen.contains("watch out"), "{screen:?}");
    }

    #[test]
    fn a_rotated_log_goes_on_in_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let console = Console { write: Box::new(Screen::default()), colours: false };
        let (logger, handle) = build(&settings(LogFormat::Json), Some(folder.path()), console).unwrap();
        let (path, old) = (folder.path().join(FILE_NAME), folder.path().join("waygate.log.1"));
        say(&logger, log::Level::Info, "before");
        handle.flush();
        fs::rename(&path, &old).unwrap();
        handle.reopen();
        say(&logger, log::Level::Info, "after");
        handle.flush();
        assert!(fs::read_to_string(&old).unwrap().contains("before"));
        let new = fs::read_to_string(&path).unwrap();
        assert!(new.contains("after") && !new.contains("before"));
        assert_eq!(handle.lost(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_with_advice() {
        let console = Console { write: Box::new(Screen::default()), colours: false };
        let error = build(&settings(LogFormat::Text), Some(Path::new("/proc/none")), console)
            .map(|_| ())
            .unwrap_err();
        assert!(error.to_string().contains("log.file = false"), "{error}");
    }
}
