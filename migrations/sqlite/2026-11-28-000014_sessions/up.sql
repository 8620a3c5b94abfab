-- What was agreed with clients of the revisions that have sessions, so that these live on through a restart. Ids open sessions: a row
-- has the hash of one. `capabilities` is a JSON object, `subscriptions` a JSON array of URIs. `instance_id` is the server that
-- wrote the row last. A row that has expired is as good as gone.
CREATE TABLE sessions (
    id_hash TEXT NOT NULL PRIMARY KEY,
    principal TEXT NOT NULL,
    path TEXT NOT NULL,
    view TEXT,
    revision TEXT NOT NULL,
    client TEXT,
    capabilities TEXT NOT NULL,
    log_level TEXT,
    subscriptions TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    used_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL
);
CREATE INDEX idx_sessions_expires_at ON sessions (expires_at);
