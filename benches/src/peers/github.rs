//! GitHub's Git Data API: how many calls the same commit needs. Computed, not measured.
//!
//! <https://docs.github.com/en/rest/guides/using-the-rest-api-to-interact-with-your-git-database> lists the steps: get the
//! reference and the commit that it names, make a blob for each file, make the tree, make the commit, update the reference.

/// Calls for one commit of `files` files whose content is not known to the server.
pub fn calls(files: usize) -> usize {
    let (get_ref, get_commit, tree, commit, update_ref) = (1, 1, 1, 1, 1);
    get_ref + get_commit + files + tree + commit + update_ref
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_file_is_a_call() {
        assert_eq!((super::calls(0), super::calls(10)), (5, 15));
    }
}
