-- What PostgreSQL needs an index of its own for, `idx_command_history_created` answers here: it has the client.
SELECT 1;
