//! A data folder with something in it that is worth a backup, and the program on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support;

/// A home with a data root below it.
pub struct Home {
    folder: TempDir,
    database: Option<String>,
}

/// The files of a state, but for the database: their names and texts.
pub type Files = Vec<(String, String)>;

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: None }
    }

    /// One whose database is a server.
    #[cfg(feature = "postgres")]
    pub fn on(url: String) -> Self {
        Self { database: Some(url), ..Self::new() }
    }

    /// One that holds the state `name`: rows, a configuration, two plugins, `.env`.
    pub fn filled(name: &str) -> Self {
        let home = Self::new();
        home.fill(name);
        home
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    pub fn database_file(&self) -> PathBuf {
        self.root().join("data/waygate.db")
    }

    pub fn backups(&self) -> PathBuf {
        self.root().join("backups")
    }

    /// Lays a state over what is there.
    pub fn fill(&self, name: &str) {
        self.said(&["db", "migrate"]);
        for folder in ["config", "plugins"] {
            fs::create_dir_all(self.root().join(folder)).unwrap();
        }
        let lay = |path: PathBuf, text: String| fs::write(path, text).unwrap();
        for file in fs::read_dir(self.root().join("plugins")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        lay(self.root().join("config/default.toml"), format!("# {name}\n[history]\nlinger_ms = 7\n"));
        lay(self.root().join("config/test.toml"), format!("# {name}\n[history]\nqueue_max = 4000\n"));
        lay(self.root().join("plugins/both.toml"), format!("# {name}\nurl = \"http://127.0.0.1:9/\"\n"));
        lay(
            self.root().join(format!("plugins/only-{name}.toml")),
            "url = \"http://127.0.0.1:9/\"\n".to_owned(),
        );
        lay(self.path().join(".env"), format!("# {name}\nWAYGATE_HISTORY_REDACT_KEYS=x\n"));
        self.fill_rows(name);
    }

    /// Whether its database is no file of its own.
    pub fn is_on_server(&self) -> bool {
        self.database.is_some()
    }

    /// Lays the rows of a state over those that are there.
    pub fn fill_rows(&self, name: &str) {
        self.sql(&format!(
            "DELETE FROM command_history; \
             INSERT INTO command_history (id, instance_id, seq, call_id, round, kind, created_at, status, client) \
             VALUES (1, '{name}', 41, 'first-{name}', 0, 'outcome', '2026-11-22 21:45:40.120', 'success', '{name}'), \
                    (7, '{name}', 42, 'last-{name}', 0, 'outcome', '2026-11-22 21:45:41', 'failed', NULL);"
        ));
    }

    /// Runs statements on the database, past the program.
    pub fn sql(&self, statements: &str) {
        use diesel::Connection as _;
        use diesel::connection::SimpleConnection as _;
        #[cfg(feature = "postgres")]
        if let Some(url) = &self.database {
            return diesel::PgConnection::establish(url).unwrap().batch_execute(statements).unwrap();
        }
        let mut sqlite = diesel::SqliteConnection::establish(self.database_file().to_str().unwrap()).unwrap();
        sqlite.batch_execute(&format!("PRAGMA busy_timeout = 10000; {statements}")).unwrap();
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(support::program("waygate-mcp"));
        command.args(words).args(["--env", "test", "--data-dir"]).arg(self.root()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.path()).env("TZ", "UTC").current_dir(self.path());
        if let Some(url) = &self.database {
            command.env("WAYGATE_DATABASE_URL", url);
        }
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What it wrote, when all went well.
    pub fn said(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[words, &["--json"]].concat())).unwrap()
    }

    /// Its exit code and what it wrote to stderr, when it refused.
    pub fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.run(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{words:?} should be refused");
        (output.status.code().unwrap(), said)
    }

    /// Makes a backup and gives its path.
    pub fn backup(&self) -> PathBuf {
        PathBuf::from(self.json(&["backup", "create"])["path"].as_str().unwrap())
    }

    /// The names of the calls in the history, the oldest first; what was done to the server itself is none.
    pub fn calls(&self) -> Vec<String> {
        let exported = self.said(&["history", "export", "--rows", "--until", "2030-01-01"]);
        let call = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {} {}",
                row["call_id"].as_str().unwrap(),
                row["seq"],
                row["created_at"].as_str().unwrap()
            )
        };
        exported.lines().filter(|line| !line.contains(r#""kind":"admin""#)).map(call).collect()
    }

    /// The files of its state.
    pub fn files(&self) -> Files {
        files_of(&[self.root().join("config"), self.root().join("plugins")], &[self.path().join(".env")])
    }

    /// Names in the data root that no state has.
    pub fn litter(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut look = vec![self.root()];
        while let Some(folder) = look.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name == "restore.journal" || (name.starts_with('.') && name != ".lock") {
                    found.push(name);
                } else if entry.path().is_dir() && !name.starts_with("before-restore-") {
                    look.push(entry.path());
                }
            }
        }
        found
    }
}

/// Names and texts of all files in folders, and of these files.
pub fn files_of(folders: &[PathBuf], files: &[PathBuf]) -> Files {
    let within = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let paths = within.map(|entry| entry.path()).chain(files.iter().cloned());
    let mut all: Files = paths
        .filter(|path| path.is_file())
        .map(|path| {
            let folder = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            let folder = if folder == "config" || folder == "plugins" { folder } else { String::new() };
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (format!("{folder}/{name}"), fs::read_to_string(&path).unwrap())
        })
        .collect();
    all.sort();
    all
}
