//! What objects, refs and edits may be at most. Each is checked before memory is spent.

/// Longest path that an edit may add, bytes.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest path component that an edit may add, bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Most components of a path that an edit may add.
pub const PATH_DEPTH_MAX: usize = 128;
/// Longest name of a tree entry that is received or imported, bytes; git warns above it (`largePathname`).
pub const ENTRY_NAME_BYTES_MAX: usize = 4096;
/// Deepest nesting of trees that is received or imported (git's `core.maxTreeDepth`).
pub const TREE_DEPTH_MAX: u16 = 2048;
/// Longest path in a tree that is received or imported, bytes.
pub const TREE_PATH_BYTES_MAX: u16 = 4096;
/// Longest name, and longest e-mail address, of an author that an edit may give, bytes.
pub const IDENT_BYTES_MAX: usize = 1024;
/// Longest target of a symlink that an edit may add, bytes.
pub const SYMLINK_TARGET_BYTES_MAX: usize = 4096;
/// Longest full name of a ref, bytes.
pub const REF_NAME_BYTES_MAX: usize = 255;
/// Most refs of a project, where a server is told nothing else.
pub const REFS_MAX: usize = 50_000;
/// Largest tree, commit or tag object, bytes (32 MiB: a directory of more than 500,000 files).
pub const STRUCTURED_OBJECT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Largest `.gitmodules` that is parsed, bytes (1 MiB).
pub const GITMODULES_BYTES_MAX: usize = 1024 * 1024;
/// Largest `.gitattributes`, bytes (git's `ATTR_MAX_FILE_SIZE`).
pub const GITATTRIBUTES_BYTES_MAX: usize = 100 * 1024 * 1024;
/// A line of `.gitattributes` must be shorter than this, bytes (git's `ATTR_MAX_LINE_LENGTH`).
pub const GITATTRIBUTES_LINE_BYTES_MAX: usize = 2048;
