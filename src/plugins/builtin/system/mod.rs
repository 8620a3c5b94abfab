//! The built-in `system` plugin: the tool `execute_command`, for the programs that the operator granted and no others.
//!
//! A program gets its arguments as they are, from no shell; it runs under a guard, and nothing of it outlives its call.
//! Reading order: `definitions` (what is offered), `run` (one program's run), `capture` (what is kept of its output),
//! `progress`, `answer` (what the client reads). Must not know actors, storage, HTTP or the configuration.

mod answer;
mod capture;
mod definitions;
mod progress;
mod run;

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::files::roots::Roots;
use super::files::{FilesError, Root};
use crate::plugins::child::{ENDS_WITHIN, Guard, Order};
use crate::plugins::{Context, Inventory, Outcome, Plugin, PluginError, Request};
use crate::protocol::Raw;
use crate::protocol::content::ToolResult;

/// How long a program may take to end once it is asked to; then it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// What the operator grants.
#[derive(Debug, Clone)]
pub struct Options {
    /// What clients may run; at least one.
    pub programs: Vec<Program>,
    /// What programs find in their environment, but for `HOME`: that is the working folder.
    pub environment: Vec<(OsString, OsString)>,
    /// Folders that exist and that programs may work in; the first one is where they do unless a call says otherwise.
    pub roots: Vec<Root>,
    /// The longest that a program may run.
    pub timeout: Duration,
    /// How long a call may wait for its turn.
    pub wait: Duration,
    /// Shown of stdout, and of stderr.
    pub output_max_bytes: usize,
    /// Programs at once.
    pub programs_max: usize,
}

/// One granted program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// As the operator wrote it, and as clients name it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The plugin.
#[derive(Debug)]
pub struct System {
    options: Options,
    roots: Roots,
    guard: Guard,
    /// A place is held until nothing of the program is left, also where nobody waits for it any more.
    places: Arc<Semaphore>,
}

/// The arguments of `execute_command`; the schema has checked all that can be checked without looking.
#[derive(Debug, Deserialize)]
struct Arguments {
    program: String,
    #[serde(default)]
    arguments: Vec<String>,
    stdin: Option<String>,
    working_directory: Option<String>,
    timeout_seconds: Option<u64>,
}

impl System {
    /// Opens the folders that programs may work in.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn new(options: Options, guard: Guard) -> Result<Arc<Self>, FilesError> {
        let roots = Roots::open(options.roots.clone())?;
        let places = Arc::new(Semaphore::new(options.programs_max));
        Ok(Arc::new(Self { options, roots, guard, places }))
    }

    /// The deadline that its calls need: to wait for their turn, to run, and to be ended.
    pub fn seat_seconds(&self) -> u64 {
        (self.options.wait + self.options.timeout + GRACE + ENDS_WITHIN).as_secs().saturating_add(1)
    }

    async fn execute(self: Arc<Self>, arguments: &Raw, context: Context) -> Result<Raw, PluginError> {
        let asked: Arguments = arguments
            .read()
            .map_err(|error| PluginError::InvalidParams(format!("the arguments do not fit: {error}")))?;
        let busy = || {
            let count = self.options.programs_max;
            PluginError::Unavailable(format!("{count} programs run, as many as system.programs_max allows"))
        };
        let turn = tokio::time::timeout(self.options.wait, Arc::clone(&self.places).acquire_owned()).await;
        let place = turn.map_err(|_elapsed| busy())?.map_err(|_closed| busy())?;
        let left = CancellationToken::new();
        let _tells = left.clone().drop_guard();
        // A task of its own: where the caller leaves, it sees to the end of the program, and only then gives up its place.
        let work = Arc::clone(&self).work(asked, context, left, place);
        tokio::spawn(work).await.map_err(|error| PluginError::Failed(error.to_string()))?
    }

    async fn work(
        self: Arc<Self>,
        asked: Arguments,
        context: Context,
        left: CancellationToken,
        _place: OwnedSemaphorePermit,
    ) -> Result<Raw, PluginError> {
        let longest = self.options.timeout;
        let timeout = asked.timeout_seconds.map_or(longest, Duration::from_secs).min(longest);
        let stdin = asked.stdin.clone();
        let this = Arc::clone(&self);
        // Opening folders and starting processes blocks.
        let started = context.blocking(move || {
            let order = this.order(&asked)?;
            this.guard.start(order).map_err(|error| format!("{} does not run: {error}", asked.program))
        });
        let child = match started.await? {
            Ok(child) => child,
            Err(why) => return Ok(ToolResult::failed(why).into_raw()),
        };
        let limits = run::Limits { timeout, grace: GRACE, output_max_bytes: self.options.output_max_bytes };
        let ran = run::run(child, stdin, limits, &context, &left).await;
        Ok(answer::result(ran, timeout))
    }

    /// What is to be run, or why it cannot be, for the caller to read.
    fn order(&self, asked: &Arguments) -> Result<Order, String> {
        let program = self.options.programs.iter().find(|program| program.name == asked.program);
        let program = program.ok_or_else(|| format!("there is no program {:?}", asked.program))?;
        if let Some(index) = asked.arguments.iter().position(|argument| argument.contains('\0')) {
            return Err(format!(
                "argument {} holds a NUL, which no program can be given; remove it",
                index + 1
            ));
        }
        let (folder, path) = self.folder(asked.working_directory.as_deref())?;
        // Later ones win: what the operator names may be PATH or HOME, too.
        let mut environment = vec![(OsString::from("HOME"), path.into_os_string())];
        environment.extend(self.options.environment.iter().cloned());
        Ok(Order {
            program: program.path.clone(),
            arguments: asked.arguments.iter().map(OsString::from).collect(),
            environment,
            folder,
            feeds: asked.stdin.is_some(),
            grace: GRACE,
            confinement: None,
            lock: None,
        })
    }

    /// The folder to work in, held open, and its path.
    fn folder(&self, asked: Option<&str>) -> Result<(OwnedFd, PathBuf), String> {
        let first = self.options.roots.first().map(|root| root.name.as_str()).unwrap_or_default();
        let refused = |why: String| format!("working_directory cannot be used: {why}");
        let place =
            self.roots.place(asked.unwrap_or(first)).map_err(|trouble| refused(trouble.to_string()))?;
        let opened = place.open_dir().map_err(|trouble| refused(trouble.to_string()))?;
        let folder = OwnedFd::from(opened.into_std_file());
        let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let path = path.map_err(|error| refused(format!("{} has no path: {error}", place.shown())))?;
        Ok((folder, path))
    }
}

impl Plugin for System {
    fn inventory(&self) -> Inventory {
        definitions::inventory(&self.options)
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move {
            match request {
                Request::Call { tool, arguments, .. } if &*tool == definitions::TOOL => {
                    self.execute(&arguments, context).await.map(Outcome::Complete)
                }
                Request::Call { tool, .. } => Err(PluginError::Unknown(tool.to_string())),
                other => Err(PluginError::Unknown(format!("use for {other:?} here"))),
            }
        })
    }
}

/// Names of granted programs that run whatever they are told to: with one of them, the list of programs limits nothing.
pub fn interpreters(programs: &[Program]) -> Vec<&str> {
    const KNOWN: [&str; 20] = [
        "ash", "awk", "bash", "busybox", "dash", "docker", "env", "fish", "ksh", "lua", "node", "perl",
        "php", "python", "python3", "ruby", "sh", "ssh", "sudo", "zsh",
    ];
    let known: HashSet<&str> = KNOWN.into();
    let is_known = |program: &&Program| {
        program.path.file_name().and_then(|name| name.to_str()).is_some_and(|name| known.contains(name))
    };
    programs.iter().filter(is_known).map(|program| program.name.as_str()).collect()
}
