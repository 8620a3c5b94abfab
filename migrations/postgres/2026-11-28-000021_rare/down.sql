DROP INDEX idx_command_history_method;
DROP INDEX idx_command_history_slow;
