-- Local history is listed, thinned and held by checkpoints. sqlite/0006_local_history.sql is the same change in the other dialect.

-- A workspace's versions, newest first; a revision is given once in a workspace.
CREATE INDEX pending_history_recent ON pending_history (workspace, revision);
-- Whether anything still names a content.
CREATE INDEX pending_history_oid ON pending_history (oid) WHERE oid IS NOT NULL;

-- The pending work of one user on one branch as it was at one revision.
CREATE TABLE checkpoints (
    id         uuid NOT NULL PRIMARY KEY,
    project    uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    branch     text COLLATE "C" NOT NULL,
    user_id    uuid NOT NULL,
    name       text COLLATE "C" NOT NULL,
    message    text NOT NULL,
    revision   bigint NOT NULL, -- of the workspace
    changes    bigint NOT NULL, -- how many rows it has
    created_at bigint NOT NULL,
    UNIQUE (project, user_id, branch, name)
);

-- Contents are those of pending work: a row here keeps them.
CREATE TABLE checkpoint_rows (
    checkpoint uuid NOT NULL REFERENCES checkpoints (id) ON DELETE CASCADE,
    path       bytea NOT NULL,
    action     smallint NOT NULL,
    mode       integer NOT NULL,
    oid        bytea,
    size       bigint NOT NULL,
    base_oid   bytea,
    PRIMARY KEY (checkpoint, path)
);
CREATE INDEX checkpoint_rows_oid ON checkpoint_rows (oid) WHERE oid IS NOT NULL;
CREATE INDEX checkpoint_rows_base ON checkpoint_rows (base_oid) WHERE base_oid IS NOT NULL;
