//! Our answers against those of `git upload-pack` and `git receive-pack`, byte for byte.

use std::collections::HashSet;

use treehold_object::{ByteSlice, ObjectId};
use treehold_wire::pktline::{self, PacketSlice};
use treehold_wire::serve::{
    AdvertisedRef, Command, FetchStep, LsRefsRequest, MultiAck, ObjectInfoRequest, Protocol, RequestEnd, RequestLimits,
    parse_request, parse_upload_request, receive_pack, upload_pack, write_acknowledgments, write_packfile_head,
    write_shallow_info,
};

use crate::git::{Numbers, Repo, history, seed};

const UPLOAD: [&str; 2] = ["upload-pack", "--stateless-rpc"];
/// What a server of ours can do and git's does not by default.
const CONFIG: [&str; 3] =
    ["uploadpack.allowReachableSHA1InWant=true", "uploadpack.allowFilter=true", "transfer.advertiseObjectInfo=true"];
const LIMITS: fn() -> RequestLimits = RequestLimits::default;

fn oid(hex: &str) -> ObjectId {
    ObjectId::from_hex(hex.as_bytes()).unwrap()
}

/// `HEAD` and all refs as git has them.
pub fn refs(repo: &Repo) -> Vec<AdvertisedRef> {
    let text = repo.git(&["for-each-ref", "--format=%(objectname) %(refname) %(*objectname)"]);
    let mut refs = Vec::new();
    if let Some(head) = repo.try_git(&["rev-parse", "-q", "--verify", "HEAD"], b"").stdout.strip_suffix(b"\n") {
        let symref_target = Some(repo.git(&["symbolic-ref", "HEAD"]).into());
        refs.push(AdvertisedRef {
            name: "HEAD".into(),
            oid: ObjectId::from_hex(head).unwrap(),
            peeled: None,
            symref_target,
        });
    }
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        // Asked by name, since before 2.45 git peels one level only here.
        let peeled = words.get(2).is_some_and(|hex| !hex.is_empty()).then(|| repo.oid(&format!("{}^{{}}", words[1])));
        refs.push(AdvertisedRef { name: words[1].into(), oid: oid(words[0]), peeled, symref_target: None });
    }
    refs
}

fn message(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        match *line {
            "" => out.extend_from_slice(pktline::FLUSH),
            "|" => out.extend_from_slice(pktline::DELIM),
            line => pktline::write_line(&mut out, &[line.as_bytes()]).unwrap(),
        }
    }
    out
}

#[test]
fn advertisements_equal_gits() {
    let full = history(12, seed(41));
    let shallow = Repo::bare();
    shallow.git(&["fetch", "-q", "--depth=2", full.path().to_str().unwrap(), "refs/heads/main:refs/heads/main"]);
    let boundary = oid(&shallow.git(&["rev-list", "--max-parents=0", "main"]));
    let agent = String::from_utf8(full.git_with(&["version"], b"")).unwrap();
    let agent = format!("git/{}", agent.trim().trim_start_matches("git version "));
    for (repo, boundary) in [(&full, vec![]), (&Repo::bare(), vec![]), (&shallow, vec![boundary])] {
        let refs = refs(repo);
        for (version, protocol) in [(0, Protocol::V0), (1, Protocol::V1), (2, Protocol::V2)] {
            let by_git = repo.serve_with(&CONFIG, ["upload-pack", "--http-backend-info-refs"], version, b"").stdout;
            // Newer versions of git say which information they have.
            let by_git = by_git.replace(b"0010object-info\n", b"0015object-info=size\n");
            let ours = upload_pack(protocol, &refs, &boundary, &agent).unwrap();
            let (head, ours) = ours.split_at(30 + 4);
            assert_eq!(head.as_bstr(), "001e# service=git-upload-pack\n0000");
            assert_eq!(ours.as_bstr(), by_git.as_bstr(), "upload-pack, version {version}");

            for push_options in [false, true] {
                let config = format!("receive.advertisePushOptions={push_options}");
                let service = ["receive-pack", "--http-backend-info-refs"];
                let by_git = repo.serve_with(&[&config], service, version, b"").stdout;
                let ours = receive_pack(protocol, &refs, &boundary, &agent, push_options).unwrap();
                let (head, ours) = ours.split_at(31 + 4);
                assert_eq!(head.as_bstr(), "001f# service=git-receive-pack\n0000");
                assert_eq!(ours.as_bstr(), by_git.as_bstr(), "receive-pack, version {version}");
            }
        }
    }
}

#[test]
fn ls_refs_answers_equal_gits() {
    let repo = history(12, seed(42));
    let refs = refs(&repo);
    for arguments in [
        &[][..],
        &["peel", "symrefs", "unborn"],
        &["symrefs", "ref-prefix HEAD"],
        &["peel", "ref-prefix refs/tags/", "ref-prefix refs/tags/v5", "ref-prefix refs/heads/side"],
        &["peel", "ref-prefix refs/nothing"],
        &["ref-prefix "],
    ] {
        let body = message(&[&["command=ls-refs", "agent=x", "object-format=sha1", "|"], arguments, &[""]].concat());
        for (repo, refs, unborn) in [(&repo, &refs[..], None), (&Repo::bare(), &[], Some(&b"refs/heads/main"[..]))] {
            let request = parse_request(&body, &LIMITS()).unwrap().unwrap();
            let Command::LsRefs(request) = request.command else { panic!("{request:?}") };
            let mut ours = Vec::new();
            request.write_answer(&mut ours, unborn, refs).unwrap();
            let by_git = repo.serve("upload-pack", &body).stdout;
            assert_eq!(ours.as_bstr(), by_git.as_bstr(), "{arguments:?}");
        }
    }
    // 65,536 prefixes are as good as none.
    let mut body = message(&["command=ls-refs", "|"]);
    for n in 0..65_536 {
        pktline::write_line(&mut body, &[format!("ref-prefix refs/nothing/{n}").as_bytes()]).unwrap();
    }
    body.extend_from_slice(pktline::FLUSH);
    let request = parse_request(&body, &LIMITS()).unwrap().unwrap();
    assert_eq!(request.command, Command::LsRefs(LsRefsRequest::default()));
    // One line more: the flush packet.
    assert_eq!(repo.serve("upload-pack", &body).stdout.lines().count(), refs.len() + 1);
}

#[test]
fn object_info_answers_equal_gits() {
    let repo = history(3, seed(43));
    let (blob, commit) = (repo.oid("HEAD:dir0/sub0/file0.txt"), repo.oid("HEAD"));
    let lines = [
        "command=object-info",
        "|",
        "size",
        &format!("oid {blob}"),
        &format!("oid {commit}"),
        &format!("oid {}", "1".repeat(40)),
        "",
    ];
    let body = message(&lines);
    let request = parse_request(&body, &LIMITS()).unwrap().unwrap();
    let Command::ObjectInfo(request) = request.command else { panic!("{request:?}") };
    assert_eq!((request.size, request.oids.len()), (true, 3));
    let size_of = |oid: &ObjectId| {
        let output = repo.try_git(&["cat-file", "-s", &oid.to_string()], b"");
        String::from_utf8(output.stdout).unwrap().trim().parse().ok()
    };
    let mut ours = Vec::new();
    request.write_answer(&mut ours, size_of).unwrap();
    assert_eq!(ours.as_bstr(), repo.serve_with(&CONFIG, UPLOAD, 2, &body).stdout.as_bstr());

    let nothing = message(&["command=object-info", "|", "size", ""]);
    ours.clear();
    ObjectInfoRequest { size: true, oids: vec![] }.write_answer(&mut ours, |_| None).unwrap();
    assert_eq!(ours.as_bstr(), repo.serve_with(&CONFIG, UPLOAD, 2, &nothing).stdout.as_bstr());
}

/// A repository, and what git's negotiation depends on.
struct Graph {
    repo: Repo,
    /// Commits that it has, and oids that it does not.
    pool: Vec<ObjectId>,
    known: HashSet<ObjectId>,
    tips: Vec<ObjectId>,
}

impl Graph {
    fn new(seed: u64) -> Self {
        let repo = history(14, seed);
        repo.git(&["checkout", "-q", "--orphan", "other"]);
        repo.git(&["rm", "-q", "-r", "-f", "--cached", "."]);
        repo.git(&["commit", "-q", "--allow-empty", "-m", "other root"]);
        repo.git(&["commit", "-q", "--allow-empty", "-m", "other tip"]);
        let known: HashSet<ObjectId> = repo.git(&["rev-list", "--all"]).lines().map(oid).collect();
        let mut pool: Vec<ObjectId> = known.iter().copied().collect();
        pool.sort();
        pool.extend((0..pool.len() as u8).map(|n| ObjectId::Sha1([n ^ 0xa5; 20])));
        let tips = ["main", "other", "main~3"].map(|name| repo.oid(name)).to_vec();
        Self { repo, pool, known, tips }
    }

    fn parents(&self, commit: &ObjectId) -> Vec<ObjectId> {
        self.repo.git(&["rev-parse", &format!("{commit}^@")]).lines().map(oid).collect()
    }

    /// Distinct haves, none the parent of one before: git skips those in places.
    fn haves(&self, numbers: &mut Numbers) -> Vec<ObjectId> {
        let (mut haves, mut skipped) = (Vec::new(), HashSet::new());
        for _ in 0..numbers.next(6) {
            let have = self.pool[numbers.next(self.pool.len())];
            if skipped.insert(have) {
                haves.push(have);
                if self.known.contains(&have) {
                    skipped.extend(self.parents(&have));
                }
            }
        }
        haves
    }

    /// The first of `haves` with which each want reaches a common commit, or a parent of one.
    fn enough_at(&self, wants: &[ObjectId], haves: &[ObjectId]) -> Option<usize> {
        let reached = |want: &ObjectId| -> HashSet<ObjectId> {
            self.repo.git(&["rev-list", &want.to_string()]).lines().map(oid).collect()
        };
        let mut open: Vec<HashSet<ObjectId>> = wants.iter().map(reached).collect();
        for (at, have) in haves.iter().enumerate().filter(|(_, have)| self.known.contains(*have)) {
            let mut marks = self.parents(have);
            marks.push(*have);
            open.retain(|reached| !marks.iter().any(|mark| reached.contains(mark)));
            if open.is_empty() {
                return Some(at);
            }
        }
        None
    }
}

#[test]
fn negotiation_before_v2_equals_gits() {
    let graph = Graph::new(seed(44));
    let mut numbers = Numbers(seed(45));
    let mut with_pack = 0;
    for round in 0..240 {
        let (mode, words) = [
            (MultiAck::None, "ofs-delta"),
            (MultiAck::Basic, "multi_ack ofs-delta"),
            (MultiAck::Detailed, "multi_ack_detailed ofs-delta"),
            (MultiAck::Detailed, "multi_ack_detailed no-done agent=git/2.47.3"),
        ][round % 4];
        let wants: Vec<ObjectId> = (0..1 + numbers.next(2)).map(|_| graph.tips[numbers.next(3)]).collect();
        let haves = graph.haves(&mut numbers);
        let end = [RequestEnd::Flush, RequestEnd::Flush, RequestEnd::Done, RequestEnd::Wants][numbers.next(4)];
        let mut lines = vec![format!("want {} {words}", wants[0])];
        lines.extend(wants[1..].iter().map(|want| format!("want {want}")));
        lines.push(String::new());
        if end != RequestEnd::Wants {
            lines.extend(haves.iter().map(|have| format!("have {have}")));
            lines.push(if end == RequestEnd::Done { "done".to_owned() } else { String::new() });
        }
        let body = message(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let request = parse_upload_request(&body, &LIMITS()).unwrap();
        assert_eq!((request.capabilities.multi_ack, request.end), (mode, end));
        let mut ours = Vec::new();
        let enough_at = graph.enough_at(&request.arguments.wants, &request.arguments.haves);
        let pack = request.negotiate(&mut ours, |oid| graph.known.contains(oid), enough_at).unwrap();
        let by_git = graph.repo.serve_with(&CONFIG, UPLOAD, 0, &body).stdout;
        let rest = by_git.strip_prefix(&ours[..]).unwrap_or_else(|| {
            panic!(
                "{mode:?} {lines:#?}\nours: {}\ngit's: {}",
                ours.as_bstr(),
                by_git[..by_git.len().min(400)].as_bstr()
            )
        });
        assert_eq!((pack, pack), (rest.starts_with(b"PACK"), !rest.is_empty()), "{mode:?} {lines:#?}");
        with_pack += usize::from(pack);
    }
    assert!((60..200).contains(&with_pack), "{with_pack}");
}

#[test]
fn acknowledgments_of_v2_equal_gits() {
    let graph = Graph::new(seed(46));
    let mut numbers = Numbers(seed(47));
    for _ in 0..60 {
        let (want, haves) = (graph.tips[numbers.next(3)], graph.haves(&mut numbers));
        let (done, wait) = (numbers.next(4) == 0, numbers.next(3) == 0);
        let mut lines =
            vec!["command=fetch".to_owned(), "|".to_owned(), format!("want {want}"), "ofs-delta".to_owned()];
        lines.extend(haves.iter().map(|have| format!("have {have}")));
        lines.extend(wait.then(|| "wait-for-done".to_owned()));
        lines.extend(done.then(|| "done".to_owned()));
        lines.push(String::new());
        let body = message(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let request = parse_request(&body, &LIMITS()).unwrap().unwrap();
        let Command::Fetch(request) = request.command else { panic!("{request:?}") };
        let mut ours = Vec::new();
        let ready = match request.step() {
            FetchStep::Nothing => panic!("{request:?}"),
            FetchStep::Pack => true,
            FetchStep::Acknowledge => {
                let common: Vec<_> = request.haves.iter().copied().filter(|oid| graph.known.contains(oid)).collect();
                let ready = !wait && graph.enough_at(&request.wants, &request.haves).is_some();
                write_acknowledgments(&mut ours, &common, ready).unwrap();
                ready
            }
        };
        if ready {
            write_packfile_head(&mut ours).unwrap();
        }
        let by_git = graph.repo.serve_with(&CONFIG, UPLOAD, 2, &body).stdout;
        let rest = by_git.strip_prefix(&ours[..]);
        assert_eq!(rest.map(|rest| !rest.is_empty()), Some(ready), "{lines:#?} {}", ours.as_bstr());
    }
}

#[test]
fn boundaries_of_history_equal_gits() {
    let repo = history(14, seed(48));
    let tip = repo.oid("main");
    // A client that has two commits and wants five.
    let client: Vec<ObjectId> = repo.git(&["rev-parse", "main~1"]).lines().map(oid).collect();
    let lines =
        ["command=fetch", "|", &format!("want {tip}"), &format!("shallow {}", client[0]), "deepen 5", "done", ""];
    let body = message(&lines);
    let by_git = repo.serve_with(&CONFIG, UPLOAD, 2, &body).stdout;
    let (shallow, unshallow) = boundary(&by_git);
    assert!(!shallow.is_empty() && unshallow == client);
    let request = parse_request(&body, &LIMITS()).unwrap().unwrap();
    let Command::Fetch(request) = request.command else { panic!("{request:?}") };
    assert!(request.expects_shallow_info() && request.step() == FetchStep::Pack);
    let mut ours = Vec::new();
    write_shallow_info(&mut ours, &shallow, &unshallow).unwrap();
    write_packfile_head(&mut ours).unwrap();
    assert!(by_git.starts_with(&ours));

    for (end, rest) in [(RequestEnd::Wants, &[][..]), (RequestEnd::Done, &["done"])] {
        let want = format!("want {tip} multi_ack_detailed side-band-64k");
        let shallow_line = format!("shallow {}", client[0]);
        let lines = [&[&want, &shallow_line, "deepen 5", ""][..], rest].concat();
        let body = message(&lines);
        let by_git = repo.serve_with(&CONFIG, UPLOAD, 0, &body).stdout;
        let request = parse_upload_request(&body, &LIMITS()).unwrap();
        assert!(request.end == end && request.expects_boundary());
        let mut ours = Vec::new();
        request.write_boundary(&mut ours, &shallow, &unshallow).unwrap();
        if request.negotiate(&mut ours, |_| false, None).unwrap() {
            assert!(by_git.starts_with(&ours) && by_git.len() > ours.len());
        } else {
            assert_eq!(ours.as_bstr(), by_git.as_bstr());
        }
    }
}

/// What an answer says of the boundary.
fn boundary(answer: &[u8]) -> (Vec<ObjectId>, Vec<ObjectId>) {
    let (mut rest, mut shallow, mut unshallow) = (answer, Vec::new(), Vec::new());
    while let Some(PacketSlice::Data(line)) = pktline::take(&mut rest).unwrap() {
        if let Some(hex) = line.strip_prefix(b"shallow ") {
            shallow.push(ObjectId::from_hex(hex).unwrap());
        } else if let Some(hex) = line.strip_prefix(b"unshallow ") {
            unshallow.push(ObjectId::from_hex(hex).unwrap());
        }
    }
    (shallow, unshallow)
}

#[test]
fn what_git_refuses_is_refused() {
    let repo = history(2, seed(49));
    let tip = repo.oid("main");
    let want = format!("want {tip}");
    for lines in [
        &["command=push", ""][..],
        &["command=ls-refs", "command=fetch", ""],
        &["command=ls-refs=x", ""],
        &["agent=x", ""],
        &["command=ls-refs", "nonsense", ""],
        &["command=ls-refs", "object-format=sha256", ""],
        &["command=ls-refs", "|", "nonsense", ""],
        &["command=ls-refs", "|", "peel", "|"],
        &["command=ls-refs", "|", "peel"],
        &["command=fetch", "|", &want, "sideband-all", ""],
        &["command=fetch", "|", "want-ref refs/heads/main", ""],
        &["command=fetch", "|", &want, "deepen 0", ""],
        &["command=fetch", "|", &want, "deepen -1", ""],
        &["command=fetch", "|", &want, "deepen 1", "deepen-since 1", "done", ""],
        &["command=fetch", "|", &want, "filter blob:nonsense", ""],
        &["command=fetch", "|", &want, "filter blob:none", "filter blob:none", ""],
        &["command=fetch", "|", "want main", ""],
    ] {
        let body = message(lines);
        assert!(parse_request(&body, &LIMITS()).is_err(), "{lines:?}");
        let output = repo.serve_with(&CONFIG, UPLOAD, 2, &body);
        assert!(!output.status.success(), "{lines:?}");
    }
    let filter = format!("want {tip} filter");
    for lines in [
        &["want main", ""][..],
        &[&want, "filter blob:none", ""],
        &[&filter, "filter blob:nonsense", ""],
        &[&want, "deepen x", ""],
        &[&want, "", "nonsense", ""],
        &[&want, "", "have main", "done"],
        &[&want],
        &[&want, "", "have 1111111111111111111111111111111111111111"],
    ] {
        let body = message(lines);
        assert!(parse_upload_request(&body, &LIMITS()).is_err(), "{lines:?}");
        assert!(!repo.serve_with(&CONFIG, UPLOAD, 0, &body).status.success(), "{lines:?}");
    }
    // Nothing, and a flush packet alone, are no requests.
    assert_eq!((parse_request(b"", &LIMITS()), parse_request(b"0000", &LIMITS())), (Ok(None), Ok(None)));
    assert!(parse_upload_request(b"0000", &LIMITS()).unwrap().arguments.wants.is_empty());
    for version in [0, 2] {
        assert!(repo.serve_with(&CONFIG, UPLOAD, version, b"0000").stdout.is_empty());
    }
}
