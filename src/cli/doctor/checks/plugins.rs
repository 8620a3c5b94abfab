//! Every plugin's file, and whether its server serves: as the running server says, or, without one, by trying it.
//!
//! Must not know how a server is spoken to.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::app::plugins::check::check_plugin;
use crate::app::plugins::make::Maker;
use crate::cli::doctor::finding::{Finding, edits, quoted};
use crate::cli::doctor::patient::Patient;
use crate::config::Faults;
use crate::config::plugin::{McpServer, PluginFile, PluginKind, path_of, read_folder};
use crate::storage::DataFolder;

/// Servers that are tried at once.
const AT_ONCE: usize = 4;
/// All of them together.
const ALL_WITHIN: Duration = Duration::from_secs(100);

/// Looks.
pub fn look(patient: &Patient) -> Vec<Finding> {
    let Some(config) = patient.config() else { return Vec::new() };
    let folder = config.server.data_dir.join("plugins");
    let read = match read_folder(&folder) {
        Ok(read) => read,
        // That it is another user's is told by the check of the server.
        Err(_) if patient.foreign.is_some() => return Vec::new(),
        Err(why) => {
            let command = format!("chmod u+rwx {}", quoted(&folder));
            return vec![Finding::error("plugins.folder", why, "no plugin is served", command)];
        }
    };
    let mut found: Vec<Finding> = read
        .notes
        .iter()
        .filter(|note| note.contains("is never read"))
        .map(|note| {
            let path = Path::new(note.split(" is never read").next().unwrap_or_default());
            let why = "whoever wrote it believes that it is a plugin";
            Finding::warning("plugins.unread", note.clone(), why, renames(path))
        })
        .collect();
    for (name, outcome) in &read.files {
        if let Err(faults) = outcome {
            let why = "it is not served, or as it was before the file was changed";
            let path = path_of(&folder, name);
            let line = faults.iter().find_map(|fault| fault.place.rsplit_once(':')).map(|(_, line)| line);
            let line = line.filter(|line| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()));
            found.push(Finding::error("plugins.file", faults.on_one_line(), why, edits(&path, line)));
        }
    }
    match patient.page("/plugins") {
        Some(shown) => found.extend(states(shown, &folder)),
        None if patient.is_running() => {}
        None => found.extend(try_ours(patient, &folder, &read.files)),
    }
    found.extend(patient.page("/bundles").into_iter().flat_map(|shown| bundles(shown, &folder)));
    found
}

fn states(shown: &Value, folder: &Path) -> Vec<Finding> {
    let all = shown.get("plugins").and_then(Value::as_array).into_iter().flatten();
    let found = all.filter_map(|plugin| {
        let text = |member: &str| plugin.get(member).and_then(Value::as_str).unwrap_or_default();
        let (name, state) = (text("name"), text("state"));
        let what = format!("the plugin {name} is {state}: {}", text("why"));
        let why = "its tools are not served, or not all of them";
        match state {
            "ready" => None,
            // It begins, and nothing speaks against it yet.
            "starting" if text("why").is_empty() => None,
            "quarantined" | "stopped" => {
                Some(Finding::error("plugins.state", what, why, "waygate-mcp plugins reload"))
            }
            // It is tried again by itself; what keeps it from coming up is to be mended first.
            _ => {
                let command =
                    format!("{} && waygate-mcp plugins reload", edits(&path_of(folder, name), None));
                Some(Finding::warning("plugins.state", what, why, command))
            }
        }
    });
    found.collect()
}

fn bundles(shown: &Value, folder: &Path) -> Vec<Finding> {
    let why = "whoever uses the bundle misses tools";
    let all = shown.get("bundles").and_then(Value::as_array).into_iter().flatten();
    let found = all.filter_map(|bundle| {
        let name = bundle.get("name").and_then(Value::as_str)?;
        let missing: Vec<&str> =
            bundle.get("missing")?.as_array()?.iter().filter_map(Value::as_str).collect();
        let what = format!("the bundle {name} names plugins that are not there: {}", missing.join(", "));
        (!missing.is_empty())
            .then(|| Finding::warning("plugins.bundle", what, why, edits(&path_of(folder, name), None)))
    });
    found.collect()
}

/// What makes a file one of a plugin; a copy of one, as `github.toml.old`, is passed over with a dot before its name.
fn renames(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = if name.contains(".toml") {
        path.with_file_name(format!(".{name}"))
    } else {
        path.with_extension("toml")
    };
    format!("mv -n {} {}", quoted(path), quoted(&read))
}

/// A file, or all that is wrong with it.
type Read = (String, Result<PluginFile, Faults>);

/// The command that looks at one more closely; a file's name may be anything.
fn tries(folder: &Path, name: &str) -> String {
    let word = quoted(Path::new(name));
    let is_plain = word == name && !name.starts_with('-');
    let word = if is_plain { word } else { quoted(&path_of(folder, name)) };
    format!("waygate-mcp plugins check {word}")
}

/// Tries those that a server of this user would start. Whoever could write what is started there could do as this user does, who
/// may be root: no server starts on a folder of another user, and no file of another user is tried.
fn try_ours(patient: &Patient, folder: &Path, files: &[Read]) -> Vec<Finding> {
    let Some(maker) = &patient.maker else { return Vec::new() };
    // That it is so is told by the checks of the server and of permissions.
    let data = patient.data_folder().filter(|data| data.exists());
    if patient.foreign.is_some() || data.is_some_and(|data| DataFolder::look(&data).is_err()) {
        return Vec::new();
    }
    let servers = files.iter().filter_map(|(name, file)| match file {
        Ok(PluginFile { enabled: true, kind: PluginKind::Mcp(server), .. }) => {
            Some((name.as_str(), &**server))
        }
        _ => None,
    });
    let servers: Vec<(&str, &McpServer)> = servers.collect();
    let strange =
        |(name, _): &(&str, &McpServer)| stranger(folder).or_else(|| stranger(&path_of(folder, name)));
    let (ours, others): (Vec<_>, Vec<_>) = servers.into_iter().partition(|server| strange(server).is_none());
    let mut found = try_all(maker, folder, &ours);
    if let Some(user) = others.first().and_then(strange) {
        let names: Vec<&str> = others.iter().map(|(name, _)| *name).collect();
        let what = format!(
            "not tried, since user {user} could have this user run anything by their files: {}",
            names.join(", ")
        );
        let why = "whether their tools will be served is not known";
        found.push(Finding::warning("plugins.foreign", what, why, patient.as_user(user)));
    }
    found
}

/// Whose it is, if it is neither this user's nor root's.
fn stranger(path: &Path) -> Option<u32> {
    let owner = fs::metadata(path).ok()?.uid();
    (owner != rustix::process::geteuid().as_raw() && owner != 0).then_some(owner)
}

/// Starts each server, outside of any server of ours, and sees whether it shakes hands.
fn try_all(maker: &Arc<dyn Maker>, folder: &Path, servers: &[(&str, &McpServer)]) -> Vec<Finding> {
    let until = Instant::now() + ALL_WITHIN;
    let mut found = Vec::new();
    for some in servers.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let tries: Vec<_> = some
                .iter()
                .map(|&(name, server)| scope.spawn(move || try_one(&**maker, name, folder, server, until)))
                .collect();
            found.extend(tries.into_iter().filter_map(|tried| tried.join().ok().flatten()));
        });
    }
    found
}

fn try_one(
    maker: &dyn Maker,
    name: &str,
    folder: &Path,
    server: &McpServer,
    until: Instant,
) -> Option<Finding> {
    let why = "its tools will not be served";
    let (again, file) = (tries(folder, name), path_of(folder, name));
    let command = format!("{} && {again}", edits(&file, None));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let left = until.saturating_duration_since(Instant::now());
    let tried = runtime
        .block_on(async { tokio::time::timeout(left, check_plugin(maker, name, &file, server)).await });
    match tried {
        Ok(Ok(checked)) => checked.trouble.map(|trouble| {
            let what = format!("the plugin {name} starts, and is in trouble: {trouble}");
            Finding::warning("plugins.trouble", what, "some of its tools will not be served", command)
        }),
        Ok(Err(what)) => Some(Finding::error("plugins.handshake", what, why, command)),
        Err(_elapsed) => {
            let what = format!("the plugin {name} was not tried, since the others took too long");
            Some(Finding::warning("plugins.untried", what, why, again))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_read_gets_a_name_that_is_or_one_that_is_passed_over() {
        let renamed = |name: &str| renames(&Path::new("/p").join(name));
        assert_eq!(renamed("few.tml"), "mv -n /p/few.tml /p/few.toml");
        assert_eq!(renamed("few"), "mv -n /p/few /p/few.toml");
        assert_eq!(renamed("few.toml.old"), "mv -n /p/few.toml.old /p/.few.toml.old");
    }

    #[test]
    fn one_that_begins_is_no_finding_until_something_speaks_against_it() {
        let plugin = |why: Option<&str>| serde_json::json!({"name": "a", "state": "starting", "why": why});
        let shown = serde_json::json!({"plugins": [plugin(None), plugin(Some("nobody is there"))]});
        let found = states(&shown, Path::new("/p"));
        assert!(found.len() == 1 && found[0].what.contains("nobody is there"), "{found:?}");
    }

    #[test]
    fn a_files_name_is_one_word_and_no_flag() {
        let tried = |name: &str| tries(Path::new("/srv/plugins"), name);
        assert_eq!(tried("time"), "waygate-mcp plugins check time");
        assert_eq!(tried("a; rm b"), "waygate-mcp plugins check '/srv/plugins/a; rm b.toml'");
        assert_eq!(tried("--json"), "waygate-mcp plugins check /srv/plugins/--json.toml");
    }
}
