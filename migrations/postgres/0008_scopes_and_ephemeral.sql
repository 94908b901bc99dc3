-- Tokens with scopes, for the whole API and not only for git; branches that end by themselves. sqlite/0008_scopes_and_ephemeral.sql is the
-- same change in the other dialect.

-- Names of scopes, separated by commas. Null: a token of before, or one of a server of before, that says in `access` what git may do.
ALTER TABLE tokens ADD COLUMN scopes text;
-- Whose pending work it opens; null: everybody's.
ALTER TABLE tokens ADD COLUMN user_id uuid;
-- Null where there are scopes: so a server of before refuses such a token instead of letting it in as what it is not.
ALTER TABLE tokens ALTER COLUMN access DROP NOT NULL;
ALTER TABLE tokens ADD CONSTRAINT tokens_say_what CHECK ((access IS NULL) <> (scopes IS NULL));

-- How long an ephemeral branch stays after it last moved, milliseconds, and when that will be; null: it stays.
ALTER TABLE refs ADD COLUMN lifetime bigint;
ALTER TABLE refs ADD COLUMN expires_at bigint;
CREATE INDEX refs_expire ON refs (expires_at) WHERE expires_at IS NOT NULL;
