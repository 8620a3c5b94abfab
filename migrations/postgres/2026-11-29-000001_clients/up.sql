-- For a client that is seldom or never there. Other indices hold what they find, a client's name is as long as it likes to be, and
-- rows of many clients lie mixed: this one holds of each 64 pages a filter of the names in them, and costs a row next to nothing.
CREATE INDEX idx_command_history_client ON command_history
USING brin ((split_part(client, '/', 1)) text_bloom_ops (n_distinct_per_range = 64))
WITH (pages_per_range = 64, autosummarize = on);
