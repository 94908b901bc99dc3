-- What a project holds, in logical bytes, and what it may hold. postgres/0010_quotas.sql is the same change in the other dialect; it is
-- explained there.

ALTER TABLE projects ADD COLUMN quota_bytes INTEGER CHECK (quota_bytes >= 0);
ALTER TABLE feeds ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
