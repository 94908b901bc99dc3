-- Whether a push of an attempt was sent whose outcome is not known, 0 or 1. Until now `last_error` began with the words below; servers of before,
-- which may be at work beside new ones, go on to say it so and to look for it there: they stay. sqlite/0011_attempts_in_doubt.sql is the
-- same change in the other dialect.

ALTER TABLE attempts ADD COLUMN in_doubt bigint NOT NULL DEFAULT 0;
UPDATE attempts SET in_doubt = 1 WHERE last_error LIKE 'it is not known whether an earlier push arrived%';
