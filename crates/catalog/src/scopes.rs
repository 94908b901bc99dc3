//! Scopes: what a credential allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One kind of access to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// What was committed: files, history, refs, search, exports, the remote's facts.
    FilesRead,
    /// Commits, refs, and what goes to and comes from the remote; includes [`Scope::FilesRead`].
    FilesWrite,
    /// Uncommitted work: edits, their history, views with them, and the events that tell of them.
    Pending,
    /// Clones and fetches of git clients.
    GitRead,
    /// Pushes of git clients; includes [`Scope::GitRead`].
    GitWrite,
    /// The project itself: its settings and its deletion.
    Admin,
}

impl Scope {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::FilesRead, Self::FilesWrite, Self::Pending, Self::GitRead, Self::GitWrite, Self::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::FilesRead => "files:read",
            Self::FilesWrite => "files:write",
            Self::Pending => "pending",
            Self::GitRead => "git:read",
            Self::GitWrite => "git:write",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// With what it includes.
    fn bits(self) -> u8 {
        match self {
            Self::FilesWrite => self.bit() | Self::FilesRead.bit(),
            Self::GitWrite => self.bit() | Self::GitRead.bit(),
            Self::FilesRead | Self::Pending | Self::GitRead | Self::Admin => self.bit(),
        }
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or(UnknownScope)
    }
}

/// A text is the name of no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("scopes are files:read, files:write, pending, git:read, git:write and admin, separated by commas")]
pub struct UnknownScope;

/// A set of scopes. One that writes brings the one that reads with it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether it has this one.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those it has, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// What is stored: names that are not known (of a newer version) grant nothing.
    pub(crate) fn stored(text: &str) -> Self {
        text.split(',').filter_map(|name| name.parse().ok()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bits()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}", scope.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

/// Names separated by commas, without spaces; at least one.
impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split(',').map(str::parse).collect()
    }
}

impl TryFrom<Vec<String>> for Scopes {
    type Error = UnknownScope;

    fn try_from(names: Vec<String>) -> Result<Self, UnknownScope> {
        names.iter().map(|name| name.parse()).collect()
    }
}

impl From<Scopes> for Vec<String> {
    fn from(scopes: Scopes) -> Self {
        scopes.iter().map(|scope| scope.name().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writes_reads() {
        for scope in Scope::ALL {
            let scopes: Scopes = [scope].into_iter().collect();
            assert!(scopes.has(scope) && !scopes.is_empty());
            assert_eq!(scopes.has(Scope::FilesRead), matches!(scope, Scope::FilesRead | Scope::FilesWrite));
            assert_eq!(scopes.has(Scope::GitRead), matches!(scope, Scope::GitRead | Scope::GitWrite));
        }
        assert!(Scopes::default().is_empty() && Scope::ALL.into_iter().all(|scope| Scopes::all().has(scope)));
    }

    #[test]
    fn names_come_back() {
        let text = "files:read,files:write,pending,admin";
        let scopes: Scopes = "admin,files:write,pending,pending".parse().unwrap();
        assert_eq!(scopes.to_string(), text);
        assert_eq!(text.parse(), Ok(scopes));
        assert_eq!(Scopes::stored(text), scopes);
        assert_eq!(serde_json::to_string(&scopes).unwrap(), r#"["files:read","files:write","pending","admin"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(r#"["pending","admin","files:write"]"#).unwrap(), scopes);
        assert_eq!(Scopes::all().to_string().parse(), Ok(Scopes::all()));
    }

    #[test]
    fn other_names_are_refused_and_grant_nothing() {
        for wrong in ["", ",", "files", "Pending", "pending, admin", "pending,", "*", "all"] {
            assert_eq!(wrong.parse::<Scopes>(), Err(UnknownScope), "{wrong:?}");
        }
        assert!(serde_json::from_str::<Scopes>(r#"["files"]"#).is_err());
        assert_eq!(Scopes::stored("pending,files:list"), "pending".parse().unwrap());
        assert!(Scopes::stored("").is_empty());
    }
}
