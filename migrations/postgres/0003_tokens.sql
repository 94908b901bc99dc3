-- Git clients: what they may do to a project's refs, and the tokens that let them in. sqlite/0003_tokens.sql is the same change in
-- the other dialect.

-- What pushes to the project are refused; commits and pulls of our own are not bound by it.
ALTER TABLE projects ADD COLUMN deny_non_fast_forwards boolean NOT NULL DEFAULT false;
ALTER TABLE projects ADD COLUMN deny_deletes boolean NOT NULL DEFAULT false;

-- What was worked out from the refs holds only as long as these stand: how often any ref moved, ours or the remote's as we know it, and
-- how often reach was replaced, as what it held could be lost.
ALTER TABLE projects ADD COLUMN ref_moves bigint NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN reach_shrinks bigint NOT NULL DEFAULT 0;

CREATE TABLE tokens (
    id         uuid NOT NULL PRIMARY KEY,
    project    uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name       text, -- what its owner calls it
    hash       bytea NOT NULL UNIQUE, -- SHA-256 of the secret, which is nowhere
    access     text NOT NULL CHECK (access IN ('read', 'write')), -- write includes read
    created_at bigint NOT NULL,
    expires_at bigint -- from then on it is none; null: never
);
CREATE INDEX tokens_project ON tokens (project, id);
