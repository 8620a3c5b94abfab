DROP TABLE tool_definitions;
DROP VIEW command_history_calls;
ALTER TABLE command_history DROP COLUMN plugin_instance;
ALTER TABLE command_history DROP COLUMN queue_us;
ALTER TABLE command_history DROP COLUMN upstream_us;
ALTER TABLE command_history DROP COLUMN bytes_out;
ALTER TABLE command_history DROP COLUMN bytes_in;
ALTER TABLE command_history DROP COLUMN bridged;
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
