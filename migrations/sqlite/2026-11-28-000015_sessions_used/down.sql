DROP INDEX idx_sessions_used_at;
