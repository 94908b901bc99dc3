//! The store against real file systems, a real S3 server and stock git.

mod buckets;
mod cache;
mod damage;
mod deltas;
mod directory;
mod faults;
mod git;
mod objects;
mod s3;
mod sample;
