//! Why a remote refused a push, read from its words: hosts have no other way to say it to git.
//!
//! The words are those of GitHub's documentation ("About protected branches", "Working with push protection", "About large files on
//! GitHub", "Available rules for rulesets"), of GitLab and of git's own hooks.

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// A rule of the branch: pull request, status check or permission needed.
    ProtectedBranch,
    /// A secret was found in what was pushed.
    PushProtection,
    /// The branch takes signed commits only.
    SignedCommitsRequired,
    /// A file, or all of it, is larger than the host takes.
    FileTooLarge,
    /// A hook of the host.
    Hook,
    /// Nothing of these.
    Other,
}

/// In this order: what is more exact comes first, since GitHub wraps all of it in the words for protected branches and hooks.
const WORDS: [(Rejection, &[&str]); 5] = [
    (
        Rejection::PushProtection,
        &["push protection", "push cannot contain secrets", "gh009", "secrets detected", "secret detected"],
    ),
    (
        Rejection::FileTooLarge,
        &[
            "gh001",
            "file size limit",
            "large files detected",
            "too large for the remote",
            "exceeds maximum allowed size",
            "exceeds the maximum file size",
            "file larger than",
            "pack is too large",
            "http 413",
        ],
    ),
    (
        Rejection::SignedCommitsRequired,
        &[
            "commits must have verified signatures",
            "commits must have valid signatures",
            "must have verified signature",
            "requires signed commits",
            "commit must be signed",
            "commits must be signed",
        ],
    ),
    (
        Rejection::ProtectedBranch,
        &[
            "gh006",
            "gh013",
            "gh014",
            "protected branch",
            "repository rule violations",
            "changes must be made through a pull",
        ],
    ),
    (Rejection::Hook, &["hook declined", "pre-receive hook", "update hook"]),
];

impl Rejection {
    /// Reads the remote's words.
    pub fn of(words: &str) -> Self {
        let words = words.to_ascii_lowercase();
        let says = |patterns: &[&str]| patterns.iter().any(|pattern| words.contains(pattern));
        WORDS.iter().find(|(_, patterns)| says(patterns)).map_or(Self::Other, |(kind, _)| *kind)
    }

    /// The stable name in problem bodies.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProtectedBranch => "protected_branch",
            Self::PushProtection => "push_protection",
            Self::SignedCommitsRequired => "signed_commits_required",
            Self::FileTooLarge => "file_too_large",
            Self::Hook => "hook",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As GitHub's documentation shows them, with the reason of the report behind.
    const DOCUMENTED: [(&str, &str); 14] = [
        (
            "error: GH006: Protected branch update failed for refs/heads/main.\n\
             error: Required status check \"ci-build\" is failing\nprotected branch hook declined",
            "protected_branch",
        ),
        (
            "error: GH006: Protected branch update failed for refs/heads/main.\n\
             error: Changes must be made through a pull request.\nprotected branch hook declined",
            "protected_branch",
        ),
        (
            "error: GH006: Protected branch update failed for refs/heads/main.\nerror: You're not authorized to push to this \
             branch. Visit https://docs.github.com/articles/about-protected-branches/ for more information.",
            "protected_branch",
        ),
        (
            "error: GH013: Repository rule violations found for refs/heads/main.\n\
             Review all repository rules at https://github.com/o/r/rules?ref=refs%2Fheads%2Fmain\n\n\
             - Changes must be made through a pull request.\n\npush declined due to repository rule violations",
            "protected_branch",
        ),
        (
            "error: GH013: Repository rule violations found for refs/heads/main.\n\n- GITHUB PUSH PROTECTION\n\
             —————————————————————————————————————————\nResolve the following violations before pushing again\n\n\
             - Push cannot contain secrets\n\npush declined due to repository rule violations",
            "push_protection",
        ),
        ("error: GH009: Secrets detected! This push failed.\n\nGITHUB PUSH PROTECTION", "push_protection"),
        (
            "error: GH006: Protected branch update failed for refs/heads/main.\n\
             error: Commits must have verified signatures.\nprotected branch hook declined",
            "signed_commits_required",
        ),
        (
            "error: GH013: Repository rule violations found for refs/heads/main.\n\n- Commits must have verified signatures.\n\n\
             Found 1 violation:\n\n9a0e0d0\n\npush declined due to repository rule violations",
            "signed_commits_required",
        ),
        (
            "error: Trace: 0000\nerror: See https://gh.io/lfs for more information.\nerror: File big.bin is 123.45 MB; this exceeds \
             GitHub's file size limit of 100.00 MB\nerror: GH001: Large files detected. You may want to try Git Large File Storage - \
             https://git-lfs.github.com.\npre-receive hook declined",
            "file_too_large",
        ),
        ("too large for the remote: HTTP 413 Payload Too Large", "file_too_large"),
        ("fatal: pack exceeds maximum allowed size", "file_too_large"),
        (
            "GitLab: You are not allowed to push code to protected branches on this project.\npre-receive hook declined",
            "protected_branch",
        ),
        ("tests must pass\npre-receive hook declined", "hook"),
        ("deny updating a hidden ref", "other"),
    ];

    #[test]
    fn documented_words_have_a_stable_reason() {
        for (words, reason) in DOCUMENTED {
            assert_eq!(Rejection::of(words).name(), reason, "{words}");
        }
        assert_eq!(Rejection::of(""), Rejection::Other);
    }
}
