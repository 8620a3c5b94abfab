//! What Waygate promises over HTTP, chapter by chapter: black-box tests against a real server process.

#[cfg(test)]
#[path = "../support/legacy.rs"]
mod legacy;
#[cfg(test)]
#[path = "../faults/upstreams/scripted.rs"]
#[expect(dead_code, reason = "what a server behind Waygate can do wrong is another test's affair")]
mod scripted;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod access;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod batches;
#[cfg(test)]
mod behind_nginx;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod builtins;
#[cfg(test)]
mod bundles;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod cors;
#[cfg(test)]
mod eras;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod first_call;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod input;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod listen;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod operations;
#[cfg(test)]
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(test)]
mod profile;
#[cfg(test)]
#[cfg(feature = "redis")]
mod replicas;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod rmcp;
#[cfg(test)]
mod session_answers;
#[cfg(test)]
mod session_asks;
#[cfg(test)]
mod session_calls;
#[cfg(test)]
mod session_streams;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sse;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod stdio;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod system;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod without_database;
