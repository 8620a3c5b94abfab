-- What the history is asked for beside time, each in the order of time. All but the first are of what is rare, and cost other rows
-- nothing; a query uses one of these only if it says the condition in the same words.
CREATE INDEX idx_command_history_tool ON command_history (tool, created_at) WHERE tool IS NOT NULL;
CREATE INDEX idx_command_history_caller ON command_history (caller, created_at) WHERE caller <> 'anonymous';
CREATE INDEX idx_command_history_session ON command_history (session, created_at) WHERE session IS NOT NULL;
CREATE INDEX idx_command_history_status ON command_history (status, created_at) WHERE status <> 'success';
CREATE INDEX idx_command_history_kind ON command_history (kind, created_at) WHERE kind <> 'outcome';

-- The status as it was written, which these indexes know.
DROP VIEW command_history_calls;
CREATE VIEW command_history_calls AS
SELECT entry.id, entry.call_id, entry.round, entry.kind, entry.created_at, entry.instance_id, entry.method, entry.plugin, entry.tool,
       entry.caller, entry.client, entry.session, entry.protocol_version,
       CASE entry.kind WHEN 'intent' THEN 'pending' WHEN 'gap' THEN 'gap' ELSE COALESCE(entry.status, 'success') END AS status,
       entry.error_code, entry.duration_us, entry.result_bytes, entry.request_id, entry.trace_id, entry.detail,
       entry.plugin_instance, entry.queue_us, entry.upstream_us, entry.bytes_out, entry.bytes_in, entry.bridged,
       entry.status AS written_status
FROM command_history AS entry
WHERE NOT EXISTS (
    SELECT 1 FROM command_history AS later
    WHERE later.call_id = entry.call_id
      AND (later.round, CASE later.kind WHEN 'intent' THEN 0 ELSE 1 END, later.id)
        > (entry.round, CASE entry.kind WHEN 'intent' THEN 0 ELSE 1 END, entry.id)
);
