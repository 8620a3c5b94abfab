//! A session as it is kept through a restart: a row of the database, and back. Must not know when it is written or read.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::handle::SessionHandle;
use crate::access::{Caller, session_hash};
use crate::catalog::ViewName;
use crate::protocol::legacy::handshake::Agreed;
use crate::protocol::{ClientCapabilities, LogLevel, Raw, Revision};
use crate::storage::definitions::{read, written};
use crate::storage::sessions::SessionRow;

/// A session of a server before this one, whose id nobody knows until its client shows it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    principal: String,
    path: String,
    view: Option<String>,
    /// What was agreed.
    pub(super) agreed: Agreed,
    /// Of messages that the client wants.
    pub(super) log_level: Option<LogLevel>,
    /// What the client watches.
    pub(super) uris: Vec<Arc<str>>,
    used_at: SystemTime,
}

impl Kept {
    /// Reads a row.
    ///
    /// # Errors
    /// A sentence that says what of the row makes no sense: another version wrote it, or somebody by hand.
    pub(super) fn read(row: SessionRow) -> Result<(String, Self), String> {
        let revision = Revision::parse(&row.revision).filter(|revision| revision.has_sessions());
        let revision = revision.ok_or_else(|| format!("the revision {:?} has no sessions", row.revision))?;
        let wrong = |what: &'static str| move |error: serde_json::Error| format!("{what}: {error}");
        let capabilities: serde_json::Value =
            serde_json::from_str(&row.capabilities).map_err(wrong("the capabilities"))?;
        let client = ClientCapabilities::read(&Raw::value(&capabilities));
        let client = client.map_err(|error| format!("the capabilities: {error}"))?;
        let uris: Vec<Arc<str>> =
            serde_json::from_str(&row.subscriptions).map_err(wrong("the subscriptions"))?;
        let log_level = row.log_level.map(|level| serde_json::from_value(level.into())).transpose();
        let kept = Self {
            principal: row.principal,
            path: row.path,
            view: row.view,
            agreed: Agreed { revision, client, client_name: row.client.map(Arc::from) },
            log_level: log_level.map_err(wrong("the log level"))?,
            uris,
            used_at: read(row.used_at),
        };
        Ok((row.id_hash, kept))
    }

    /// Whether it is `caller`'s, at `path` and in `view`. What of the view the caller may see is decided anew.
    pub(super) fn is_of(&self, caller: &Caller, path: &str, view: &ViewName) -> bool {
        *self.principal == *caller.principal && self.path == path && self.view.as_deref() == view.name()
    }

    /// Who opened it.
    pub(super) fn principal(&self) -> &str {
        &self.principal
    }

    /// How long it was not used. A clock that was put back makes it no older.
    pub(super) fn unused(&self) -> Duration {
        self.used_at.elapsed().unwrap_or_default()
    }
}

/// A session as it is written, which may go unused for `idle`; none before its handshake.
pub(super) fn row(session: &SessionHandle, idle: Duration) -> Option<SessionRow> {
    let agreed = session.agreed()?;
    let used_at = SystemTime::now().checked_sub(session.unused())?;
    let level = session.log_level().and_then(|level| serde_json::to_value(level).ok());
    Some(SessionRow {
        id_hash: session_hash(&session.id),
        principal: storable(session.principal()),
        path: session.path().to_owned(),
        view: session.view().name().map(storable),
        revision: agreed.revision.name().to_owned(),
        client: agreed.client_name.as_deref().map(storable),
        capabilities: agreed.client.raw.as_ref().map_or("{}", Raw::as_str).to_owned(),
        log_level: level.as_ref().and_then(serde_json::Value::as_str).map(str::to_owned),
        subscriptions: serde_json::to_string(&session.watched()).ok()?,
        // The writer knows.
        instance_id: String::new(),
        used_at: written(used_at),
        expires_at: written(used_at.checked_add(idle)?),
    })
}

/// PostgreSQL holds no NUL.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caller(name: &str) -> Caller {
        Caller { principal: name.into(), ..Caller::anonymous() }
    }

    fn session() -> SessionHandle {
        let view = ViewName::of("work");
        let session = SessionHandle::new("id".into(), "label".into(), &caller("a"), ("/mcp", view), 0);
        let client = Raw::value(&json!({"roots": {}, "elicitation": {"form": {}}}));
        session.agree(Agreed {
            revision: Revision::NEWEST_LEGACY,
            client: ClientCapabilities::read(&client).unwrap(),
            client_name: Some("tests/1".into()),
        });
        session.set_log_level(LogLevel::Alert);
        session.note_watch(&"a:1".into(), true);
        session
    }

    #[test]
    fn a_session_comes_back_as_it_was_written_for_its_caller_at_its_path() {
        let row = row(&session(), Duration::from_secs(60)).unwrap();
        assert!(!row.id_hash.contains("id") && row.expires_at > row.used_at, "{row:?}");
        let (hash, kept) = Kept::read(row).unwrap();
        assert_eq!(hash, session_hash("id"));
        let view = ViewName::of("work");
        assert!(kept.is_of(&caller("a"), "/mcp", &view));
        assert!(!kept.is_of(&caller("b"), "/mcp", &view));
        assert!(!kept.is_of(&caller("a"), "/sse", &view));
        assert!(!kept.is_of(&caller("a"), "/mcp", &ViewName::MAIN));
        let client = &kept.agreed.client;
        assert!(client.roots && client.elicitation_form && !client.elicitation_url && !client.sampling);
        assert_eq!(kept.agreed.client_name.as_deref(), Some("tests/1"));
        assert_eq!((kept.log_level, kept.uris.len()), (Some(LogLevel::Alert), 1));
        let again = SessionHandle::new("id".into(), "label".into(), &caller("a"), ("/mcp", view), 0);
        again.resume(kept);
        assert_eq!(again.agreed().unwrap().revision, Revision::NEWEST_LEGACY);
        assert_eq!((again.take_unwatched().len(), again.take_unwatched().len()), (1, 0));
        assert!(again.take_stale() && !again.take_stale());
    }

    #[test]
    fn a_row_that_makes_no_sense_is_refused_with_what_is_wrong() {
        let wrong = |change: fn(&mut SessionRow)| {
            let mut row = row(&session(), Duration::from_secs(60)).unwrap();
            change(&mut row);
            Kept::read(row).unwrap_err()
        };
        assert!(wrong(|row| row.revision = "2026-07-28".to_owned()).contains("revision"));
        assert!(wrong(|row| row.capabilities = "[]".to_owned()).contains("capabilities"));
        assert!(wrong(|row| row.subscriptions = "a:1".to_owned()).contains("subscriptions"));
        assert!(wrong(|row| row.log_level = Some("loud".to_owned())).contains("log level"));
    }
}
