//! Who does what, when.
//!
//! ```text
//! http ──Perform──▶ executor ──▶ plugins            executor ──Record──▶ db (a bounded buffer beside the request)
//! http ──Watch──▶ plugin ──Tell──▶ session ──Watch──▶ plugin
//! http ──Ask, Answered, Subscribe──▶ session        sessions ──Probe──▶ session
//! http ──Render, Performance──▶ metrics             http ──Judge──▶ health ──Ping──▶ everyone
//! sightings ──LoadDefinitions, SaveDefinitions──▶ db   sessions ──LoadSessions, SaveSessions──▶ db
//! keys ──LookAtKeys, LoadKeys, ActOnKeys, SaveKeyUses──▶ db   http ──(the ring of keys, without a message)──▶ keys
//! http ──reload──▶ app (carries it out; see `plugin::reload`)       plugin ──begins and ends──▶ a life of its plugin
//! http ──clear──▶ clearing ──▶ cache                executor ──(looks, keeps)──▶ cache ◀──(what is stale)── plugin
//! app ──Publish, Stop──▶ plugin   app ──End──▶ session   app ──Flush, Close──▶ db
//! ```
//!
//! Every actor is supervised: see [`supervision`]. Must not know HTTP.

pub mod ask;
pub mod backup;
pub mod certificate;
pub mod clearing;
pub mod clock;
pub mod db;
pub mod executor;
pub mod health;
pub mod keys;
pub mod metrics;
pub mod phase;
pub mod plugin;
pub mod profiling;
pub mod session;
pub mod sightings;
pub mod supervision;
pub mod upkeep;

use std::sync::Arc;
use std::time::Instant;

use actix::Addr;

use crate::catalog::Shelf;
use crate::replicas::Replicas;

/// Everyone who works in the house, and what they share.
pub struct House {
    /// Who is supervised.
    pub roster: Arc<supervision::Roster>,
    /// What is on offer.
    pub shelf: Arc<Shelf>,
    /// The open listen streams.
    pub streams: Arc<session::Streams>,
    /// Who is let in.
    pub keys: Arc<keys::Keys>,
    /// The sessions with legacy clients.
    pub sessions: Arc<session::Sessions>,
    /// The plugins that there are now.
    pub plugins: Arc<plugin::Roll>,
    /// Reads the plugins' folder again, where there is one.
    pub reload: Option<plugin::reload::ReloadHandle>,
    /// What the network is spoken to with, where that is over TLS.
    pub certificate: Option<Arc<certificate::Certificate>>,
    /// The other servers, where requests are counted for all of them together.
    pub replicas: Option<Arc<Replicas>>,
    /// What executors need.
    pub bench: Arc<executor::Bench>,
    /// The database.
    pub db: Addr<db::DbActor>,
    /// The numbers.
    pub metrics: Addr<metrics::MetricsActor>,
    /// The judge.
    pub health: Addr<health::HealthMonitor>,
    /// Starting, serving or draining.
    pub phase: Arc<phase::Phase>,
    /// Names requests.
    pub ids: phase::RequestIds,
    /// When the process began.
    pub began: Instant,
}
