-- Packs that are kept as they were received hold deltas. postgres/0002_history_packs.sql is the same change in the other dialect.

ALTER TABLE objects ADD COLUMN base_off INTEGER;

CREATE INDEX objects_place ON objects (key_id, off);
DROP INDEX objects_key;

CREATE TABLE pack_bases (
    key_id   INTEGER NOT NULL,
    off      INTEGER NOT NULL,
    len      INTEGER NOT NULL,
    base_off INTEGER,
    PRIMARY KEY (key_id, off)
) STRICT, WITHOUT ROWID;
