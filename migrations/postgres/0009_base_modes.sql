-- The mode that a pending change started from, so that a change of mode merges as one of content does. Null: the path did not exist, or the
-- row is of before, or of a server of before, and nobody knows. sqlite/0009_base_modes.sql is the same change in the other dialect.

ALTER TABLE pending ADD COLUMN base_mode integer;
ALTER TABLE pending_history ADD COLUMN base_mode integer;
ALTER TABLE checkpoint_rows ADD COLUMN base_mode integer;
