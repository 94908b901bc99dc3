-- Whether a push of an attempt was sent whose outcome is not known, 0 or 1. postgres/0011_attempts_in_doubt.sql is the same change in the
-- other dialect; it is explained there.

ALTER TABLE attempts ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;
