-- Who makes an edit, and the change feed. postgres/0005_feed.sql is the same change in the other dialect; columns are explained
-- there.

ALTER TABLE pending ADD COLUMN device TEXT;
ALTER TABLE pending ADD COLUMN actor TEXT;
ALTER TABLE pending ADD COLUMN session TEXT;
ALTER TABLE pending_history ADD COLUMN device TEXT;
ALTER TABLE pending_history ADD COLUMN actor TEXT;
ALTER TABLE pending_history ADD COLUMN session TEXT;
