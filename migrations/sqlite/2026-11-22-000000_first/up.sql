-- The ledger. Rows are appended, never changed; those of one call share `call_id`. `seq` counts within one instance,
-- so that overlapping restarts and replicas need no shared counter, and a hash chain can be added per instance; that no
-- number is given twice is the writer's doing, for an index to hold it would cost a tenth of a row.
-- Checks are written with OR: for an IN of more than two words SQLite makes a table for each row, at half a row's cost.
CREATE TABLE command_history (
    id               INTEGER   NOT NULL PRIMARY KEY,
    instance_id      TEXT      NOT NULL,
    seq              BIGINT    NOT NULL,
    call_id          TEXT      NOT NULL,
    round            INTEGER   NOT NULL DEFAULT 0,
    kind             TEXT      NOT NULL CHECK (kind = 'outcome' OR kind = 'intent' OR kind = 'admin' OR kind = 'gap'),
    created_at       TIMESTAMP NOT NULL,
    method           TEXT,
    plugin           TEXT,
    tool             TEXT,
    caller           TEXT,
    client           TEXT,
    session          TEXT,
    protocol_version TEXT,
    status           TEXT CHECK (status = 'success' OR status = 'failed' OR status = 'timeout' OR status = 'cancelled'
                                 OR status = 'interrupted' OR status = 'input_required'),
    error_code       TEXT,
    duration_us      BIGINT,
    arguments        TEXT,
    result_bytes     BIGINT,
    request_id       TEXT,
    trace_id         TEXT,
    detail           TEXT
);
CREATE INDEX idx_command_history_created ON command_history (created_at); -- and `id`, as in any index of SQLite
CREATE INDEX idx_command_history_call ON command_history (call_id);
-- Empty unless history is strict; finds the intents of a dead instance without reading all it ever wrote.
CREATE INDEX idx_command_history_intents ON command_history (instance_id) WHERE kind = 'intent';

-- One row a call: its latest, which is the outcome of its last round, or else the intent that still waits for one.
-- Administrative acts and gaps stand for themselves.
CREATE VIEW command_history_calls AS
SELECT entry.id, entry.call_id, entry.round, entry.kind, entry.created_at, entry.instance_id, entry.method, entry.plugin, entry.tool,
       entry.caller, entry.client, entry.session, entry.protocol_version,
       CASE entry.kind WHEN 'intent' THEN 'pending' WHEN 'gap' THEN 'gap' ELSE COALESCE(entry.status, 'success') END AS status,
       entry.error_code, entry.duration_us, entry.result_bytes, entry.request_id, entry.trace_id, entry.detail
FROM command_history AS entry
WHERE NOT EXISTS (
    SELECT 1 FROM command_history AS later
    WHERE later.call_id = entry.call_id
      AND (later.round, CASE later.kind WHEN 'intent' THEN 0 ELSE 1 END, later.id)
        > (entry.round, CASE entry.kind WHEN 'intent' THEN 0 ELSE 1 END, entry.id)
);

-- Keys are kept as hashes; `prefix` is what people recognise one by. Times that are not set mean never.
CREATE TABLE api_keys (
    id           INTEGER   NOT NULL PRIMARY KEY,
    name         TEXT      NOT NULL,
    prefix       TEXT      NOT NULL,
    hash         TEXT      NOT NULL,
    scopes       TEXT      NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    expires_at   TIMESTAMP,
    revoked_at   TIMESTAMP
);
CREATE UNIQUE INDEX idx_api_keys_hash ON api_keys (hash);

-- Every process that ever wrote history. One that neither stopped nor was seen lately is dead.
CREATE TABLE instances (
    instance_id TEXT      NOT NULL PRIMARY KEY,
    started_at  TIMESTAMP NOT NULL,
    seen_at     TIMESTAMP NOT NULL,
    stopped_at  TIMESTAMP,
    host        TEXT      NOT NULL,
    pid         BIGINT    NOT NULL,
    version     TEXT      NOT NULL
);
CREATE INDEX idx_instances_running ON instances (seen_at) WHERE stopped_at IS NULL;

-- Raised by whoever changes what a running server keeps in memory; servers poll it.
CREATE TABLE generation (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    counter BIGINT  NOT NULL
);
INSERT INTO generation (id, counter) VALUES (1, 0);
