-- Who makes an edit, and the change feed. sqlite/0005_feed.sql is the same change in the other dialect.

-- By which device and by whom a pending version was written, as its caller said; null: it did not say.
ALTER TABLE pending ADD COLUMN device text;
ALTER TABLE pending ADD COLUMN actor text;
ALTER TABLE pending ADD COLUMN session text;
ALTER TABLE pending_history ADD COLUMN device text;
ALTER TABLE pending_history ADD COLUMN actor text;
ALTER TABLE pending_history ADD COLUMN session text;
