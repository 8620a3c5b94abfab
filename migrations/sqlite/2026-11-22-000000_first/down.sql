DROP TABLE generation;
DROP TABLE instances;
DROP TABLE api_keys;
DROP VIEW command_history_calls;
DROP TABLE command_history;
