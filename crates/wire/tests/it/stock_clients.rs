//! Stock git as the client: what it sends to us, and what it makes of our answers.

use std::path::PathBuf;

use treehold_object::{BString, ByteSlice, ObjectId};
use treehold_wire::pktline::{self, PacketSlice};
use treehold_wire::serve::{
    Channel, Command, Deepen, FetchArguments, LsRefsRequest, MultiAck, Protocol, PushCapabilities, ReceiveHead,
    ReceiveLimits, RefStatus, Report, ReportStatus, RequestEnd, RequestLimits, Rewrite, SideBand, error_response,
    parse_head, parse_request, parse_upload_request, receive_pack, upload_pack, write_acknowledgments, write_end,
    write_message, write_packfile_head, write_shallow_info,
};

use crate::git::{Repo, history, seed};
use crate::serving::refs;

/// A program to run instead of a server of git's, and where it keeps what the client said.
struct Script {
    command: String,
    heard: PathBuf,
    _dir: tempfile::TempDir,
}

impl Script {
    /// Runs `shell`, which may use `$dir`.
    fn new(shell: &str, files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        let script = dir.path().join("script");
        std::fs::write(&script, format!("dir={}\n{shell}\n", dir.path().display())).unwrap();
        Self { command: format!("sh {}", script.display()), heard: dir.path().join("heard"), _dir: dir }
    }

    /// A server that says `answer`, whatever it hears.
    fn saying(answer: &[u8]) -> Self {
        Self::new("cat $dir/answer; cat > $dir/heard", &[("answer", answer)])
    }

    /// Git's own server, overheard.
    fn overhearing(service: &str) -> Self {
        let server = format!("git -c uploadpack.allowFilter=true -c receive.advertisePushOptions=true {service}");
        Self::new(&format!("tee -a $dir/heard | {server} \"$@\""), &[])
    }

    fn heard(&self) -> Vec<u8> {
        std::fs::read(&self.heard).unwrap()
    }
}

/// The advertisement as it goes over a pipe: without the head that only HTTP has.
fn piped(advertisement: Vec<u8>) -> Vec<u8> {
    let end = advertisement.find(pktline::FLUSH).unwrap() + pktline::FLUSH.len();
    advertisement[end..].to_vec()
}

/// The requests of v2 in a stream of them.
fn requests(mut stream: &[u8]) -> Vec<Command> {
    let (mut requests, mut start) = (Vec::new(), stream);
    while let Some(packet) = pktline::take(&mut stream).unwrap() {
        if packet == PacketSlice::Flush {
            let body = &start[..start.len() - stream.len()];
            requests.extend(parse_request(body, &RequestLimits::default()).unwrap().map(|request| request.command));
            start = stream;
        }
    }
    assert!(start.is_empty());
    requests
}

fn fetches(stream: &[u8]) -> Vec<FetchArguments> {
    let fetch = |command| if let Command::Fetch(fetch) = command { Some(fetch) } else { None };
    requests(stream).into_iter().filter_map(fetch).collect()
}

fn run(repo: &Repo, args: &[&str]) -> (bool, String) {
    let output = repo.try_git(args, b"");
    (output.status.success(), [&output.stdout[..], &output.stderr].concat().to_str_lossy().into_owned())
}

#[test]
fn what_git_sends_to_fetch_is_understood() {
    let server = history(14, seed(51));
    let url = format!("file://{}", server.path().display());
    let (client, partial) = (Repo::new(), Repo::new());
    let tip = server.oid("main");
    for (args, check) in [
        (
            &["--depth=3"][..],
            &(|fetch: &FetchArguments| {
                assert_eq!(fetch.deepen, Deepen::Depth { commits: 3, relative: false });
                assert!(fetch.done && fetch.thin_pack && fetch.ofs_delta && fetch.haves.is_empty());
            }) as &dyn Fn(&FetchArguments),
        ),
        (&["--deepen=2"], &|fetch| {
            assert_eq!(fetch.deepen, Deepen::Depth { commits: 2, relative: true });
            assert!(!fetch.shallow.is_empty() && !fetch.haves.is_empty());
        }),
        (&["--shallow-since=2001-01-01", "--shallow-exclude=v5"], &|fetch| {
            let Deepen::Bounded { since, not } = &fetch.deepen else { panic!("{fetch:?}") };
            assert!(since.is_some_and(|since| since > 970_000_000) && not == &[BString::from("v5")]);
        }),
        (&["--unshallow", "--no-tags"], &|fetch| {
            assert!(fetch.deepen == Deepen::Unshallow && !fetch.include_tag);
        }),
        (&["--filter=combine:blob:limit=1k+tree:3"], &|fetch| {
            assert_eq!(fetch.filter.as_ref().unwrap().to_string(), "combine:blob:limit=1024+tree:3");
        }),
    ] {
        let script = Script::overhearing("upload-pack");
        let fetch = ["fetch", "-q", "--upload-pack", &script.command];
        let client = if args[0].starts_with("--filter") { &partial } else { &client };
        let (ok, text) = run(client, &[&fetch[..], args, &[&url, "main:refs/heads/got"]].concat());
        assert!(ok, "{args:?}: {text}");
        // What a filter left out may be fetched later, as git needs it.
        check(fetches(&script.heard()).iter().find(|fetch| fetch.wants.contains(&tip)).unwrap());
    }
}

#[test]
fn what_git_sends_before_v2_is_understood() {
    let server = history(8, seed(52));
    let url = format!("file://{}", server.path().display());
    let client = Repo::new();
    client.commit("unrelated");
    for version in ["protocol.version=0", "protocol.version=1"] {
        let script = Script::overhearing("upload-pack");
        let name = format!("main:refs/heads/{}", version.replace(['.', '='], "-"));
        let args = ["-c", version, "fetch", "-q", "--depth=2", "--filter=blob:none", "--upload-pack", &script.command];
        let (ok, text) = run(&client, &[&args[..], &[&url, &name]].concat());
        assert!(ok, "{text}");
        let request = parse_upload_request(&script.heard(), &RequestLimits::default()).unwrap();
        assert!(request.arguments.wants.contains(&server.oid("main")));
        assert_eq!(request.arguments.filter.as_ref().unwrap().to_string(), "blob:none");
        assert_eq!(request.arguments.deepen, Deepen::Depth { commits: 2, relative: false });
        assert!(request.arguments.thin_pack && request.end != RequestEnd::Wants);
        let capabilities = request.capabilities;
        assert_eq!((capabilities.multi_ack, capabilities.side_band), (MultiAck::Detailed, SideBand::Large));
        assert!(capabilities.agent.unwrap().starts_with(b"git/"));
    }
}

#[test]
fn git_clones_from_our_answers() {
    let server = history(8, seed(53));
    let refs = refs(&server);
    let pack = server.git_with(&["pack-objects", "-q", "--all", "--stdout"], b"");
    let client = Repo::new();
    for (round, protocol) in [Protocol::V0, Protocol::V1, Protocol::V2].into_iter().enumerate() {
        let mut answer = piped(upload_pack(protocol, &refs, &[], "treehold/test").unwrap());
        if protocol == Protocol::V2 {
            let mut request = LsRefsRequest::default();
            (request.peel, request.symrefs) = (true, true);
            request.write_answer(&mut answer, None, &refs).unwrap();
            write_packfile_head(&mut answer).unwrap();
        } else {
            answer.extend_from_slice(b"0008NAK\n");
        }
        SideBand::Large.write(&mut answer, Channel::Progress, b"hello from treehold\n");
        SideBand::Large.write_keepalive(&mut answer);
        SideBand::Large.write(&mut answer, Channel::Data, &pack);
        SideBand::Large.write_end(&mut answer);
        let (script, version) = (Script::saying(&answer), format!("protocol.version={round}"));
        let name = format!("clone{round}");
        let args = ["-c", &version, "clone", "--bare", "--progress", "-u", &script.command, "file:///x.git", &name];
        let (ok, text) = run(&client, &args);
        assert!(ok && text.contains("remote: hello from treehold"), "{text}");
        let in_clone = |args: &[&str]| client.git(&[&["-C", &name][..], args].concat());
        let format = "--format=%(objectname) %(refname) %(*objectname)";
        assert_eq!(in_clone(&["for-each-ref", format]), server.git(&["for-each-ref", format]));
        in_clone(&["fsck", "--strict"]);
        assert_eq!(in_clone(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    }
}

#[test]
fn git_fetches_in_rounds_from_our_answers() {
    let server = history(8, seed(54));
    let (tip, base) = (server.oid("main"), server.oid("main~3"));
    let refs: Vec<_> = refs(&server).into_iter().filter(|advertised| advertised.name == "refs/heads/main").collect();
    let client = Repo::new();
    client.git(&["fetch", "-q", server.path().to_str().unwrap(), &format!("{base}:refs/heads/base")]);
    client.git(&["checkout", "-q", "base"]);
    let unknown = client.commit("only here");
    let list = format!("{tip}\n^{base}\n");
    let pack = server.git_with(&["pack-objects", "-q", "--revs", "--thin", "--stdout"], list.as_bytes());
    let mut answer = piped(upload_pack(Protocol::V2, &refs, &[], "treehold/test").unwrap());
    LsRefsRequest::default().write_answer(&mut answer, None, &refs).unwrap();
    write_acknowledgments(&mut answer, &[base], true).unwrap();
    write_packfile_head(&mut answer).unwrap();
    SideBand::Large.write(&mut answer, Channel::Data, &pack);
    SideBand::Large.write_end(&mut answer);
    let script = Script::saying(&answer);
    let args = ["fetch", "-q", "--no-tags", "--upload-pack", &script.command, "file:///x.git", "main:got"];
    let (ok, text) = run(&client, &args);
    assert!(ok, "{text}");
    assert_eq!(client.oid("got"), tip);
    client.git(&["fsck", "--strict"]);
    let fetch = fetches(&script.heard()).remove(0);
    assert!(fetch.haves.contains(&unknown) && fetch.haves.contains(&base) && !fetch.done);

    // A shallow fetch, and an error instead of a pack.
    let shallow = Repo::bare();
    let mut answer = piped(upload_pack(Protocol::V2, &refs, &[], "treehold/test").unwrap());
    LsRefsRequest::default().write_answer(&mut answer, None, &refs).unwrap();
    write_shallow_info(&mut answer, &[tip], &[]).unwrap();
    write_packfile_head(&mut answer).unwrap();
    let list = format!("{tip}\n{tip}^{{tree}}\n");
    let objects =
        server.git_with(&["rev-list", "--objects", "--no-object-names", "--no-walk", "--stdin"], list.as_bytes());
    let pack = server.git_with(&["pack-objects", "-q", "--stdout"], &objects);
    SideBand::Large.write(&mut answer, Channel::Data, &pack);
    SideBand::Large.write_end(&mut answer);
    let script = Script::saying(&answer);
    let args = ["fetch", "-q", "--depth=1", "--upload-pack", &script.command, "file:///x.git", "main:got"];
    let (ok, text) = run(&shallow, &args);
    assert!(ok, "{text}");
    assert_eq!(shallow.git(&["rev-list", "--count", "got"]), "1");
    shallow.git(&["fsck", "--strict"]);

    let mut answer = piped(upload_pack(Protocol::V2, &refs, &[], "treehold/test").unwrap());
    answer.extend_from_slice(&error_response("this project is being moved"));
    let script = Script::saying(&answer);
    let (ok, text) = run(&shallow, &["ls-remote", "--upload-pack", &script.command, "file:///x.git"]);
    assert!(!ok && text.contains("fatal: remote error: this project is being moved"), "{text}");
}

fn overheard_push(client: &Repo, server: &Repo, args: &[&str]) -> (ReceiveHead, Vec<u8>) {
    let script = Script::overhearing("receive-pack");
    let url = format!("file://{}", server.path().display());
    let (ok, text) = run(client, &[&["push", "-q", "--receive-pack", &script.command, &url][..], args].concat());
    assert!(ok, "{text}");
    let heard = script.heard();
    let (head, len) = parse_head(&heard, ReceiveLimits::default()).unwrap();
    (head, heard[len..].to_vec())
}

#[test]
fn what_git_sends_to_push_is_understood() {
    let (client, server) = (history(6, seed(55)), Repo::bare());
    let tip = client.oid("main");
    let refspecs = ["main:refs/heads/main", "main:refs/heads/two"];
    let args = [&["--atomic", "-o", "ci.skip", "-o", "two=2"][..], &refspecs].concat();
    let (head, pack) = overheard_push(&client, &server, &args);
    assert!(pack.starts_with(b"PACK") && head.expects_pack());
    assert_eq!(head.push_options, ["ci.skip", "two=2"]);
    let names: Vec<_> = head.commands.iter().map(|command| command.name.as_bstr()).collect();
    assert_eq!(names, ["refs/heads/main", "refs/heads/two"]);
    assert!(head.commands.iter().all(|command| command.old.is_none() && command.new == Some(tip)));
    let capabilities = &head.capabilities;
    assert!(capabilities.atomic && capabilities.side_band_64k && capabilities.quiet && capabilities.push_options);
    assert_eq!(capabilities.report_status, ReportStatus::V2);

    let (head, pack) = overheard_push(&client, &server, &[":refs/heads/two"]);
    assert!(!head.expects_pack() && pack.is_empty() && head.commands[0].old == Some(tip));

    let (head, pack) = overheard_push(&client, &server, &["-f", "main~1:refs/heads/main", "main:refs/heads/x"]);
    assert_eq!((head.commands.len(), head.commands[0].old), (2, Some(tip)));
    assert!(pack.starts_with(b"PACK"));
}

#[test]
fn git_pushes_and_believes_our_reports() {
    let client = history(4, seed(56));
    let other = ObjectId::Sha1([0x11; 20]);
    let advertisement = piped(receive_pack(Protocol::V2, &refs(&Repo::bare()), &[], "treehold/test", true).unwrap());
    let capabilities =
        PushCapabilities { report_status: ReportStatus::V2, side_band_64k: true, ..PushCapabilities::default() };
    let status = |name: &str, result: Result<(), &str>, rewrite| RefStatus {
        name: name.into(),
        result: result.map_err(str::to_owned),
        rewrite,
    };
    let rewrite = Rewrite { name: Some("refs/changes/1".into()), old: None, new: Some(other), forced: false };
    let refs = vec![
        status("refs/heads/a", Ok(()), None),
        status("refs/heads/b", Err("branch is protected\nby rule 7"), None),
        status("refs/heads/c", Ok(()), Some(rewrite)),
    ];
    let push = |answer: &[u8]| {
        let script = Script::saying(answer);
        let refspecs = ["main:refs/heads/a", "main:refs/heads/b", "main:refs/heads/c"];
        let args = ["push", "--porcelain", "--receive-pack", &script.command, "file:///x.git"];
        let (ok, text) = run(&client, &[&args[..], &refspecs].concat());
        let heard = script.heard();
        let (head, len) = parse_head(&heard, ReceiveLimits::default()).unwrap();
        assert!(head.commands.len() == 3 && heard[len..].starts_with(b"PACK"));
        (ok, text)
    };
    let mut answer = advertisement.clone();
    write_message(&mut answer, &capabilities, "see https://treehold.example/rules\n");
    Report { unpack: Ok(()), refs: refs.clone() }.write(&mut answer, &capabilities).unwrap();
    write_end(&mut answer, &capabilities);
    let (ok, text) = push(&answer);
    assert!(!ok && text.contains("remote: see https://treehold.example/rules"), "{text}");
    assert!(text.contains("*\trefs/heads/main:refs/heads/a\t[new branch]"), "{text}");
    assert!(
        text.contains("!\trefs/heads/main:refs/heads/b\t[remote rejected] (branch is protected by rule 7)"),
        "{text}"
    );
    assert!(text.contains("refs/changes/1"), "{text}");

    let mut answer = advertisement.clone();
    let failed = Report { unpack: Err("pack has a bad object".to_owned()), refs: vec![] };
    failed.write(&mut answer, &capabilities).unwrap();
    write_end(&mut answer, &capabilities);
    let (ok, text) = push(&answer);
    assert!(!ok && text.contains("remote unpack failed: pack has a bad object"), "{text}");

    let mut answer = advertisement;
    SideBand::Large.write(&mut answer, Channel::Error, b"the disk is full\n");
    let (ok, text) = push(&answer);
    assert!(!ok && text.contains("the disk is full"), "{text}");
}
