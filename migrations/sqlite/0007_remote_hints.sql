-- What a forge says by webhook about remotes. postgres/0007_remote_hints.sql is the same change in the other dialect; it is explained
-- there.

CREATE INDEX projects_remote ON projects (lower(rtrim(remote_url, '/')));

CREATE TABLE remote_hints (
    project BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    oid     BLOB,
    at      INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_at ON deliveries (at);
