-- What else the history is asked for, and how it costs next to nothing: one more index of all rows would cost a quarter of each.
-- The index of all times holds the client, too, so that rows of other clients are passed over without being read.
DROP INDEX idx_command_history_created;
CREATE INDEX idx_command_history_created ON command_history (created_at, id, client);
-- The other two are of what is rare. That of slow calls begins with what all of them have in common, so that SQLite takes it for the
-- better one than that of all times; in the order of time, what is asked for last is found first.
CREATE INDEX idx_command_history_slow ON command_history ((duration_us >= 100000), created_at, id, duration_us) WHERE duration_us >= 100000;
CREATE INDEX idx_command_history_method ON command_history (method, created_at) WHERE method <> 'tools/call';
