-- What makes the ledger a chain: of each row the hash over what stands in it and over the hash of the row before it, of the same
-- instance. Rows that were written before this have none.
ALTER TABLE command_history ADD COLUMN hash BLOB;

-- Where a chain stood at some time, under a seal: whoever rewrites all of a chain has no key to rewrite these. 'pruned' is the
-- last row that was deleted on purpose, with which what is left begins.
CREATE TABLE ledger_checkpoints (
    id          INTEGER   NOT NULL PRIMARY KEY,
    instance_id TEXT      NOT NULL,
    seq         BIGINT    NOT NULL,
    hash        BLOB      NOT NULL,
    kind        TEXT      NOT NULL CHECK (kind = 'checkpoint' OR kind = 'head' OR kind = 'pruned'),
    created_at  TIMESTAMP NOT NULL,
    mac         BLOB      NOT NULL,
    key_id      TEXT      NOT NULL
);
CREATE INDEX idx_ledger_checkpoints_place ON ledger_checkpoints (instance_id, seq);
