//! Repositories whose `main` is wrong in one way each: commits, trees, `.gitmodules`.

use std::path::Path;

use treehold_tests::git::Repo;

const GOOD: &str = "A <a@example.org> 1700000000 +0000";
/// The empty tree.
const EMPTY: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// What stands behind `author`.
const AUTHORS: [&str; 19] = [
    "A a@example.org> 1700000000 +0000",
    "A <a@example.org 1700000000 +0000",
    "A<a@example.org> 1700000000 +0000",
    "A <a@example.org>1700000000 +0000",
    "A <a@example.org> 01700000000 +0000",
    "A <a@example.org> 18446744073709551616 +0000",
    "A <a@example.org> 1700000000 +000",
    "A <a@example.org> 1700000000",
    "A <a@example.org>",
    "A > <a@example.org> 1700000000 +0000",
    "A <a<b@example.org> 1700000000 +0000",
    "<a@example.org> 1700000000 +0000",
    "A <a@example.org> never +0000",
    " <> 0 +0000",
    "A <a@example.org> 1700000000 +0000\nauthor B <b@example.org> 1700000000 +0000",
    "A <a\0@example.org> 1700000000 +0000",
    "A <a@example.org> -1 +0000",
    "A <a@example.org> 1700000000 +051800",
    "A <a@example.org> 1700000000 0000",
];

const MODULES: [(&str, &str); 7] = [
    ("url-dash", "[submodule \"a\"]\n\tpath = a\n\turl = -u./x\n"),
    ("path-dash", "[submodule \"a\"]\n\tpath = -x\n\turl = https://example.org/x\n"),
    ("name-dots", "[submodule \"../a\"]\n\tpath = a\n\turl = https://example.org/x\n"),
    ("update", "[submodule \"a\"]\n\tpath = a\n\turl = x\n\tupdate = !id\n"),
    ("url-newline", "[submodule \"a\"]\n\tpath = a\n\turl = \"https://example.org?\\nhost=evil\"\n"),
    ("url-no-host", "[submodule \"a\"]\n\tpath = a\n\turl = http::///example.org\n"),
    ("not-a-config", "[submodule \"a\"\nx\n"),
];

fn head(tree: &str, author: &str) -> String {
    format!("tree {tree}\nauthor {author}\ncommitter {GOOD}\n\nx\n")
}

fn commits() -> Vec<(String, Vec<u8>)> {
    let (tree, good) = (EMPTY, GOOD);
    let authors = AUTHORS.iter().enumerate();
    let mut commits: Vec<_> =
        authors.map(|(at, author)| (format!("author-{at}"), head(tree, author).into_bytes())).collect();
    commits.push(("no-author".into(), format!("tree {tree}\ncommitter {good}\n\nx\n").into_bytes()));
    commits.push(("no-committer".into(), format!("tree {tree}\nauthor {good}\n\nx\n").into_bytes()));
    commits.push(("no-tree".into(), format!("author {good}\ncommitter {good}\n\nx\n").into_bytes()));
    commits.push(("short-tree".into(), head(&tree[1..], good).into_bytes()));
    commits.push((
        "bad-parent".into(),
        format!("tree {tree}\nparent 12\nauthor {good}\ncommitter {good}\n\nx\n").into_bytes(),
    ));
    commits.push(("nul-in-message".into(), [head(tree, good).as_bytes(), b"a\0b\n"].concat()));
    commits.push(("no-end".into(), format!("tree {tree}\nauthor {good}\ncommitter {good}").into_bytes()));
    commits
}

fn trees() -> Vec<(&'static str, Vec<u8>)> {
    let raw: Vec<u8> = (0..20).collect();
    let entry = |mode: &str, name: &str, oid: &[u8]| [format!("{mode} {name}\0").as_bytes(), oid].concat();
    vec![
        ("null-oid", entry("100644", "a", &[0; 20])),
        ("null-link", entry("160000", "a", &[0; 20])),
        ("cut", entry("100644", "a", &raw[..19])),
        ("no-name", entry("100644", "", &raw)),
        ("odd-mode", entry("100666", "a", &raw)),
        ("padded-link", entry("0160000", "a", &raw)),
        ("gitmodules-tree", entry("160000", ".gitmodules", &raw)),
        ("attributes-link", entry("160000", ".gitattributes", &raw)),
        ("slash", entry("160000", "a/b", &raw)),
        ("twice", [entry("160000", "a", &raw), entry("160000", "a", &raw)].concat()),
    ]
}

/// A repository below `dir` whose `main` is the commit that `make` makes, whatever that is.
fn published(dir: &Path, name: &str, make: impl Fn(&Repo) -> String) -> (String, Repo) {
    let repo = Repo::init_bare(dir.join("spoiled").join(name));
    repo.git().run_with(["mktree"], b"");
    let commit = make(&repo);
    std::fs::create_dir_all(repo.path().join("refs/heads")).expect("mkdir");
    std::fs::write(repo.path().join("refs/heads/main"), format!("{commit}\n")).expect("a ref");
    (format!("spoiled/{name}"), repo)
}

/// All of them, made below `dir`, with their names.
pub fn repositories(dir: &Path) -> Vec<(String, Repo)> {
    let commits = commits();
    let commits =
        commits.iter().map(|(name, raw)| published(dir, name, |repo| repo.hash_object_literally("commit", raw)));
    let modules = MODULES.iter().map(|(name, text)| {
        published(dir, name, |repo| {
            let blob = repo.hash_object_literally("blob", text.as_bytes());
            let tree = repo.git().run_with(["mktree"], format!("100644 blob {blob}\t.gitmodules\n").as_bytes());
            repo.hash_object_literally("commit", head(&tree, GOOD).as_bytes())
        })
    });
    let trees = trees();
    let trees = trees.iter().map(|(name, tree)| {
        published(dir, name, |repo| {
            let tree = repo.hash_object_literally("tree", tree);
            repo.hash_object_literally("commit", head(&tree, GOOD).as_bytes())
        })
    });
    commits.chain(modules).chain(trees).collect()
}
