-- Tokens with scopes, for the whole API and not only for git. sqlite/0008_scopes.sql is the same change in the other dialect.

-- Names of scopes, separated by commas. Null: a token of before, or one of a server of before, that says in `access` what git may do.
ALTER TABLE tokens ADD COLUMN scopes text;
-- Whose pending work it opens; null: everybody's.
ALTER TABLE tokens ADD COLUMN user_id uuid;
-- Null where there are scopes: so a server of before refuses such a token instead of letting it in as what it is not.
ALTER TABLE tokens ALTER COLUMN access DROP NOT NULL;
ALTER TABLE tokens ADD CONSTRAINT tokens_say_what CHECK ((access IS NULL) <> (scopes IS NULL));
