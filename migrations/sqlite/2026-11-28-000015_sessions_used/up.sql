-- A server that takes over looks again and again for what was used lately at the one before it.
CREATE INDEX idx_sessions_used_at ON sessions (used_at);
