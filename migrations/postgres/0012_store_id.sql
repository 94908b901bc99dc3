-- Which bucket a database belongs to. sqlite/0012_store_id.sql is the same change in the other dialect.

-- What `objects/info/treehold-store-id` in the bucket says; null: the two have not been tied together yet.
ALTER TABLE gc_state ADD COLUMN store_id uuid;
