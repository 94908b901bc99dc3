-- The collector, and work that one instance at a time does for all. postgres/0004_collection.sql is the same change in the other
-- dialect; columns are explained there.

ALTER TABLE objects ADD COLUMN condemned_at INTEGER;
CREATE INDEX objects_condemned ON objects (number) WHERE state = 'C';

CREATE TABLE jobs (
    name        TEXT NOT NULL PRIMARY KEY,
    holder      BLOB,
    until       INTEGER NOT NULL,
    progress    TEXT,
    finished_at INTEGER,
    report      TEXT
) STRICT, WITHOUT ROWID;
