-- Packs that are kept as they were received hold deltas. sqlite/0002_history_packs.sql is the same change in the other dialect.

-- Where the entry starts that this one is a delta against, in the same key; null: a whole object.
ALTER TABLE objects ADD COLUMN base_off bigint;

-- Chains of deltas are followed by place.
CREATE INDEX objects_place ON objects (key_id, off);
DROP INDEX objects_key;

-- Entries that deltas rest on and that are no object's place, because the ledger has the object elsewhere.
CREATE TABLE pack_bases (
    key_id   bigint NOT NULL,
    off      bigint NOT NULL,
    len      bigint NOT NULL,
    base_off bigint,
    PRIMARY KEY (key_id, off)
);
