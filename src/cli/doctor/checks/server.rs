//! Whether the server that owns the data folder answers, and what its own health says. Must not ask anew.

use std::path::Path;

use serde_json::Value;

use super::tls;
use crate::cli::doctor::finding::{Finding, quoted};
use crate::cli::doctor::patient::{Patient, Server};
use crate::config::Environment;
use crate::storage::DataFolder;
use crate::telemetry::logging::FILE_NAME;

/// Checks of the health that checks here look at more closely.
const ELSEWHERE: [&str; 5] = ["backup", "database", "filesystem", "log", "plugins"];

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    if let Some(owner) = patient.foreign {
        let root = patient.root.as_deref().unwrap_or_else(|| Path::new("/"));
        let what = format!(
            "{} belongs to user {owner}, and this process runs as another: no server there is asked, no plugin tried, and \
             nothing of its mended",
            root.display()
        );
        let why = "what this user sees of it is not what a server there sees";
        return vec![Finding::warning("server.foreign", what, why, patient.as_user(owner))];
    }
    match &patient.server {
        Server::Stopped => Vec::new(),
        Server::Barred { by, why } => {
            let what = format!("the server on the data folder may not be asked by this user: {why}");
            let folder = patient.data_folder().unwrap_or_default();
            let command = by.map_or_else(
                || format!("look as the user that `stat -c %U {}` names", quoted(&folder)),
                |user| patient.as_user(user),
            );
            let why = "whether it works is not known";
            vec![Finding::error("server.barred", what, why, command)]
        }
        Server::Silent { pid, listens, why } => vec![silent(patient, *pid, *listens, why)],
        Server::Running(_) => {
            let problems = patient.page("/health").and_then(|health| health.get("problems"));
            let problems = problems.and_then(Value::as_object).into_iter().flatten();
            // What is amiss with the files of the certificate is told there; that it was not read again, only here.
            let is_told = |check: &str| check == "certificate" && !tls::of_server(patient).is_empty();
            let others = problems
                .filter(|(check, _)| !ELSEWHERE.contains(&check.as_str()) && !is_told(check.as_str()));
            others
                .map(|(check, why)| {
                    let what = format!("the health's check {check}: {}", why.as_str().unwrap_or_default());
                    let why = "the server says itself that somebody should look";
                    Finding::warning("server.health", what, why, mends(check))
                })
                .collect()
        }
    }
}

/// What becomes of a check of the health that no check here looks at more closely.
fn mends(check: &str) -> &'static str {
    match check {
        "cache" => {
            "start the Redis that cache.redis_url names: calls go on meanwhile, and it is used again by itself"
        }
        "limits" => {
            "start the Redis that counts for all servers: each counts by itself meanwhile, and goes back to it by itself"
        }
        "certificate" => "waygate-mcp plugins reload",
        _ => "do what it says; `waygate-mcp health` ends with 0 when that was enough",
    }
}

/// One that does not listen yet may wait for something that its log names: nobody is told to kill it. One that listens and does not
/// answer within the time in which all that are well do is of no use to anybody.
fn silent(patient: &Patient, pid: Option<i32>, listens: bool, heard: &str) -> Finding {
    let root = patient.root.as_deref().unwrap_or_else(|| Path::new("/"));
    let log = root.join("logs").join(FILE_NAME);
    let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
    if !listens {
        let what = format!(
            "{who} owns the data folder, and does not listen yet: it starts, or waits for its database"
        );
        let why = "nobody is served until it has started";
        let command = format!(
            "wait until it serves, or mend what it waits for, as `tail -n 50 {}` tells",
            quoted(&log)
        );
        return Finding::warning("server.starting", what, why, command);
    }
    let what = format!("{who} owns the data folder, listens, and does not answer: {heard}");
    let why = "nobody is served, and no other server can start on the folder; to end it does no harm to what is on disk";
    let ends = pid.map_or_else(
        || format!("fuser -k {}", quoted(&DataFolder::lock_in(&root.join("data")))),
        |pid| format!("kill -9 {pid}"),
    );
    let is_service = patient.config().is_some_and(|config| config.server.env == Environment::Production);
    // Systemd starts what was killed again, with all that it needs.
    let command = if is_service {
        "systemctl kill --signal=KILL waygate-mcp.service".to_owned()
    } else {
        format!("{ends} && waygate-mcp serve --data-dir {}", quoted(root))
    };
    Finding::error("server.silent", what, why, command)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::SystemTime;

    use super::*;
    use crate::config::{Sources, load};

    fn patient(server: Server, foreign: Option<u32>) -> Patient {
        let folder = PathBuf::from("/nowhere");
        let (home, working_folder, system_folder) = (Some(folder.clone()), folder.clone(), folder);
        let sources = Sources { home, working_folder, system_folder, ..Sources::default() };
        Patient {
            root: Some(PathBuf::from("/srv/way gate")),
            foreign,
            env_file: None,
            named_env_file: Some(PathBuf::from("/etc/waygate/waygate.env")),
            secrets: Vec::new(),
            loaded: load(&sources),
            maker: None,
            server,
            url: None,
            environment: Vec::new(),
            now: SystemTime::now(),
        }
    }

    #[test]
    fn nobody_is_told_to_kill_a_server_that_starts_or_that_they_may_not_ask() {
        let silent = |listens| Server::Silent { pid: Some(7), listens, why: "it takes long".to_owned() };
        let barred = |by| Server::Barred { by, why: "user 9 listens there".to_owned() };
        let as_nine =
            "sudo -u '#9' waygate-mcp doctor --env-file /etc/waygate/waygate.env --data-dir '/srv/way gate'";
        let waits = "wait until it serves, or mend what it waits for, as `tail -n 50 '/srv/way gate/logs/waygate.log'` tells";
        let ends = "kill -9 7 && waygate-mcp serve --data-dir '/srv/way gate'";
        let unknown = Server::Silent { pid: None, listens: true, why: "it takes long".to_owned() };
        let of_unknown =
            "fuser -k '/srv/way gate/data/waygate.lock' && waygate-mcp serve --data-dir '/srv/way gate'";
        let who = "look as the user that `stat -c %U '/srv/way gate/data'` names";
        for (server, foreign, id, command) in [
            (silent(false), None, "server.starting", waits),
            (silent(true), None, "server.silent", ends),
            (unknown, None, "server.silent", of_unknown),
            (barred(Some(9)), None, "server.barred", as_nine),
            (barred(None), None, "server.barred", who),
            (barred(None), Some(9), "server.foreign", as_nine),
            (silent(true), Some(9), "server.foreign", as_nine),
        ] {
            let found = look(&patient(server, foreign));
            let [finding] = &found[..] else { panic!("{found:?}") };
            assert_eq!((finding.id, finding.command.as_str()), (id, command));
        }
    }
}
