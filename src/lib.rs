//! # Waygate: the map
//!
//! Waygate is one binary, `waygate-mcp`: an MCP (Model Context Protocol) server and gateway that is operated the way a
//! database is. Clients speak MCP over HTTP to one endpoint; behind it plugins do the work; supervised actors keep
//! every part alive and separate; what happens is recorded, measured and explainable.
//!
//! ## The rooms, in the order in which a request falls through the house
//!
//! | room | what it is for | what it may use |
//! |---|---|---|
//! | [`cli`] | what an operator can type | `app`, `stdio`, `loadtest`, `backup`, `config`, `storage` |
//! | [`app`] | builds the house bottom-up, stops it top-down | everything |
//! | [`http`] | the door: bytes to protocol and back | `actors`, `access`, `catalog`, `protocol` |
//! | [`stdio`] | MCP on standard streams: lines to HTTP and back | `protocol` |
//! | [`loadtest`] | many clients of one server, and what they see of it | `config` |
//! | [`protocol`] | MCP as data: no I/O, no clock | – |
//! | [`access`] | who may do what, and how much; pure decisions | `protocol`, `config` |
//! | [`actors`] | who does what, when | `access`, `backup`, `cache`, `catalog`, `plugins`, `protocol`, `replicas`, `storage` |
//! | [`cache`] | answers kept for whoever asks the same again | `replicas`, `protocol`, `config` |
//! | [`replicas`] | what servers that share a Redis tell each other of limits | `access`, `config` |
//! | [`catalog`] | one immutable snapshot of all that is offered | `access`, `plugins`, `protocol` |
//! | [`plugins`] | the seam, the plugins of the binary, MCP servers behind us (`upstream`), child processes | `protocol` |
//! | [`backup`] | copies of all that matters, and the way back | `storage`, `config` |
//! | [`storage`] | the database: SQLite and PostgreSQL | `protocol`, `config` |
//! | [`telemetry`] | logs, metrics, redaction, recent errors, traces, profiles | `config` |
//! | [`config`] | one table of settings, layered | – |
//! | [`error`] | the closed set of error codes | – |
//!
//! Arrows point one way only, and `tests/layering.rs` holds them. Everyone may use `error`, `telemetry` and the plain
//! values of `config`.
//!
//! ## One request's journey (`tools/call`)
//!
//! ```text
//! http/secure       the handshake, where there is a certificate
//! http/limits       Host and Origin, the last net under panics; the body's kind, size and time
//! http/safety       what pages of other origins may do, and what each reply says to browsers
//! http/mcp          the checks, in the order that the protocol wants
//!   protocol        the envelope parsed once, headers held against the body, payloads kept as `Raw`
//! http/quotas       charged to its key or address, its bundle, the server; its places taken
//! http/route        the name looked up in the catalog's snapshot
//!   cache           of the few whose answers are kept: found there, or waited for with those who ask the same
//!   actors/executor on the same thread: the tool's limits, place in the plugin, deadline, panic, cancellation
//!     plugins       handle(request, context)
//!   actors/executor the outcome checked and made a result; its record handed to the history's buffer
//! http/stream       JSON when nothing was said before, an event stream from the first notice on
//! http/reply        the one place where an error becomes a status
//! ```
//!
//! A request of a session (2025-11-25 and before) leaves this road at `http/mcp` for `http/legacy`, which finds its session
//! and comes back to `http/route`; what the plugin asks is asked of the client, and the call is made again with the answers.
//!
//! ## The same journey where the plugin is an MCP server
//!
//! ```text
//! plugins/upstream          handle(request, context): which server, and whether it runs now
//!   modern                  requests and answers as they are; its state sealed with its plugin
//!   legacy                  a session of the pool or the shared one; a call that asks is parked until the answers come
//!   link/stdio, http, sse   bytes: ids and deadlines, headers, streams taken up again
//!     plugins/child         for a program: the guard, its limits, its end
//! ```
//!
//! `config::plugin` reads the files, `app::plugins` makes plugins of them and carries out reloads beside what runs,
//! `actors::plugin` owns their lives, and `catalog` publishes what is ready: at `/mcp`, and at `/mcp/{name}` for bundles and
//! for each plugin alone.
//!
//! ## From one server to the next
//!
//! `app::entry` gets what there can be only one of, the listening socket and the data folder: by itself, from the service
//! manager (`app::service`), or from the server that runs (`app::handover`), which then serves only who is connected, each
//! once more. The new one takes over when its plugins serve, but for programs that bear no twin: those it starts when the old
//! one has ended its own (`app::plugins::turns`). Sessions of the older revisions go on from the database
//! (`actors::session::keeping`), after a `kill -9`, too.
//!
//! ## What must always be true
//!
//! 1. A client always gets an answer: a result, a tool error, or an error that says what to do next.
//! 2. One bad plugin costs its own calls only; lists are served from a snapshot, never from a live plugin.
//! 3. What crashes comes back by itself, and is counted ([`actors::supervision`]).
//! 4. What was recorded stays recorded, and what was not is known to be missing.
//! 5. Secure when nothing is configured; Host and Origin are checked on every route.
//! 6. Unknown is an error: a setting, a flag, a variable.
//! 7. Every wait has a deadline, every queue a limit.
//! 8. Bytes that need not be understood pass through untouched ([`protocol::Raw`]).
//! 9. Inside, everyone speaks the stateless revision (2026-07-28); no plugin knows of eras.
//!
//! ## Embedding
//!
//! [`app::Builder`] takes plugins of your own and [`cli::main`] gives them the whole server: see `examples/echo.rs`.

pub mod access;
pub mod actors;
pub mod app;
pub mod backup;
pub mod cache;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod http;
pub mod loadtest;
pub mod plugins;
pub mod protocol;
pub mod replicas;
pub mod stdio;
pub mod storage;
pub mod telemetry;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
