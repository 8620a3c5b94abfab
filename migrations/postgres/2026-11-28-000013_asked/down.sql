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
DROP INDEX idx_command_history_kind;
DROP INDEX idx_command_history_status;
DROP INDEX idx_command_history_session;
DROP INDEX idx_command_history_caller;
DROP INDEX idx_command_history_tool;
