//! Private PostgreSQL servers for tests, each run by `scripts/postgres`, which ends it and cleans up when the test process
//! ends, in whichever way. Must not know what is tested.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};

/// The password in every URL here.
pub const PASSWORD: &str = "a-secret-of-the-test";

/// A PostgreSQL server of a test's own.
pub struct Cluster {
    script: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// `postgres://user:password@localhost:port/postgres`
    pub url: String,
    /// The certificate of the authority, if it speaks TLS.
    pub authority: Option<PathBuf>,
}

impl Cluster {
    /// Starts one with options of `scripts/postgres`; none, having said so, when there is no PostgreSQL on this machine.
    pub fn start(options: &[&str]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres");
        let mut command = Command::new(script);
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().expect("scripts/postgres runs");
        let words = script.stdin.take().expect("piped");
        let mut answers = BufReader::new(script.stdout.take().expect("piped"));
        let url = line(&mut answers);
        if url.is_empty() {
            let code = script.wait().expect("it ended").code();
            assert_eq!(code, Some(3), "scripts/postgres failed, see above");
            // Past the harness, which would keep it to itself.
            drop(std::io::stderr().write_all(b"NOT RUN on PostgreSQL, which this machine lacks\n"));
            return None;
        }
        let authority = options.contains(&"--tls").then(|| PathBuf::from(line(&mut answers)));
        Some(Self { script, words, answers, url, authority })
    }

    /// Says one of the words that `scripts/postgres` knows, and waits until it is done.
    pub fn tell(&mut self, word: &str) {
        writeln!(self.words, "{word}").expect("the script listens");
        assert_eq!(line(&mut self.answers), word, "scripts/postgres failed, see above");
    }

    /// The URL with parameters.
    pub fn with(&self, parameters: &str) -> String {
        format!("{}?{parameters}", self.url)
    }

    /// A connection past the server that is tested.
    pub fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url).expect("PostgreSQL answers")
    }

    /// Runs statements.
    pub fn run(&self, statements: &str) {
        self.connect().batch_execute(statements).expect("the statements run");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of its standard input would do, but nobody would wait for it.
        drop(Command::new("kill").args(["-TERM", &self.script.id().to_string()]).status());
        drop(self.script.wait());
    }
}

fn line(answers: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

/// A schema of the server that all tests of this process share, for whatever `name` names; the same one each time.
/// None when there is no PostgreSQL on this machine.
pub fn schema_for(name: impl std::hash::Hash) -> Option<String> {
    static SHARED: OnceLock<Option<(String, std::sync::Mutex<Cluster>)>> = OnceLock::new();
    let shared =
        SHARED.get_or_init(|| Cluster::start(&[]).map(|cluster| (cluster.url.clone(), cluster.into())));
    let (url, _) = shared.as_ref()?;
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let schema = format!("test_{:016x}", hasher.finish());
    let mut connection = PgConnection::establish(url).expect("PostgreSQL answers");
    connection.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).expect("a schema");
    Some(format!("{url}?options=-csearch_path%3D{schema}"))
}
