//! What signs commits.

use std::sync::Arc;

use treehold_engine::{CommitSigner, Secret};

use super::{Values, author};
use crate::failure::Failure;

/// The key is read here, once.
pub(super) fn signer(values: &Values) -> Result<Option<Arc<CommitSigner>>, Failure> {
    let committer = match values.given.get("signing_committer") {
        None => None,
        Some((text, _)) => {
            let wrong = |_| values.wrong("signing_committer", "must look like `Name <name@example.org>`");
            Some(author(text).map_err(wrong)?)
        }
    };
    let Some((path, _)) = values.given.get("signing_key_file") else {
        return match committer {
            None => Ok(None),
            Some(_) => Err(values.wrong("signing_committer", "needs `signing_key_file` beside it")),
        };
    };
    let unusable =
        |why: &dyn std::fmt::Display| values.wrong("signing_key_file", &format!("cannot be used: {path}: {why}"));
    let key = Secret::new(std::fs::read_to_string(path).map_err(|error| unusable(&error))?);
    CommitSigner::new(&key, committer).map(|signer| Some(Arc::new(signer))).map_err(|error| unusable(&error))
}
