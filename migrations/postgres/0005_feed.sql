-- Who makes an edit, and the change feed. sqlite/0005_feed.sql is the same change in the other dialect.

-- By which device and by whom a pending version was written, as its caller said; null: it did not say.
ALTER TABLE pending ADD COLUMN device text;
ALTER TABLE pending ADD COLUMN actor text;
ALTER TABLE pending ADD COLUMN session text;
ALTER TABLE pending_history ADD COLUMN device text;
ALTER TABLE pending_history ADD COLUMN actor text;
ALTER TABLE pending_history ADD COLUMN session text;

-- Where the feed of a project begins and ends. The row is locked by whoever writes events, as the last thing before it commits, so
-- that numbers become visible in their order. It is rewritten all the time: no index but the key and much room on the page, so that
-- it stays there (HOT); and not in `projects`, whose rows are wide and read by everybody.
CREATE TABLE feeds (
    project uuid NOT NULL PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    last    bigint NOT NULL, -- number of the last event; the first one follows the time of the feed's beginning, Unix milliseconds
    floor   bigint NOT NULL -- events up to this one are gone
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
INSERT INTO feeds (project, last, floor) SELECT id, created_at, created_at FROM projects;

-- What happened. Rows are added, and taken away from the oldest on. No foreign key, which would be looked up for every event: whoever
-- adds some holds the feed's row, which goes with the project, and its events after it.
CREATE TABLE events (
    project  uuid NOT NULL,
    seq      bigint NOT NULL,
    kind     smallint NOT NULL, -- 0 pending, 1 ref, 2 sync, 3 push
    at       bigint NOT NULL,
    user_id  uuid,
    name     text COLLATE "C" NOT NULL, -- a branch; of a ref the full name
    path     bytea,
    action   smallint, -- 0 modified, 1 created, 2 deleted, 3 dropped, 4 committed
    mode     integer,
    old_oid  bytea, -- where a ref was; the base of a pending change
    new_oid  bytea, -- where it is; what is pending, or was committed; the commit of a push
    revision bigint,
    reason   text, -- why a ref moved; what became of a push
    attempt  uuid,
    device   text,
    actor    text,
    session  text,
    PRIMARY KEY (project, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);
