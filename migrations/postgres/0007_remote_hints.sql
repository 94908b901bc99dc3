-- What a forge says by webhook about remotes. sqlite/0007_remote_hints.sql is the same change in the other dialect.

-- Projects by remote, however its URL was written: without regard to case and to slashes at the end. `.git` is the asker's business.
CREATE INDEX projects_remote ON projects (lower(rtrim(remote_url, '/')));

-- Where a remote's branch is said to be. Only a word: its objects need not be here, and nobody may read them for it.
CREATE TABLE remote_hints (
    project uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    text COLLATE "C" NOT NULL,
    oid     bytea, -- null: the branch is gone
    at      bigint NOT NULL,
    PRIMARY KEY (project, name)
);

-- Deliveries that were taken, so that a repeated one changes nothing.
CREATE TABLE deliveries (
    id text NOT NULL PRIMARY KEY,
    at bigint NOT NULL
);
CREATE INDEX deliveries_at ON deliveries (at);
