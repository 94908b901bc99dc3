//! The object model against stock git, which is the oracle: what git writes we read, what we write git takes, and both
//! judge alike.

mod commits;
mod differential;
mod fsck_commits;
mod fsck_files;
mod fsck_trees;
mod names;
mod oracle;
mod path_rules;
mod refs;
mod trees;
