-- Whether a push of an attempt was sent whose outcome is not known, 0 or 1. Until now `last_error` began with words that say so; servers of
-- before, which may be at work beside new ones, go on to say it so and to look for it there. So they stay, are understood where they stand, and
-- no row has to be changed here. sqlite/0011_attempts_in_doubt.sql is the same change in the other dialect.

ALTER TABLE attempts ADD COLUMN in_doubt bigint NOT NULL DEFAULT 0;
