-- Whether an attempt waits for a merge, and whether its commit is the host's to make, 0 or 1. Until now the one was a text in `last_error`, and
-- the other was told from an attempt that has changes and no objects. Servers of before, which may be at work beside new ones, go on to say it so
-- and to look for it there: so the text stays where it is, and what they write is understood without the columns.
-- sqlite/0013_attempts_that_wait.sql is the same change in the other dialect.

ALTER TABLE attempts ADD COLUMN waits bigint NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN hosted bigint NOT NULL DEFAULT 0;
UPDATE attempts SET waits = 1 WHERE state = 'LANDED' AND last_error = 'our branch cannot go there before a merge';
UPDATE attempts SET hosted = 1 WHERE state = 'PREPARED' AND push = 0 AND length(objects) = 0 AND snapshot <> '[]';
-- What is open on a branch, oldest first, and whether a commit of a user's work is under way: asked by every commit, push, status and undone
-- edit, which went through all that is open, of all projects.
CREATE INDEX attempts_open_branch ON attempts (project, branch, seq)
    WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED');
CREATE INDEX attempts_open_user ON attempts (project, pending_branch, user_id)
    WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED');
