-- What a project holds, in logical bytes, and what it may hold. sqlite/0010_quotas.sql is the same change in the other dialect.

-- Null: the server's default.
ALTER TABLE projects ADD COLUMN quota_bytes bigint CHECK (quota_bytes >= 0);
-- In the row that every transaction which adds something writes last anyway. The sizes of what refs reach and of contents of pending work; 0 until
-- the collector has counted a project of before.
ALTER TABLE feeds ADD COLUMN bytes bigint NOT NULL DEFAULT 0;
