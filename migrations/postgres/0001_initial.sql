-- The catalog, first version. sqlite/0001_initial.sql is the same change in the other dialect.
-- Oids and paths are bytea (compared bytewise), names compare bytewise (COLLATE "C"), times are Unix milliseconds.

CREATE TABLE projects (
    id             uuid NOT NULL PRIMARY KEY,
    name           text UNIQUE,
    default_branch text NOT NULL,
    remote_url     text,
    created_at     bigint NOT NULL
);

CREATE TABLE refs (
    project uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    text COLLATE "C" NOT NULL,
    oid     bytea NOT NULL,
    PRIMARY KEY (project, name)
);

CREATE TABLE reflog (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    text COLLATE "C" NOT NULL,
    old     bytea, -- null: it did not exist
    new     bytea, -- null: deleted
    reason  text NOT NULL,
    at      bigint NOT NULL
);
CREATE INDEX reflog_project ON reflog (project, name, id);

-- What the remote last had.
CREATE TABLE remote_refs (
    project uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name    text COLLATE "C" NOT NULL,
    oid     bytea NOT NULL,
    PRIMARY KEY (project, name)
);

-- Commits whose parents were cut off by a shallow fetch.
CREATE TABLE shallow (
    project uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    oid     bytea NOT NULL,
    PRIMARY KEY (project, oid)
);

-- Ledger numbers of what the project's refs reach: a portable roaring bitmap of 64-bit values.
CREATE TABLE reach (
    project uuid NOT NULL PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    bitmap  bytea NOT NULL
);
-- Roaring has packed it already; and a small change should not rewrite a compressed whole.
ALTER TABLE reach ALTER COLUMN bitmap SET STORAGE EXTERNAL;

-- Commits and trees are shared by all projects, say nothing about access and can be rebuilt from the bucket.
CREATE TABLE commits (
    oid        bytea NOT NULL PRIMARY KEY,
    tree       bytea NOT NULL,
    parents    bytea NOT NULL, -- oids, one after the other
    generation bigint NOT NULL,
    time       bigint NOT NULL, -- Unix seconds
    raw        bytea NOT NULL
);

-- The same parents as rows, for recursive walks.
CREATE TABLE commit_parents (
    oid      bytea NOT NULL,
    position bigint NOT NULL,
    parent   bytea NOT NULL,
    PRIMARY KEY (oid, position)
);

CREATE TABLE trees (
    oid bytea NOT NULL PRIMARY KEY,
    raw bytea NOT NULL
);
-- Trees are mostly hashes; trying to compress them is work for nothing.
ALTER TABLE trees ALTER COLUMN raw SET STORAGE EXTERNAL;

-- The collection protocol (W0-W5, G1-G7). The horizon never falls.
CREATE TABLE gc_state (
    id      bigint NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch   bigint NOT NULL,
    horizon bigint NOT NULL
);
INSERT INTO gc_state (id, epoch, horizon) VALUES (1, 1, 1);

-- Each value stands for a block of 1024 ledger numbers (1024 * value ...): a registration takes as many blocks as it
-- needs, without a lock, and its numbers lie together. Numbers are never given twice.
CREATE SEQUENCE object_blocks;

CREATE TABLE ops (
    op_id        uuid NOT NULL PRIMARY KEY,
    project      uuid,
    kind         text NOT NULL,
    epoch        bigint NOT NULL,
    state        text NOT NULL CHECK (state IN ('open', 'done', 'dead')),
    roots        bytea NOT NULL, -- the project's ref tips when it began: oids, one after the other
    heartbeat_at bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX ops_open ON ops (heartbeat_at) WHERE state = 'open';

-- One life per name: reserved, present, doomed, deleted, in this order; rows stay, so that names stay burnt.
CREATE TABLE s3_keys (
    key_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    s3_key    text COLLATE "C" NOT NULL UNIQUE,
    state     text NOT NULL CHECK (state IN ('reserved', 'present', 'doomed', 'deleted')),
    kept      bigint NOT NULL DEFAULT 0, -- 1: an object's row named it once, so readers may still look here
    op_id     uuid NOT NULL,
    doomed_at bigint
) WITH (fillfactor = 80);
CREATE INDEX s3_keys_reserved ON s3_keys (op_id) WHERE state = 'reserved';
CREATE INDEX s3_keys_doomed ON s3_keys (kept, key_id) WHERE state = 'doomed';

CREATE TABLE objects (
    number     bigint NOT NULL PRIMARY KEY,
    oid        bytea NOT NULL UNIQUE,
    type       smallint NOT NULL, -- as in packs: 1 commit, 2 tree, 3 blob, 4 tag
    size       bigint NOT NULL,
    sha256     bytea NOT NULL, -- of type, size and content
    state      text NOT NULL CHECK (state IN ('L', 'C')), -- live; condemned (bytes still there, revived by a pin)
    seen_epoch bigint NOT NULL,
    key_id     bigint NOT NULL,
    off        bigint NOT NULL,
    len        bigint NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX objects_key ON objects (key_id);

CREATE TABLE workspaces (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project  uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    branch   text COLLATE "C" NOT NULL,
    user_id  uuid NOT NULL,
    revision bigint NOT NULL,
    UNIQUE (project, branch, user_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- One narrow row per path, rewritten by every autosave. No index but the key, so that updates stay on their page
-- (HOT), with room left there for the next version; contents are elsewhere.
CREATE TABLE pending (
    workspace  bigint NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    path       bytea NOT NULL,
    action     smallint NOT NULL, -- 0 modified, 1 created, 2 deleted
    mode       integer NOT NULL,
    oid        bytea,
    size       bigint NOT NULL,
    base_oid   bytea,
    revision   bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (workspace, path)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

-- Replaced versions: local history. Rows are only added.
CREATE TABLE pending_history (
    workspace   bigint NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    path        bytea NOT NULL,
    action      smallint NOT NULL,
    mode        integer NOT NULL,
    oid         bytea,
    size        bigint NOT NULL,
    base_oid    bytea,
    revision    bigint NOT NULL,
    updated_at  bigint NOT NULL,
    replaced_at bigint NOT NULL,
    PRIMARY KEY (workspace, path, revision)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

-- Every oid that a row of pending or pending_history of the project names: this is what makes such a blob readable
-- for the project. Content is null where it is in the bucket.
CREATE TABLE pending_contents (
    project  uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    oid      bytea NOT NULL,
    size     bigint NOT NULL, -- of the content, uncompressed
    encoding smallint NOT NULL, -- 0 as it is, 1 zlib
    content  bytea,
    PRIMARY KEY (project, oid)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE pending_contents ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE requests (
    project     uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    key         text NOT NULL,
    body_sha256 bytea NOT NULL,
    answer      text, -- the first final one
    created_at  bigint NOT NULL,
    PRIMARY KEY (project, key)
);

CREATE TABLE attempts (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id              uuid NOT NULL UNIQUE,
    project         uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    idempotency_key text,
    user_id         uuid,
    branch          text COLLATE "C" NOT NULL,
    pending_branch  text NOT NULL,
    base            bytea,
    remote_base     bytea,
    push            bigint NOT NULL, -- 0 or 1
    tree            bytea NOT NULL,
    commit_oid      bytea NOT NULL,
    raw             bytea NOT NULL,
    snapshot        text NOT NULL, -- JSON: [[path in hex, revision or null, oid in hex or null, mode], ...]
    objects         bytea NOT NULL, -- oids, one after the other
    state           text NOT NULL,
    fence           bigint NOT NULL,
    last_error      text,
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL
);
CREATE INDEX attempts_request ON attempts (project, idempotency_key, seq);
-- At most one push on its way per branch.
CREATE UNIQUE INDEX attempts_pushing ON attempts (project, branch) WHERE state IN ('PUSHING', 'UNKNOWN');
CREATE INDEX attempts_open ON attempts (seq)
    WHERE state IN ('PREPARED', 'STORED', 'PUSHING', 'UNKNOWN', 'LANDED', 'PAUSED');
