-- The catalog, first version. postgres/0001_initial.sql is the same change in the other dialect; columns are explained there.
-- Oids and paths are BLOBs (compared bytewise), UUIDs 16-byte BLOBs, times Unix milliseconds.

CREATE TABLE projects (
    id             BLOB NOT NULL PRIMARY KEY,
    name           TEXT UNIQUE,
    default_branch TEXT NOT NULL,
    remote_url     TEXT,
    created_at     INTEGER NOT NULL
) STRICT;

CREATE TABLE refs (
    project BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    oid     BLOB NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE reflog (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    project BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    old     BLOB,
    new     BLOB,
    reason  TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX reflog_project ON reflog (project, name, id);

CREATE TABLE remote_refs (
    project BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    oid     BLOB NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE shallow (
    project BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    oid     BLOB NOT NULL,
    PRIMARY KEY (project, oid)
) STRICT, WITHOUT ROWID;

CREATE TABLE reach (
    project BLOB NOT NULL PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    bitmap  BLOB NOT NULL
) STRICT;

CREATE TABLE commits (
    oid        BLOB NOT NULL PRIMARY KEY,
    tree       BLOB NOT NULL,
    parents    BLOB NOT NULL,
    generation INTEGER NOT NULL,
    time       INTEGER NOT NULL,
    raw        BLOB NOT NULL
) STRICT;

CREATE TABLE commit_parents (
    oid      BLOB NOT NULL,
    position INTEGER NOT NULL,
    parent   BLOB NOT NULL,
    PRIMARY KEY (oid, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE trees (
    oid BLOB NOT NULL PRIMARY KEY,
    raw BLOB NOT NULL
) STRICT;

CREATE TABLE gc_state (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch   INTEGER NOT NULL,
    horizon INTEGER NOT NULL
) STRICT;
INSERT INTO gc_state (id, epoch, horizon) VALUES (1, 1, 1);

-- Ledger numbers are never given twice: a stale number in a reach bitmap must not come to mean another object.
CREATE TABLE object_numbers (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    next INTEGER NOT NULL
) STRICT;
INSERT INTO object_numbers (id, next) VALUES (1, 1);

CREATE TABLE ops (
    op_id        BLOB NOT NULL PRIMARY KEY,
    project      BLOB,
    kind         TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('open', 'done', 'dead')),
    roots        BLOB NOT NULL,
    heartbeat_at INTEGER NOT NULL
) STRICT;
CREATE INDEX ops_open ON ops (heartbeat_at) WHERE state = 'open';

CREATE TABLE s3_keys (
    key_id    INTEGER PRIMARY KEY AUTOINCREMENT,
    s3_key    TEXT NOT NULL UNIQUE,
    state     TEXT NOT NULL CHECK (state IN ('reserved', 'present', 'doomed', 'deleted')),
    kept      INTEGER NOT NULL DEFAULT 0,
    op_id     BLOB NOT NULL,
    doomed_at INTEGER
) STRICT;
CREATE INDEX s3_keys_reserved ON s3_keys (op_id) WHERE state = 'reserved';
CREATE INDEX s3_keys_doomed ON s3_keys (kept, key_id) WHERE state = 'doomed';

CREATE TABLE objects (
    number     INTEGER PRIMARY KEY,
    oid        BLOB NOT NULL UNIQUE,
    type       INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    sha256     BLOB NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('L', 'C')),
    seen_epoch INTEGER NOT NULL,
    key_id     INTEGER NOT NULL,
    off        INTEGER NOT NULL,
    len        INTEGER NOT NULL
) STRICT;
CREATE INDEX objects_key ON objects (key_id);

CREATE TABLE workspaces (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    project  BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    branch   TEXT NOT NULL,
    user_id  BLOB NOT NULL,
    revision INTEGER NOT NULL,
    UNIQUE (project, branch, user_id)
) STRICT;

CREATE TABLE pending (
    workspace  INTEGER NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    path       BLOB NOT NULL,
    action     INTEGER NOT NULL,
    mode       INTEGER NOT NULL,
    oid        BLOB,
    size       INTEGER NOT NULL,
    base_oid   BLOB,
    revision   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE pending_history (
    workspace   INTEGER NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    path        BLOB NOT NULL,
    action      INTEGER NOT NULL,
    mode        INTEGER NOT NULL,
    oid         BLOB,
    size        INTEGER NOT NULL,
    base_oid    BLOB,
    revision    INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    replaced_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, path, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE pending_contents (
    project  BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    oid      BLOB NOT NULL,
    size     INTEGER NOT NULL,
    encoding INTEGER NOT NULL,
    content  BLOB,
    PRIMARY KEY (project, oid)
) STRICT;

CREATE TABLE requests (
    project     BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    key         TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,
    answer      TEXT,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) STRICT;

CREATE TABLE attempts (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              BLOB NOT NULL UNIQUE,
    project         BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    idempotency_key TEXT,
    user_id         BLOB,
    branch          TEXT NOT NULL,
    pending_branch  TEXT NOT NULL,
    base            BLOB,
    remote_base     BLOB,
    push            INTEGER NOT NULL,
    tree            BLOB NOT NULL,
    commit_oid      BLOB NOT NULL,
    raw             BLOB NOT NULL,
    snapshot        TEXT NOT NULL,
    objects         BLOB NOT NULL,
    state           TEXT NOT NULL,
    fence           INTEGER NOT NULL,
    last_error      TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_request ON attempts (project, idempotency_key, seq);
CREATE UNIQUE INDEX attempts_pushing ON attempts (project, branch) WHERE state IN ('PUSHING', 'UNKNOWN');
CREATE INDEX attempts_open ON attempts (seq)
    WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED');
