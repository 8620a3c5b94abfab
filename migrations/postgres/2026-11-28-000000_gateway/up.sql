-- What a call did behind its plugin: empty for the plugins of Waygate itself, whose rows grow by nothing they must bind.
ALTER TABLE command_history ADD COLUMN plugin_instance TEXT;
ALTER TABLE command_history ADD COLUMN queue_us BIGINT;
ALTER TABLE command_history ADD COLUMN upstream_us BIGINT;
ALTER TABLE command_history ADD COLUMN bytes_out BIGINT;
ALTER TABLE command_history ADD COLUMN bytes_in BIGINT;
ALTER TABLE command_history ADD COLUMN bridged TEXT;

-- A view of SQLite or PostgreSQL does not see columns that came after it.
DROP VIEW command_history_calls;
CREATE VIEW command_history_calls AS
SELECT entry.id, entry.call_id, entry.round, entry.kind, entry.created_at, entry.instance_id, entry.method, entry.plugin, entry.tool,
       entry.caller, entry.client, entry.session, entry.protocol_version,
       CASE entry.kind WHEN 'intent' THEN 'pending' WHEN 'gap' THEN 'gap' ELSE COALESCE(entry.status, 'success') END AS status,
       entry.error_code, entry.duration_us, entry.result_bytes, entry.request_id, entry.trace_id, entry.detail,
       entry.plugin_instance, entry.queue_us, entry.upstream_us, entry.bytes_out, entry.bytes_in, entry.bridged
FROM command_history AS entry
WHERE NOT EXISTS (
    SELECT 1 FROM command_history AS later
    WHERE later.call_id = entry.call_id
      AND (later.round, CASE later.kind WHEN 'intent' THEN 0 ELSE 1 END, later.id)
        > (entry.round, CASE entry.kind WHEN 'intent' THEN 0 ELSE 1 END, entry.id)
);

-- What each tool of a plugin looked like when it was last seen, as a hash: a definition that changed behind the operator's
-- back is told.
CREATE TABLE tool_definitions (
    plugin          TEXT      NOT NULL,
    tool            TEXT      NOT NULL,
    digest          TEXT      NOT NULL,
    first_seen_at   TIMESTAMP NOT NULL,
    changed_at      TIMESTAMP,
    previous_digest TEXT,
    PRIMARY KEY (plugin, tool)
);
