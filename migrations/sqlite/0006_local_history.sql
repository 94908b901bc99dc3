-- Local history is listed, thinned and held by checkpoints. postgres/0006_local_history.sql is the same change in the other dialect;
-- columns are explained there.

CREATE INDEX pending_history_recent ON pending_history (workspace, revision);
CREATE INDEX pending_history_oid ON pending_history (oid) WHERE oid IS NOT NULL;

CREATE TABLE checkpoints (
    id         BLOB NOT NULL PRIMARY KEY,
    project    BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    branch     TEXT NOT NULL,
    user_id    BLOB NOT NULL,
    name       TEXT NOT NULL,
    message    TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    changes    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (project, user_id, branch, name)
) STRICT;

CREATE TABLE checkpoint_rows (
    checkpoint BLOB NOT NULL REFERENCES checkpoints (id) ON DELETE CASCADE,
    path       BLOB NOT NULL,
    action     INTEGER NOT NULL,
    mode       INTEGER NOT NULL,
    oid        BLOB,
    size       INTEGER NOT NULL,
    base_oid   BLOB,
    PRIMARY KEY (checkpoint, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX checkpoint_rows_oid ON checkpoint_rows (oid) WHERE oid IS NOT NULL;
CREATE INDEX checkpoint_rows_base ON checkpoint_rows (base_oid) WHERE base_oid IS NOT NULL;
