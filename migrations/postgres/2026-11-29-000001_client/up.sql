-- What a client is looked for by. Few names stand in many rows, so that PostgreSQL keeps the places of all rows of one name together and
-- this index is small. It knows 300 names and how often each is there: by 100, which is what it remembers unless told otherwise, a name that no
-- row has seems to be in many, and all rows are read for it.
CREATE INDEX idx_command_history_client ON command_history (client text_pattern_ops);
ALTER TABLE command_history ALTER COLUMN client SET STATISTICS 300;
ANALYZE command_history (client);
