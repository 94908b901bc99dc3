-- Who makes an edit, and the change feed. postgres/0005_feed.sql is the same change in the other dialect; columns are explained
-- there.

ALTER TABLE pending ADD COLUMN device TEXT;
ALTER TABLE pending ADD COLUMN actor TEXT;
ALTER TABLE pending ADD COLUMN session TEXT;
ALTER TABLE pending_history ADD COLUMN device TEXT;
ALTER TABLE pending_history ADD COLUMN actor TEXT;
ALTER TABLE pending_history ADD COLUMN session TEXT;

CREATE TABLE feeds (
    project BLOB NOT NULL PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    last    INTEGER NOT NULL,
    floor   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO feeds (project, last, floor) SELECT id, created_at, created_at FROM projects;

CREATE TABLE events (
    project  BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    user_id  BLOB,
    name     TEXT NOT NULL,
    path     BLOB,
    action   INTEGER,
    mode     INTEGER,
    old_oid  BLOB,
    new_oid  BLOB,
    revision INTEGER,
    reason   TEXT,
    attempt  BLOB,
    device   TEXT,
    actor    TEXT,
    session  TEXT,
    PRIMARY KEY (project, seq)
) STRICT, WITHOUT ROWID;
