//! The composition root: builds the house bottom-up and stops it top-down. The only room that knows everyone.

mod builder;
mod ending;
mod entry;
mod front;
mod handover;
mod host;
mod house;
pub mod keys;
mod listener;
mod means;
pub mod own_key;
mod owners;
pub mod plugins;
mod sealing;
pub mod service;
mod waiting;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use actix_web::dev::ServerHandle;
use tokio::sync::{oneshot, watch};

use crate::actors::House;
use crate::actors::ask::{AskError, ask};
use crate::actors::certificate::Certificate;
use crate::actors::db::messages::Close;
use crate::actors::db::{Act, CLOSE_DEADLINE, ITSELF, RecordError};
use crate::actors::keys::Keys;
use crate::actors::phase::Phase;
use crate::actors::plugin::END_WITHIN;
use crate::actors::session::keeping;
use crate::actors::sightings;
use crate::backup::{BackupError, Places, restore};
use crate::config::{Config, Database};
use crate::http;
use crate::http::door::Connections;
use crate::storage::socket::{self, Socket};
use crate::storage::{self, DataFolder, Instance, Nook, Owned, Storage, StorageError, acts};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::traces::Collecting;

pub use crate::actors::certificate::validity::of as validity_of;
pub use crate::plugins::child::confine::enter as enter_confinement;
pub use crate::plugins::child::guard::keep as keep_guard;
pub use crate::plugins::child::strays::{Stray, strays};
pub use crate::protocol::spoken as revisions;
pub use builder::Builder;
use ending::{CLOSE_WITHIN, PLUGINS_WITHIN, SESSIONS_WITHIN, SIGHTINGS_WITHIN, watch_for_doom};
pub use entry::Entry;
use entry::{Entered, enter};
pub use front::try_certificate;
use front::{frame, read_certificate};
use handover::{Offer, Word};
pub use listener::{Holder, holder_of};
use means::Means;
pub use means::{new_notary, notary};
use waiting::Doorstep;

/// How long nobody may have come, after that was asked for, until it is certain that nobody will.
const QUIET_FOR: Duration = Duration::from_millis(100);
/// How long a connection is waited for to read the keys at start.
const KEYS_WITHIN: Duration = Duration::from_secs(10);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be bound.
    #[error("{0}")]
    Listen(String),
    /// There is no key, where there must be one.
    #[error("{0}")]
    Open(String),
    /// The data folder or the database cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A restore was cut off and cannot be finished.
    #[error(transparent)]
    Restore(#[from] BackupError),
    /// A built-in plugin cannot be made.
    #[error("{0}")]
    Plugin(String),
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The sealing key cannot be read or made.
    #[error("{0}")]
    Key(String),
    /// A thread or a server could not be started.
    #[error("a part of the server could not be started: {0}")]
    Part(String),
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and everything is on disk.
    Clean,
    /// It was asked to, and something could not be finished in time.
    Cut(String),
}

/// A running server.
pub struct App {
    house: Arc<House>,
    server: ServerHandle,
    connections: Arc<Connections>,
    address: Option<SocketAddr>,
    socket: Option<Socket>,
    /// None where nobody can take over.
    offer: Option<Offer>,
    /// Whether others listen at the address when this server does not.
    is_shared: bool,
    drain: Duration,
    doom: watch::Receiver<Option<String>>,
    collecting: Collecting,
    ground: Ground,
}

/// What a server stands on, let go of when it has stopped.
enum Ground {
    /// The data folder, which is this server's.
    Owned(Owned),
    /// A place of its own in the data folder, which may be another's.
    Beside(Nook),
}

impl Ground {
    /// Where its socket is.
    fn place(&self) -> &Path {
        match self {
            Self::Owned(folder) => folder.path(),
            Self::Beside(nook) => nook.path(),
        }
    }
}

impl App {
    /// Starts everything and returns when requests are served: from the network, and over the socket in the data folder.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(builder: Builder, config: &Config, entry: Entry) -> Result<Self, StartError> {
        let began = Instant::now();
        // First of all: a server that runs has not been asked for anything yet.
        let certificate = read_certificate(config).await?;
        let Entered { listener, folder, word, is_shared, was_guarded } = enter(config, entry).await?;
        // Another server answers meanwhile, if one hands over.
        let tls = certificate.as_ref().map(|shown| shown.config());
        let doorstep = word.is_none().then_some(Doorstep { listener: &listener, is_kept: is_shared, tls });
        let (storage, keys) = open_storage(config, doorstep, storage::open).await?;
        self::keys::guarded(config, &keys, was_guarded)?;
        let ground = Ground::Owned(folder);
        let is_relieving = word.is_some();
        let site = Site { ground, network: Some(listener), certificate, storage, keys, began, is_relieving };
        let mut app = Self::build(builder, config, Instance::begin(), site).await?;
        app.is_shared = is_shared;
        if let Some(word) = word {
            app.take_over(word)?;
        }
        Ok(app)
    }

    /// Has the other server end, and stands where it stood.
    fn take_over(&mut self, word: Word) -> Result<(), StartError> {
        if let Ground::Owned(folder) = &self.ground {
            folder.sign()?;
        }
        // One that ended by itself meanwhile took nothing along: the socket is this server's, too.
        drop(word.serving());
        Ok(())
    }

    /// Starts a server for the one client of this process: beside whatever runs on the data folder, and reached over
    /// [`App::place`] alone.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start_beside(builder: Builder, config: &Config) -> Result<Self, StartError> {
        let began = Instant::now();
        // It comes and goes with its client, beside one that keeps the schedule.
        let mut config = config.clone();
        config.backup.every_hours = 0;
        let config = &config;
        let instance = Instance::begin();
        restore::settle(&Places::of(config))?;
        let nook = DataFolder::nook(&data_folder(config), &instance.id)?;
        // One that began after that waits for the folder now, and is undone or finished by whoever has it next.
        if restore::is_pending(&config.server.data_dir) {
            let owner = "a restore that was cut off".to_owned();
            return Err(StorageError::Taken { folder: data_folder(config), owner }.into());
        }
        let folder = data_folder(config);
        let open = move |database: &Database, path: &Path| storage::open_beside(database, path, &folder);
        let (storage, keys) = open_storage(config, None, open).await?;
        let ground = Ground::Beside(nook);
        let (network, certificate, is_relieving) = (None, None, false);
        let site = Site { ground, network, certificate, storage, keys, began, is_relieving };
        Self::build(builder, config, instance, site).await
    }

    async fn build(
        builder: Builder,
        config: &Config,
        instance: Instance,
        site: Site,
    ) -> Result<Self, StartError> {
        let Site { ground, network, certificate, storage, keys, began, is_relieving } = site;
        let address = network.as_ref().map(TcpListener::local_addr).transpose();
        let address = address.map_err(|error| StartError::Listen(error.to_string()))?;
        // Before the first thread runs: it may well fail, and `stdio` tries again.
        let means = Means::gather(builder, config, certificate.clone())?;
        let eras = means.eras;
        let phase = Arc::new(Phase::default());
        let (house, starting) =
            house::build(means, config, (storage, keys), &instance, Arc::clone(&phase), began).await?;
        if let Some(starting) = starting.filter(|_| is_relieving) {
            plugins::begin::settle(starting, &house.plugins).await;
        }
        // The other server's, if there is one, until now.
        let (user, socket) = entrance(&ground)?.unzip();
        let frame = frame(config, &house, address, socket.as_ref(), eras);
        owners::count_together(&frame);
        let connections = Arc::clone(&frame.connections);
        let offer = offer(network.as_ref(), &ground, Arc::clone(&house.keys));
        let collecting = Collecting::begin(&config.telemetry, &instance.id).map_err(StartError::Part)?;
        // One client needs no more than one worker, and a second one beside a call that computes.
        let most = if network.is_some() { usize::MAX } else { 2 };
        let manners = http::Manners {
            workers: config.server.workers.min(most),
            connections_max: config.server.connections_max,
            head_timeout: Duration::from_secs(config.server.receive_timeout_seconds),
            keep_alive: Duration::from_secs(config.server.keep_alive_seconds),
        };
        // Before anybody is accepted: all that a request needs is there.
        phase.serve();
        let server = http::serve(http::Entrances { network, certificate, user }, frame, manners)
            .map_err(|error| StartError::Part(error.to_string()))?;
        let handle = server.handle();
        actix_rt::spawn(server);
        house.bench.recorder.act(started(address, &ground));
        let doom = house.roster.doomed();
        watch_for_doom(doom.clone(), config.server.drain_seconds);
        Ok(Self {
            house,
            server: handle,
            connections,
            address,
            socket,
            offer,
            is_shared: false,
            drain: Duration::from_secs(config.server.drain_seconds),
            doom,
            collecting,
            ground,
        })
    }

    /// Where it listens, if it does so on the network.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The folder with the socket that it listens on.
    pub fn place(&self) -> &Path {
        self.ground.place()
    }

    /// Reads the plugins' folder and the certificate's files again for `by`, where there are such, and does not wait for it.
    pub fn reload(&self, by: &str) {
        if let Some(certificate) = &self.house.certificate {
            let (certificate, house, by) = (Arc::clone(certificate), Arc::clone(&self.house), Arc::from(by));
            actix_rt::spawn(async move {
                drop(certificate.reload(&by, &house.bench.recorder).await);
            });
        }
        if let Some(reload) = &self.house.reload {
            reload.nudge(by);
        }
    }

    /// Whether everybody is let in, since there is no key.
    pub fn is_open(&self) -> bool {
        self.house.keys.ring().is_open()
    }

    /// How long the start took.
    pub fn age(&self) -> Duration {
        self.house.began.elapsed()
    }

    /// Returns when something vital was given up, with the reason.
    pub fn doomed(&self) -> impl Future<Output = String> + use<> {
        let mut doom = self.doom.clone();
        async move {
            match doom.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "the roster is gone".to_owned(),
            }
        }
    }

    /// Returns when another server has taken over, and never otherwise; [`App::stop`] is then to follow.
    pub fn taken_over(&self) -> impl Future<Output = ()> + use<> {
        let taken = self.offer.as_ref().map(Offer::taken);
        async move {
            match taken {
                Some(taken) => taken.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Stops: refuses new requests, ends the listen streams with their result, lets calls in flight finish within
    /// the drain deadline, and writes out the history. Where others listen at the same address, whoever is connected is
    /// first served once more, and nobody is refused.
    pub async fn stop(mut self) -> Ended {
        let mut cut = Vec::new();
        let deadline = Instant::now() + self.drain;
        let is_relieved = self.offer.as_ref().is_some_and(Offer::is_taken);
        if self.is_shared || is_relieved {
            self.send_away(deadline, is_relieved).await;
        }
        self.house.phase.drain();
        self.house.streams.end_all();
        while METRICS.in_flight.get() > 0 || self.house.streams.view().open > 0 {
            if Instant::now() >= deadline {
                cut.push(format!(
                    "{} requests did not end within {} s",
                    METRICS.in_flight.get(),
                    self.drain.as_secs()
                ));
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.server.stop(cut.is_empty()).await;
        self.house.reload.iter().for_each(|reload| reload.end());
        // Now that nobody calls them any more, so that no process of theirs is left behind.
        let left = deadline.saturating_duration_since(Instant::now());
        let late = self.house.plugins.stop_all(left.clamp(PLUGINS_WITHIN, END_WITHIN)).await;
        if !late.is_empty() {
            cut.push(format!("plugins did not end in time: {}", late.join(", ")));
        }
        if let Err(why) = sightings::save(&self.house.shelf, &self.house.db, SIGHTINGS_WITHIN).await {
            cut.push(format!("what tools look like could not be saved: {why}"));
        }
        if let Err(why) = keeping::save(&self.house.sessions, &self.house.db, SESSIONS_WITHIN).await {
            cut.push(format!("how sessions stand could not be saved: {why}"));
        }
        let why = if is_relieved { "another server took over" } else { "it was asked to" };
        let detail =
            std::iter::once(why).chain(cut.iter().map(String::as_str)).collect::<Vec<_>>().join("; ");
        self.house.bench.recorder.act(Act::done(acts::SERVER_STOP, ITSELF, detail));
        if let Err(error) = self.close_history().await {
            cut.push(format!("the history could not be written out: {error}"));
        }
        drop((self.socket, self.offer));
        drop(self.ground);
        // Last of all: neither the history nor a server that takes over waits for who collects traces.
        self.collecting.end().await;
        if cut.is_empty() { Ended::Clean } else { Ended::Cut(cut.join("; ")) }
    }
}

impl App {
    /// Takes no more connections, and ends those that there are with their next answer. One on which nothing is asked
    /// is kept until the deadline: a request may be on its way.
    async fn send_away(&self, deadline: Instant, is_relieved: bool) {
        self.house.phase.retire();
        if is_relieved {
            // What left would be missed by a reload, and made anew.
            self.house.reload.iter().for_each(|reload| reload.end());
            // The other server waits for each of them, and whoever calls one here is sent there.
            let house = Arc::clone(&self.house);
            actix_rt::spawn(async move { house.plugins.leave_exclusive(deadline).await });
        }
        // Not waited for by anyone: who accepts takes note of it a little later, and may accept once more until then.
        self.server.pause().await;
        self.house.streams.end_all();
        let (mut accepted, mut quiet_since) = (self.connections.accepted(), Instant::now());
        while Instant::now() < deadline {
            let now = self.connections.accepted();
            if now != accepted || self.connections.count() > 0 {
                (accepted, quiet_since) = (now, Instant::now());
            } else if quiet_since.elapsed() >= QUIET_FOR {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes out what is recorded. An actor that was given up has left its writer behind, which is then told directly.
    async fn close_history(&self) -> Result<(), AskError<RecordError>> {
        match ask(&self.house.db, Close, CLOSE_WITHIN).await {
            Err(AskError::Closed) => {
                self.house.bench.recorder.close(CLOSE_DEADLINE).await.map_err(AskError::Reply)
            }
            closed => closed,
        }
    }
}

/// What the history says of a start.
fn started(address: Option<SocketAddr>, ground: &Ground) -> Act {
    let place = address.map_or_else(|| ground.place().display().to_string(), |address| address.to_string());
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    Act::done(acts::SERVER_START, ITSELF, format!("version {version}, process {pid}, at {place}"))
}

/// What a house is built on.
struct Site {
    ground: Ground,
    network: Option<TcpListener>,
    certificate: Option<Arc<Certificate>>,
    storage: Storage,
    keys: Arc<Keys>,
    began: Instant,
    /// Whether another server serves until this one does.
    is_relieving: bool,
}

/// The socket for this user. A server of the network goes on without it, as on a file system that has no sockets.
fn entrance(ground: &Ground) -> Result<Option<(UnixListener, Socket)>, StorageError> {
    match (socket::bind(ground.place(), socket::SERVER), ground) {
        (Ok(bound), _) => Ok(Some(bound)),
        (Err(error), Ground::Owned(_)) => {
            log::warn!("`waygate-mcp stdio` cannot reach this server, and will serve by itself: {error}");
            Ok(None)
        }
        (Err(error), Ground::Beside(_)) => Err(error),
    }
}

/// A server of the network can be taken over. One that cannot, as on a file system without sockets, serves all the same.
fn offer(network: Option<&TcpListener>, ground: &Ground, keys: Arc<Keys>) -> Option<Offer> {
    let (Some(listener), Ground::Owned(folder)) = (network, ground) else { return None };
    let offer = Offer::make(listener, folder, move || !keys.ring().is_open());
    offer.inspect_err(|error| log::warn!("no other server can take over from this one: {error}")).ok()
}

/// Where database, keys and lock are.
fn data_folder(config: &Config) -> PathBuf {
    config.server.data_dir.join("data")
}

/// Opens and migrates the database beside the listener, and reads the keys: who calls meanwhile is told to come back.
async fn open_storage(
    config: &Config,
    doorstep: Option<Doorstep<'_>>,
    open: impl Fn(&Database, &Path) -> Result<Storage, StorageError> + Send + 'static,
) -> Result<(Storage, Arc<Keys>), StorageError> {
    let own = config.access.api_key.clone();
    if let Some(key) = &own {
        own_key::note(&data_folder(config), key);
    }
    let (database, default) = (config.database.clone(), data_folder(config).join("waygate.db"));
    let opening = actix_web::web::block(move || {
        let storage = waiting::until_present(&database, || open(&database, &default))?;
        let applied = service::patiently(|says| {
            storage.migrate_telling(|name| says(&format!("the database is brought up to date: {name}")))
        })?;
        if !applied.is_empty() {
            log::info!(migrations = applied.len(); "the database was brought up to date: {}", applied.join(", "));
        }
        let (counter, rows) = storage.run(KEYS_WITHIN, crate::storage::keys::all_at)?;
        Ok((storage, Keys::new(own, (counter, &rows))))
    });
    let opened = match doorstep {
        Some(doorstep) => waiting::serve_while(opening, doorstep).await,
        None => opening.await,
    };
    opened
        .unwrap_or_else(|error| Err(StorageError::Folder { path: PathBuf::new(), cause: error.to_string() }))
}

/// Runs `make` on the thread of `arbiter`.
fn on<T, F>(arbiter: &Arbiter, make: F) -> impl Future<Output = Result<T, StartError>> + use<T, F>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    arbiter.spawn_fn(move || {
        // What nobody waits for any more would be nobody's.
        if !sender.is_closed() {
            drop(sender.send(make()));
        }
    });
    async { receiver.await.map_err(|_| StartError::Part("its thread ended".to_owned())) }
}
