-- The collector, and work that one instance at a time does for all. sqlite/0004_collection.sql is the same change in the other dialect.

-- When an object was condemned, Unix milliseconds; null: it is live. The grace is counted from here.
ALTER TABLE objects ADD COLUMN condemned_at bigint;
CREATE INDEX objects_condemned ON objects (number) WHERE state = 'C';

-- Jobs: collection, verification, manifests. The lease is for efficiency; what a job does is safe beside another one like it.
CREATE TABLE jobs (
    name        text COLLATE "C" NOT NULL PRIMARY KEY,
    holder      uuid, -- who does it; null: nobody
    until       bigint NOT NULL, -- when the holder counts as gone, unless it says that it is not, Unix milliseconds
    progress    text, -- where to go on, in the job's own words; null: from the start
    finished_at bigint, -- when it was last done to the end
    report      text -- what it said then, JSON
);
