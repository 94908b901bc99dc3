-- Git clients: what they may do to a project's refs, and the tokens that let them in. postgres/0003_tokens.sql is the same change in
-- the other dialect.

ALTER TABLE projects ADD COLUMN deny_non_fast_forwards INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN deny_deletes INTEGER NOT NULL DEFAULT 0;

ALTER TABLE projects ADD COLUMN ref_moves INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN reach_shrinks INTEGER NOT NULL DEFAULT 0;

CREATE TABLE tokens (
    id         BLOB NOT NULL PRIMARY KEY,
    project    BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name       TEXT,
    hash       BLOB NOT NULL UNIQUE,
    access     TEXT NOT NULL CHECK (access IN ('read', 'write')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX tokens_project ON tokens (project, id);
