//! The rules for names, one by one: for an edit, a push and an import.

use treehold_object::path::{PathError, check_entry, check_existing, check_new_name, check_symlink_target};
use treehold_object::tree::{encode_tree, mode};
use treehold_object::{Flags, Kind, ObjectId, Policy, TreeEntry, fsck, hash};

/// What an edit, a push and an import make of an entry.
fn verdicts(name: &[u8], mode: u32) -> [Result<Flags, PathError>; 3] {
    [Policy::Write, Policy::Push, Policy::Import].map(|policy| check_entry(name, mode, policy))
}

const CARRIED: Result<Flags, PathError> = Ok(Flags::NONE);

fn all_refuse(names: &[&str], mode: u32, error: PathError) {
    for name in names {
        assert_eq!(verdicts(name.as_bytes(), mode), [Err(error); 3], "{name:?}");
    }
}

fn only_edits_refuse(names: &[&str], mode: u32, error: PathError) {
    for name in names {
        assert_eq!(verdicts(name.as_bytes(), mode), [Err(error), CARRIED, CARRIED], "{name:?}");
    }
}

#[test]
fn shape() {
    for (path, error) in [
        ("", PathError::Empty),
        ("/", PathError::EmptyComponent),
        ("/a", PathError::EmptyComponent),
        ("a/", PathError::EmptyComponent),
        ("a//b", PathError::EmptyComponent),
        (".", PathError::Dot),
        ("a/./b", PathError::Dot),
        ("..", PathError::DotDot),
        ("a/../b", PathError::DotDot),
        ("a/..", PathError::DotDot),
        ("a\0b", PathError::Nul),
        ("a/\0", PathError::Nul),
    ] {
        assert_eq!(check_new_name(path.as_bytes(), mode::FILE), Err(error), "{path:?}");
        assert_eq!(check_existing(path.as_bytes()), Err(error), "{path:?}");
    }
    all_refuse(&[""], mode::FILE, PathError::EmptyComponent);
    all_refuse(&["."], mode::TREE, PathError::Dot);
    all_refuse(&[".."], mode::TREE, PathError::DotDot);
    all_refuse(&["a/b", "/"], mode::FILE, PathError::Slash);
    all_refuse(&["a\0"], mode::FILE, PathError::Nul);
}

/// The list of git's t1014, and what NTFS and HFS+ add to it.
#[test]
fn forms_of_dot_git() {
    let names = [
        ".git",
        ".GIT",
        ".Git",
        "git~1",
        "GIT~1",
        ".git ",
        ".git...",
        ".git . .",
        "git~1.",
        "git~1 ",
        ".git::$INDEX_ALLOCATION",
        ".git...:stream",
        ".git:x",
        "git~1:x",
        ".git\\x",
        ".git\\",
        "git~1\\x",
        ".\\.GIT\\x",
        "a\\.git",
        "\\.git",
        "a\\b\\git~1",
        ".g\u{200c}it",
        "\u{200d}.git",
        ".git\u{200e}",
        ".\u{200f}git",
        ".g\u{202a}it",
        ".gi\u{202e}T",
        ".\u{206a}g\u{206f}it",
        "\u{feff}.git",
        ".git\u{feff}",
    ];
    for mode in [mode::FILE, mode::TREE, mode::SYMLINK] {
        all_refuse(&names, mode, PathError::DotGit);
    }
    all_refuse(&[".git"], mode::GITLINK, PathError::DotGit);
    for name in names {
        for path in [name.to_owned(), format!("a/{name}"), format!("{name}/a"), format!("a/{name}/b")] {
            assert_eq!(check_existing(path.as_bytes()), Err(PathError::DotGit), "{path:?}");
            assert!(check_new_name(path.as_bytes(), mode::FILE).is_err(), "{path:?}");
        }
    }
    assert_eq!(check_existing(b".git\xff"), Err(PathError::DotGit), "git's decoder stops at a malformed byte");
    for name in [
        ".gitx",
        "git",
        "git~2",
        "git~10",
        ".gi",
        ".git_",
        "x.git",
        ".git-",
        "\u{2010}.git",
        ".g\u{131}t",
        "git~1x",
        ".gitkeep",
    ] {
        assert_eq!(verdicts(name.as_bytes(), mode::FILE), [CARRIED; 3], "{name:?}");
    }
}

#[test]
fn symlinked_gitmodules() {
    let names = [
        ".gitmodules",
        ".GITMODULES",
        ".gitmodules ",
        ".gitmodules:x",
        "gitmod~1",
        "GITMOD~4",
        "gi7eba~1",
        "GI7EBA~9",
        "gi7eb~10",
        "gi7~1234",
        ".git\u{200c}modules",
        "a\\.gitmodules",
    ];
    all_refuse(&names, mode::SYMLINK, PathError::SymlinkedGitFile);
    for name in ["gitmod~5", "gi7eba~0", "gi7eba~1x", "gi7ebb~1", ".gitmodulesx", "gi7eba"] {
        assert_eq!(verdicts(name.as_bytes(), mode::SYMLINK), [CARRIED; 3], "{name:?}");
    }
    for mode in [mode::FILE, mode::EXECUTABLE] {
        assert_eq!(verdicts(b".gitmodules", mode), [CARRIED; 3]);
    }
}

#[test]
fn gitmodules_that_is_no_file() {
    let error = Err(PathError::GitmodulesNotFile);
    assert_eq!(verdicts(b".gitmodules", mode::TREE), [error, error, Ok(Flags::GITMODULES)]);
    assert_eq!(verdicts(b".gitmodules", mode::GITLINK)[1..], [error, Ok(Flags::GITMODULES)]);
    assert_eq!(check_new_name(b".gitmodules/x", mode::FILE), error.map(drop));
}

#[test]
fn other_symlinked_files_that_git_reads() {
    let names = [
        ".gitattributes",
        "gitatt~1",
        "gi7d29~1",
        ".gitignore",
        ".GITIGNORE",
        "gitign~2",
        "gi250a~1",
        ".mailmap",
        "mailma~1",
        "maba30~3",
        ".mail\u{200c}map",
    ];
    only_edits_refuse(&names, mode::SYMLINK, PathError::SymlinkedGitFile);
    for name in [".gitattributes", ".gitignore", ".mailmap"] {
        assert_eq!(verdicts(name.as_bytes(), mode::FILE), [CARRIED; 3]);
    }
}

#[test]
fn what_windows_cannot_have() {
    only_edits_refuse(&["a\\b", "\\"], mode::FILE, PathError::Backslash);
    only_edits_refuse(
        &["C:", "C:x", "a:b", "<", "a>", "\"", "a?", "*", "a|b"],
        mode::FILE,
        PathError::WindowsCharacter,
    );
    let devices = [
        "CON",
        "con",
        "Prn",
        "AUX",
        "nul",
        "NUL.txt",
        "nul.tar.gz",
        "CONIN$",
        "conout$",
        "COM1",
        "com9.x",
        "LPT1",
        "lpt9",
        "COM¹",
        "LPT³.x",
        "con .txt",
        "aux.",
    ];
    only_edits_refuse(&devices, mode::FILE, PathError::WindowsDevice);
    only_edits_refuse(&["a.", "a ", "a. .", "..."], mode::FILE, PathError::TrailingDotOrSpace);
    for name in ["CONX", "COM", "COM10", "console", "nul_", " a", ".a", "a b", "a.b", "a~1", "#", "&", "ünï"] {
        assert_eq!(verdicts(name.as_bytes(), mode::FILE), [CARRIED; 3], "{name:?}");
    }
}

#[test]
fn control_characters() {
    let flagged = Ok(Flags::CONTROL_CHARACTER);
    for byte in (1..0x20).chain([0x7f]) {
        let name = [b'a', byte, b'b'];
        assert_eq!(verdicts(&name, mode::FILE), [Err(PathError::ControlCharacter), flagged, flagged], "{name:?}");
    }
}

#[test]
fn bytes_that_are_not_utf8() {
    for name in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"] {
        assert_eq!(verdicts(name, mode::FILE), [Err(PathError::NotUtf8), CARRIED, CARRIED], "{name:?}");
    }
}

#[test]
fn lengths() {
    let component = |length: usize| "x".repeat(length);
    assert_eq!(check_new_name(component(255).as_bytes(), mode::FILE), Ok(()));
    assert_eq!(check_new_name(component(256).as_bytes(), mode::FILE), Err(PathError::ComponentTooLong));
    assert_eq!(
        check_new_name("é".repeat(128).as_bytes(), mode::FILE),
        Err(PathError::ComponentTooLong),
        "bytes, not characters"
    );
    let name_too_long = Err(PathError::NameTooLong);
    assert_eq!(verdicts(component(4096).as_bytes(), mode::FILE)[1..], [CARRIED; 2]);
    assert_eq!(verdicts(component(4097).as_bytes(), mode::FILE)[1..], [name_too_long; 2]);
    assert_eq!(check_new_name(vec!["x"; 128].join("/").as_bytes(), mode::FILE), Ok(()));
    assert_eq!(check_new_name(vec!["x"; 129].join("/").as_bytes(), mode::FILE), Err(PathError::TooDeep));
    let long = vec![component(255); 16].join("/");
    assert_eq!(long.len(), 4095);
    assert_eq!(check_new_name(long.as_bytes(), mode::FILE), Ok(()));
    assert_eq!(check_new_name(format!("a/{long}").as_bytes(), mode::FILE), Err(PathError::TooLong));
    assert_eq!(check_existing(format!("a/{long}").as_bytes()), Ok(()), "what is there stays editable");
}

#[test]
fn modes() {
    let refused = Err(PathError::Mode);
    for mode in [mode::FILE, mode::EXECUTABLE, mode::SYMLINK, mode::TREE] {
        assert_eq!(verdicts(b"a", mode), [CARRIED; 3]);
    }
    assert_eq!(verdicts(b"a", mode::GITLINK), [refused, CARRIED, CARRIED]);
    assert_eq!(verdicts(b"a", mode::GROUP_WRITABLE), [refused, refused, Ok(Flags::ODD_MODE)]);
    for mode in [0, 0o644, 0o100600, 0o120777, 0o100777, 0o170000, 0o40755] {
        assert_eq!(verdicts(b"a", mode), [refused; 3], "{mode:o}");
    }
    for (mode, expected) in [
        (mode::FILE, true),
        (mode::EXECUTABLE, true),
        (mode::SYMLINK, true),
        (mode::TREE, false),
        (mode::GITLINK, false),
    ] {
        assert_eq!(check_new_name(b"a/b", mode).is_ok(), expected, "{mode:o}");
    }
}

#[test]
fn targets_of_symlinks() {
    let verdict = |path: &str, target: &str| check_symlink_target(path.as_bytes(), target.as_bytes());
    for (path, target) in [
        ("l", "a"),
        ("l", "a/b"),
        ("l", "./a"),
        ("l", "a/../b"),
        ("a/l", "../b"),
        ("a/b/l", "../../c"),
        ("l", "a/"),
        ("a/l", ".."),
    ] {
        assert_eq!(verdict(path, target), Ok(()), "{path} -> {target}");
    }
    for (path, target) in [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("l", "../a"),
        ("a/l", "../../b"),
        ("l", "a/../../b"),
        ("l", "C:/x"),
        ("l", "./.."),
    ] {
        assert_eq!(verdict(path, target), Err(PathError::TargetOutside), "{path} -> {target}");
    }
    for target in [".git", ".git/hooks", "a/.GIT/x", "git~1", "a\\b", "a\0"] {
        assert_eq!(verdict("l", target), Err(PathError::TargetForbidden), "{target:?}");
    }
    assert_eq!(verdict("l", ""), Err(PathError::TargetEmpty));
    assert_eq!(verdict("l", &"x".repeat(4097)), Err(PathError::TargetTooLong));
}

fn oid(byte: u8) -> ObjectId {
    ObjectId::from_bytes_or_panic(&[byte; 20])
}

fn tree_verdict(content: &[u8], policy: Policy) -> Result<Flags, &'static str> {
    let checked = fsck::check(Kind::Tree, &hash(Kind::Tree, content).unwrap(), content, policy);
    checked.map(|checked| checked.flags).map_err(|error| error.fault.id())
}

fn tree_of(entries: &[(u32, &str, ObjectId)]) -> Vec<u8> {
    encode_tree(entries.iter().map(|&(mode, name, oid)| TreeEntry { mode, name: name.into(), oid })).unwrap()
}

fn raw(entries: &[(&str, &str)]) -> Vec<u8> {
    entries.iter().flat_map(|(mode, name)| [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &[7; 20]].concat()).collect()
}

#[test]
fn siblings_that_look_alike_are_flagged() {
    for (one, two, flags) in [
        ("README", "readme", Flags::CASE_FOLD_DUPLICATE),
        ("é", "É", Flags::CASE_FOLD_DUPLICATE),
        ("e\u{301}", "é", Flags::NORMALIZATION_DUPLICATE),
        ("a", "b", Flags::NONE),
    ] {
        let tree = tree_of(&[(mode::FILE, one, oid(1)), (mode::FILE, two, oid(1))]);
        for policy in [Policy::Push, Policy::Import] {
            assert_eq!(tree_verdict(&tree, policy), Ok(flags), "{one} {two}");
        }
    }
}

#[test]
fn order_and_duplicates() {
    for (tree, fault) in [
        (raw(&[("100644", "b"), ("100644", "a")]), "treeNotSorted"),
        (raw(&[("40000", "a"), ("100644", "a.c")]), "treeNotSorted"),
        (raw(&[("100644", "a"), ("100644", "a")]), "duplicateEntries"),
        (raw(&[("100644", "a"), ("40000", "a")]), "duplicateEntries"),
        (raw(&[("40000", "a"), ("100644", "a")]), "duplicateEntries"),
        (raw(&[("100644", "a"), ("100644", "a.c"), ("40000", "a")]), "duplicateEntries"),
        (
            raw(&[("100644", "a"), ("100644", "a-"), ("100644", "a.c"), ("40000", "a"), ("100644", "a0")]),
            "duplicateEntries",
        ),
        (raw(&[("100644", "")]), "badTree"),
    ] {
        for policy in [Policy::Write, Policy::Push, Policy::Import] {
            assert_eq!(tree_verdict(&tree, policy), Err(fault), "{policy:?}");
        }
    }
    let sorted = raw(&[("100644", "a.c"), ("40000", "a"), ("100644", "a0")]);
    assert_eq!(tree_verdict(&sorted, Policy::Write), Ok(Flags::NONE));
}

#[test]
fn odd_trees_are_for_imports() {
    let padded = raw(&[("0100644", "a"), ("040000", "b")]);
    assert_eq!(tree_verdict(&padded, Policy::Push), Ok(Flags::ODD_MODE));
    assert_eq!(tree_verdict(&padded, Policy::Import), Ok(Flags::ODD_MODE));
    let writable = raw(&[("100664", "a")]);
    assert_eq!(tree_verdict(&writable, Policy::Push), Err("badFilemode"));
    assert_eq!(tree_verdict(&writable, Policy::Import), Ok(Flags::ODD_MODE));
    let null = tree_of(&[(mode::FILE, "a", oid(0))]);
    assert_eq!(tree_verdict(&null, Policy::Write), Err("nullSha1"));
    assert_eq!(tree_verdict(&null, Policy::Push), Err("nullSha1"));
    assert_eq!(tree_verdict(&null, Policy::Import), Ok(Flags::EMPTY_ENTRY));
    let empty = tree_of(&[(mode::TREE, "a", hash(Kind::Tree, b"").unwrap())]);
    assert_eq!(tree_verdict(&empty, Policy::Import), Ok(Flags::EMPTY_ENTRY));
    assert_eq!(tree_verdict(&empty, Policy::Write), Err("emptySubtree"));
}

#[test]
fn files_that_git_reads_are_told_to_the_caller() {
    let tree = tree_of(&[
        (mode::FILE, ".gitattributes", oid(1)),
        (mode::FILE, ".gitmodules", oid(2)),
        (mode::FILE, "a", oid(3)),
        (mode::FILE, "gi7eba~1", oid(4)),
    ]);
    let checked = fsck::check(Kind::Tree, &oid(9), &tree, Policy::Push).unwrap();
    let expected =
        [(fsck::GitFile::Attributes, oid(1)), (fsck::GitFile::Modules, oid(2)), (fsck::GitFile::Modules, oid(4))];
    assert_eq!(checked.git_files, expected);
}
