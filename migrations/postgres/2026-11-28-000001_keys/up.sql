-- Whose a key is, what it opens and may use up, and what became of it. Globs are JSON arrays of texts; limits that are not set
-- mean none. `prefix` names a key everywhere; `replaced_by` is the prefix of the key that took its place, which it outlives until
-- `grace_until`.
ALTER TABLE api_keys ADD COLUMN owner TEXT;
ALTER TABLE api_keys ADD COLUMN tools_allow TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN tools_deny TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN bundles_allow TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN bundles_deny TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN requests_per_minute BIGINT;
ALTER TABLE api_keys ADD COLUMN burst BIGINT;
ALTER TABLE api_keys ADD COLUMN concurrent BIGINT;
ALTER TABLE api_keys ADD COLUMN replaced_by TEXT;
ALTER TABLE api_keys ADD COLUMN grace_until TIMESTAMP;
ALTER TABLE api_keys ADD COLUMN last_used_at TIMESTAMP;
CREATE UNIQUE INDEX idx_api_keys_prefix ON api_keys (prefix);
