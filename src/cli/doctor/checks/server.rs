//! Whether the server that owns the data folder answers, and what its own health says. Must not ask anew.

use serde_json::Value;

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::patient::{Patient, Server};

/// Checks of the health that checks here look at more closely.
const ELSEWHERE: [&str; 4] = ["backup", "database", "filesystem", "plugins"];

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    match &patient.server {
        Server::Stopped => Vec::new(),
        Server::Silent { pid, why } => {
            let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            let what = format!("{who} owns the data folder, and does not answer: {why}");
            let command = pid.map_or_else(
                || "fuser -k data/waygate.lock".to_owned(),
                |pid| format!("kill -9 {pid} && waygate-mcp serve"),
            );
            let why = "nobody is served, and no other server can start on the folder";
            vec![Finding::error("server.silent", what, why, command)]
        }
        Server::Running(_) => {
            let problems = patient.page("/health").and_then(|health| health.get("problems"));
            let problems = problems.and_then(Value::as_object).into_iter().flatten();
            let others = problems.filter(|(check, _)| !ELSEWHERE.contains(&check.as_str()));
            others
                .map(|(check, why)| {
                    let what = format!("the health's check {check}: {}", why.as_str().unwrap_or_default());
                    let why = "the server says itself that somebody should look";
                    Finding::warning("server.health", what, why, "waygate-mcp health")
                })
                .collect()
        }
    }
}
