-- Tokens with scopes, for the whole API and not only for git; branches that end by themselves. postgres/0008_scopes_and_ephemeral.sql is
-- the same change in the other dialect; it is explained there. SQLite cannot make a column nullable, so the table is made anew.

CREATE TABLE tokens_new (
    id         BLOB NOT NULL PRIMARY KEY,
    project    BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name       TEXT,
    hash       BLOB NOT NULL UNIQUE,
    access     TEXT CHECK (access IN ('read', 'write')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    scopes     TEXT,
    user_id    BLOB,
    CHECK ((access IS NULL) <> (scopes IS NULL))
) STRICT;
INSERT INTO tokens_new (id, project, name, hash, access, created_at, expires_at)
    SELECT id, project, name, hash, access, created_at, expires_at FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_new RENAME TO tokens;
CREATE INDEX tokens_project ON tokens (project, id);

ALTER TABLE refs ADD COLUMN lifetime INTEGER;
ALTER TABLE refs ADD COLUMN expires_at INTEGER;
CREATE INDEX refs_expire ON refs (expires_at) WHERE expires_at IS NOT NULL;
