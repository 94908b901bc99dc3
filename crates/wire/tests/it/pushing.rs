//! Our pushes against `git receive-pack --stateless-rpc`.

use treehold_object::{Kind, ObjectId};
use treehold_wire::push::{
    Command, PackOptions, PushCapabilities, PushObject, PushOutcome, PushPack, PushReport, ReportReader, empty_pack,
    head,
};

use crate::git::{Repo, history, seed};

/// An object and what it is an edit of.
struct Edit {
    oid: ObjectId,
    kind: Kind,
    content: Vec<u8>,
    base: Option<(ObjectId, Vec<u8>)>,
}

fn pack(edits: &[Edit], options: PackOptions) -> (Vec<u8>, treehold_wire::push::PackSummary) {
    let mut pack = PushPack::new(Vec::new(), edits.len() as u32, options).unwrap();
    for Edit { oid, kind, content, base } in edits {
        let base = base.as_ref().map(|(oid, content)| (*oid, content.as_slice()));
        pack.add(&PushObject { oid: *oid, kind: *kind, content, base }).unwrap();
    }
    let (bytes, summary) = pack.finish().unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    (bytes, summary)
}

fn push(repo: &Repo, commands: &[Command], pack: &[u8]) -> PushReport {
    let capabilities = PushCapabilities::choose(None, "treehold/test");
    let mut body = head(commands, &capabilities).unwrap();
    body.extend_from_slice(pack);
    let output = repo.serve("receive-pack", &body);
    let mut reader = ReportReader::new(capabilities.side_band());
    output.stdout.chunks(17).for_each(|chunk| reader.push(chunk));
    reader.finish()
}

fn command(old: Option<ObjectId>, new: Option<ObjectId>, name: &str) -> Command {
    Command { old, new, name: name.into() }
}

fn outcome(report: &PushReport, name: &str) -> PushOutcome {
    report.outcome(name.as_bytes(), None)
}

const OK: PushOutcome = PushOutcome::Ok { rewritten: None };

/// The objects of `new` that `old` lacks, each with the previous version at its path.
fn edits(source: &Repo, old: &str, new: &str) -> Vec<Edit> {
    let list = source.git(&["rev-list", "--objects", new, &format!("^{old}")]);
    let edit = |line: &str| {
        let (hex, path) = line.split_once(' ').unwrap_or((line, ""));
        let kind = Kind::from_bytes(source.git(&["cat-file", "-t", hex]).as_bytes()).unwrap();
        let oid = ObjectId::from_hex(hex.as_bytes()).unwrap();
        let previous = source.try_git(&["rev-parse", "-q", "--verify", &format!("{old}:{path}")], b"");
        let previous = previous.status.success().then(|| String::from_utf8(previous.stdout).unwrap());
        let base = previous
            .filter(|_| kind != Kind::Commit)
            .map(|hex| ObjectId::from_hex(hex.trim().as_bytes()).unwrap())
            .filter(|base| source.git(&["cat-file", "-t", &base.to_string()]) == kind.to_string())
            .map(|base| (base, source.content(kind, &base)));
        Edit { oid, kind, content: source.content(kind, &oid), base }
    };
    list.lines().map(edit).collect()
}

/// A bare repository that has `source`'s `main~<back>` as its `main`.
fn remote_of(source: &Repo, back: usize) -> Repo {
    let remote = Repo::bare();
    let url = source.path().to_str().unwrap().to_owned();
    remote.git(&["fetch", "-q", &url, &format!("+{}:refs/heads/main", source.oid(&format!("main~{back}")))]);
    remote.git(&["config", "receive.fsckObjects", "true"]);
    remote
}

fn fsck(repo: &Repo) {
    repo.git(&["fsck", "--strict", "--full"]);
}

#[test]
fn pushes_with_and_without_deltas_are_stored_by_git() {
    let source = history(25, seed(31));
    source.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let (old, new) = (source.oid("main~6"), source.oid("main"));
    let edits = edits(&source, "main~6", "main");
    let mut sizes = Vec::new();
    for (ofs_delta, thin, bases) in [(true, true, true), (false, true, true), (true, false, true), (true, true, false)]
    {
        let remote = remote_of(&source, 6);
        let mut edits: Vec<Edit> = edits
            .iter()
            .map(|e| Edit { oid: e.oid, kind: e.kind, content: e.content.clone(), base: e.base.clone() })
            .collect();
        if !bases {
            edits.iter_mut().for_each(|edit| edit.base = None);
        }
        let (bytes, summary) = pack(&edits, PackOptions { ofs_delta, thin, ..PackOptions::default() });
        let report = push(&remote, &[command(Some(old), Some(new), "refs/heads/main")], &bytes);
        assert_eq!(outcome(&report, "refs/heads/main"), OK, "{report:?}");
        assert_eq!(
            (remote.oid("main"), remote.git(&["rev-list", "--objects", "main"])),
            (new, source.git(&["rev-list", "--objects", "main"]))
        );
        fsck(&remote);
        assert_eq!((summary.thin > 0, summary.deltas > 0), (thin && bases, thin && bases), "{summary:?}");
        sizes.push(bytes.len());
    }
    assert!(sizes[0] * 3 < sizes[3] * 2, "deltas pay: {sizes:?}");
}

#[test]
fn edits_of_objects_in_the_same_pack_become_offset_or_reference_deltas() {
    let text = |round: usize| -> Vec<u8> {
        (0..300)
            .map(
                |line| if line == round { format!("edit {round}\n") } else { format!("line {line} {}\n", line * 7919) },
            )
            .collect::<String>()
            .into_bytes()
    };
    for ofs_delta in [true, false] {
        let remote = Repo::bare();
        let mut edits: Vec<Edit> = Vec::new();
        for round in 0..120 {
            let content = text(round);
            let base = edits.last().map(|edit| (edit.oid, edit.content.clone()));
            edits.push(Edit {
                oid: treehold_object::second_opinion(Kind::Blob, &content),
                kind: Kind::Blob,
                content,
                base,
            });
        }
        let (bytes, summary) = pack(&edits, PackOptions { ofs_delta, thin: false, ..PackOptions::default() });
        assert!(summary.deltas > 100 && summary.deltas < 119 && summary.thin == 0, "chains are cut: {summary:?}");
        remote.git_with(&["index-pack", "--stdin", "--strict"], &bytes);
        let index = format!("{}", remote.pack_file().with_extension("idx").display());
        let deepest = remote.git(&["verify-pack", "-v", &index]);
        assert!(deepest.contains("chain length = 50") && !deepest.contains("chain length = 51"));
        assert_eq!(remote.all_objects().len(), 120);
    }
}

#[test]
fn creating_deleting_and_moving_several_refs() {
    let source = history(5, seed(32));
    let remote = remote_of(&source, 0);
    let (tip, older) = (remote.oid("main"), remote.oid("main~1"));
    let empty = empty_pack().unwrap();
    // A new ref on a known commit needs the empty pack.
    let report = push(&remote, &[command(None, Some(older), "refs/heads/new")], &empty);
    assert_eq!((outcome(&report, "refs/heads/new"), remote.oid("new")), (OK, older));
    // Twice is once too often: the answer to a repeated creation is stale.
    let report = push(&remote, &[command(None, Some(tip), "refs/heads/new")], &empty);
    assert!(matches!(outcome(&report, "refs/heads/new"), PushOutcome::Stale { .. }), "{report:?}");
    assert_eq!(remote.oid("new"), older);
    // All or nothing.
    let both = [command(Some(older), Some(tip), "refs/heads/new"), command(Some(older), Some(tip), "refs/heads/main")];
    let report = push(&remote, &both, &empty);
    for name in ["refs/heads/new", "refs/heads/main"] {
        assert!(matches!(outcome(&report, name), PushOutcome::Stale { .. }), "{report:?}");
    }
    assert_eq!(remote.oid("new"), older);
    // A deletion has no pack.
    let report = push(&remote, &[command(Some(older), None, "refs/heads/new")], b"");
    assert_eq!(outcome(&report, "refs/heads/new"), OK, "{report:?}");
    assert_eq!(remote.git(&["for-each-ref", "--format=%(refname)", "refs/heads"]), "refs/heads/main");
    // A ref in the way of another one is no race.
    let report = push(&remote, &[command(None, Some(tip), "refs/heads/main/sub")], &empty);
    assert!(matches!(outcome(&report, "refs/heads/main/sub"), PushOutcome::Refused { .. }), "{report:?}");
}

#[test]
fn a_stale_push_moves_nothing() {
    let source = history(8, seed(33));
    let remote = remote_of(&source, 1);
    let (bytes, _) = pack(&edits(&source, "main~1", "main"), PackOptions::default());
    let report =
        push(&remote, &[command(Some(source.oid("main~3")), Some(source.oid("main")), "refs/heads/main")], &bytes);
    assert!(matches!(outcome(&report, "refs/heads/main"), PushOutcome::Stale { .. }), "{report:?}");
    assert_eq!(remote.oid("main"), source.oid("main~1"));
}

#[test]
fn hooks_refuse_in_their_own_words() {
    use std::os::unix::fs::PermissionsExt;
    let source = history(8, seed(34));
    for hook in ["pre-receive", "update"] {
        let remote = remote_of(&source, 1);
        let path = remote.path().join("hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "#!/bin/sh\nprintf 'no \\033[31mtabs\\n' >&2\nexit 1\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (bytes, _) = pack(&edits(&source, "main~1", "main"), PackOptions::default());
        let name = "refs/heads/main";
        let report = push(&remote, &[command(Some(remote.oid("main")), Some(source.oid("main")), name)], &bytes);
        match outcome(&report, name) {
            PushOutcome::Hook { message } => {
                assert!(message.contains("hook declined") && message.contains("no \\u{1b}[31mtabs"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(remote.oid("main"), source.oid("main~1"));
    }
}

#[test]
fn packs_that_do_not_arrive_or_do_not_fit_are_told_apart() {
    let source = history(8, seed(35));
    let (name, new) = ("refs/heads/main", source.oid("main"));
    let (thin, summary) = pack(&edits(&source, "main~1", "main"), PackOptions::default());
    assert!(summary.thin > 0);
    // Bases that the remote lacks.
    let remote = Repo::bare();
    let report = push(&remote, &[command(None, Some(new), name)], &thin);
    assert!(matches!(outcome(&report, name), PushOutcome::MissingObjects { .. }), "{report:?}");
    // Whole objects, but not all of them.
    let (whole, _) = pack(&edits(&source, "main~1", "main"), PackOptions { thin: false, ..PackOptions::default() });
    let report = push(&remote, &[command(None, Some(new), name)], &whole);
    assert!(matches!(outcome(&report, name), PushOutcome::MissingObjects { .. }), "{report:?}");
    // A pack cut on the way: nothing happened, or nobody knows, but it is never a success.
    let remote = remote_of(&source, 1);
    for cut in [1, 10, 21, whole.len() / 2, whole.len() - 5] {
        let report = push(&remote, &[command(Some(remote.oid("main")), Some(new), name)], &whole[..whole.len() - cut]);
        let got = outcome(&report, name);
        assert!(matches!(got, PushOutcome::MissingObjects { .. } | PushOutcome::Unknown { .. }), "{got:?}");
        assert_eq!(remote.oid("main"), source.oid("main~1"));
    }
    // More than the remote takes.
    remote.git(&["config", "receive.maxInputSize", "100"]);
    let report = push(&remote, &[command(Some(remote.oid("main")), Some(new), name)], &whole);
    assert!(matches!(outcome(&report, name), PushOutcome::TooLarge { .. }), "{report:?}");
    remote.git(&["config", "receive.maxInputSize", "0"]);
    let report = push(&remote, &[command(Some(remote.oid("main")), Some(new), name)], &whole);
    assert_eq!(outcome(&report, name), OK);
    fsck(&remote);
}
