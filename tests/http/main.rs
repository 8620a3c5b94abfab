//! What Waygate promises over HTTP, chapter by chapter: black-box tests against a real server process.

#[path = "../support/mod.rs"]
mod support;

mod first_call;
