//! Isolation on PostgreSQL.
