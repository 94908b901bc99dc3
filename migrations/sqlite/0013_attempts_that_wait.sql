-- Whether an attempt waits for a merge, and whether its commit is the host's to make, 0 or 1; indexes of what is open.
-- postgres/0013_attempts_that_wait.sql is the same change in the other dialect; it is explained there.

ALTER TABLE attempts ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN hosted INTEGER NOT NULL DEFAULT 0;
UPDATE attempts SET waits = 1 WHERE state = 'LANDED' AND last_error = 'our branch cannot go there before a merge';
UPDATE attempts SET hosted = 1 WHERE state = 'PREPARED' AND push = 0 AND length(objects) = 0 AND snapshot <> '[]';
CREATE INDEX attempts_open_branch ON attempts (project, branch, seq)
    WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED');
CREATE INDEX attempts_open_user ON attempts (project, pending_branch, user_id)
    WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED');
