-- Which bucket a database belongs to. postgres/0012_store_id.sql is the same change in the other dialect; it is explained there.

ALTER TABLE gc_state ADD COLUMN store_id BLOB;
