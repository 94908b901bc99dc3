//! What a connection is bound to: it sees one project, as one user sees it, and nothing else.

use treehold_engine::Secret;
use treehold_engine::api::{Author, Origin};
use uuid::Uuid;

/// The longest name of a client that is told of its edits, bytes.
const AGENT_BYTES_MAX: usize = 100;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// What a connection is bound to.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Id or name of the project.
    pub project: String,
    /// Whose view is read and whose pending work is written.
    pub user: Uuid,
    /// Short branch name; the project's default if not given.
    pub branch: Option<String>,
    /// What may be done: with [`Access::Read`] the tools that write are not there.
    pub access: Access,
    /// Whether it is told that others have pending work on a path.
    pub sees_others: bool,
    /// Where edits come from. Without an actor it is `agent:` and the client's own name.
    pub origin: Origin,
    /// Author of commits that name none; the engine's default if not given.
    pub author: Option<Author>,
    /// Credentials for the remote, for this connection alone; the engine's own if not given.
    pub credentials: Option<Secret>,
}

impl Binding {
    /// May read and write; nothing else is known.
    pub fn new(project: impl Into<String>, user: Uuid) -> Self {
        Self {
            project: project.into(),
            user,
            branch: None,
            access: Access::Write,
            sees_others: true,
            origin: Origin::default(),
            author: None,
            credentials: None,
        }
    }

    /// Where an edit of the client `name` comes from.
    pub(crate) fn origin_of(&self, name: Option<&str>) -> Origin {
        let mut origin = self.origin.clone();
        if origin.actor.is_none() {
            let name = name.and_then(agent_name);
            origin.actor = Some(name.map_or_else(|| "agent".to_owned(), |name| format!("agent:{name}")));
        }
        origin
    }
}

/// Text that may be shown to others: nothing that moves a cursor or turns text around (Unicode's Bidi_Control).
pub fn plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// A client's name as others may see it: what is not plain goes, and what is too long is cut.
pub fn agent_name(name: &str) -> Option<String> {
    let mut shown: String = name.chars().filter(|c| plain(*c)).collect();
    let mut end = shown.len().min(AGENT_BYTES_MAX);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    shown.truncate(end);
    let shown = shown.trim();
    (!shown.is_empty()).then(|| shown.to_owned())
}

/// `Name <name@example.org>`, as git writes it. Whether git takes it as an author is judged when it commits.
pub fn author(text: &str) -> Option<Author> {
    let (name, rest) = text.split_once('<')?;
    let email = rest.trim_end().strip_suffix('>')?;
    let (name, email) = (name.trim(), email.trim());
    let fits = !name.is_empty() && !email.is_empty() && !email.contains(['<', '>']);
    fits.then(|| Author { name: name.to_owned(), email: email.to_owned(), date: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_a_short_plain_name() {
        assert_eq!(agent_name("claude-code").as_deref(), Some("claude-code"));
        assert_eq!(agent_name(" a\u{202e}b\nc\u{7f} ").as_deref(), Some("abc"));
        assert_eq!(agent_name("\u{1b}\t "), None);
        assert_eq!(agent_name(&"\u{e9}".repeat(80)).map(|name| name.len()), Some(100));
        assert_eq!(agent_name(&format!("x{}", "\u{e9}".repeat(80))).map(|name| name.len()), Some(99));
    }

    #[test]
    fn what_the_caller_says_of_the_actor_goes_before_the_clients_own_name() {
        let mut binding = Binding::new("docs", Uuid::nil());
        assert_eq!(binding.origin_of(None).actor.as_deref(), Some("agent"));
        assert_eq!(binding.origin_of(Some("inspector")).actor.as_deref(), Some("agent:inspector"));
        binding.origin.actor = Some("service:nightly".to_owned());
        assert_eq!(binding.origin_of(Some("inspector")).actor.as_deref(), Some("service:nightly"));
    }

    #[test]
    fn authors_are_written_as_in_git() {
        let told = |text: &str| author(text).map(|author| (author.name, author.email));
        assert_eq!(told("Ann B <ann@example.org>"), Some(("Ann B".to_owned(), "ann@example.org".to_owned())));
        for bad in ["", "Ann", "Ann <>", "<a@b>", "Ann <a@b> x", "Ann <a<b>"] {
            assert_eq!(told(bad), None, "{bad:?}");
        }
    }
}
