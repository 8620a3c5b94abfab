DROP TABLE ledger_checkpoints;
ALTER TABLE command_history DROP COLUMN hash;
