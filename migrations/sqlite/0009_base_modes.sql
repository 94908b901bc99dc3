-- The mode that a pending change started from. postgres/0009_base_modes.sql is the same change in the other dialect; it is explained there.

ALTER TABLE pending ADD COLUMN base_mode INTEGER;
ALTER TABLE pending_history ADD COLUMN base_mode INTEGER;
ALTER TABLE checkpoint_rows ADD COLUMN base_mode INTEGER;
