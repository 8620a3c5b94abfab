ALTER TABLE command_history ALTER COLUMN client SET STATISTICS -1;
DROP INDEX idx_command_history_client;
