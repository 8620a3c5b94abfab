-- What else the history is asked for: both are of what is rare, and cost other rows nothing.
CREATE INDEX idx_command_history_slow ON command_history (created_at, id, duration_us) WHERE duration_us >= 100000;
CREATE INDEX idx_command_history_method ON command_history (method, created_at, id) WHERE method <> 'tools/call';
