DROP INDEX idx_command_history_method;
DROP INDEX idx_command_history_slow;
DROP INDEX idx_command_history_created;
CREATE INDEX idx_command_history_created ON command_history (created_at);
