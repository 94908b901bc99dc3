//! Stock git over smart HTTP against a server made of `serve` and, as its store, a repository of git's.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use treehold_object::{ByteSlice, ObjectId};
use treehold_wire::serve::{
    Channel, Command, FetchArguments, FetchStep, Protocol, ReceiveHead, ReceiveLimits, RefStatus, Report,
    RequestLimits, SideBand, error_response, parse_head, parse_request, parse_upload_request, receive_pack,
    upload_pack, write_acknowledgments, write_end, write_message, write_packfile_head,
};

use crate::git::{Numbers, Repo, history, seed};
use crate::serving::refs;

const AGENT: &str = "treehold/test";

/// Which requests came, in a word each.
type Log = Arc<Mutex<Vec<String>>>;

/// Serves `repo` until the test ends.
fn serve(repo: Arc<Repo>) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.git", listener.local_addr().unwrap());
    let log = Log::default();
    let requests = log.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            exchange(&repo, stream.unwrap(), &requests);
        }
    });
    (url, log)
}

fn exchange(repo: &Repo, mut stream: TcpStream, log: &Log) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let target = line.split(' ').nth(1).unwrap().to_owned();
    let (mut protocol, mut len, mut chunked, mut gzip) = (Protocol::V0, 0, false, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "git-protocol" => protocol = Protocol::from_header(value.as_bytes()),
            "content-length" => len = value.parse().unwrap(),
            "transfer-encoding" => chunked = value == "chunked",
            "content-encoding" => gzip = value == "gzip",
            "expect" => stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap(),
            _ => {}
        }
    }
    let mut body = if chunked { chunks(&mut reader) } else { vec![0; len] };
    if !chunked {
        reader.read_exact(&mut body).unwrap();
    }
    if gzip {
        let packed = std::mem::take(&mut body);
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut body).unwrap();
    }
    let (kind, answer) = match target.strip_prefix("/x.git/").unwrap() {
        "info/refs?service=git-upload-pack" => {
            ("upload-pack-advertisement", upload_pack(protocol, &refs(repo), &[], AGENT).unwrap())
        }
        "info/refs?service=git-receive-pack" => {
            ("receive-pack-advertisement", receive_pack(protocol, &refs(repo), &[], AGENT, true).unwrap())
        }
        "git-upload-pack" if protocol == Protocol::V2 => ("upload-pack-result", fetch(repo, &body, log)),
        "git-upload-pack" => ("upload-pack-result", fetch_before_v2(repo, &body, log)),
        "git-receive-pack" => ("receive-pack-result", receive(repo, &body, log)),
        other => panic!("{other}"),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-git-{kind}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&answer).unwrap();
}

fn chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let start = body.len();
        body.resize(start + size + 2, 0);
        reader.read_exact(&mut body[start..]).unwrap();
        body.truncate(start + size);
        if size == 0 {
            return body;
        }
    }
}

fn reachable(repo: &Repo, from: &str) -> HashSet<ObjectId> {
    repo.git(&["rev-list", from]).lines().map(|hex| ObjectId::from_hex(hex.as_bytes()).unwrap()).collect()
}

/// Which haves are common, and the first with which enough is known.
fn judge(repo: &Repo, arguments: &FetchArguments) -> (HashSet<ObjectId>, Option<usize>) {
    let all = reachable(repo, "--all");
    let mut open: Vec<_> = arguments.wants.iter().map(|want| reachable(repo, &want.to_string())).collect();
    for (at, have) in arguments.haves.iter().enumerate() {
        open.retain(|reached| !reached.contains(have));
        if open.is_empty() {
            return (all, Some(at));
        }
    }
    (all, None)
}

fn write_pack(repo: &Repo, arguments: &FetchArguments, all: &HashSet<ObjectId>, band: SideBand, out: &mut Vec<u8>) {
    let mut list = String::new();
    arguments.wants.iter().for_each(|want| list.push_str(&format!("{want}\n")));
    arguments.haves.iter().filter(|have| all.contains(*have)).for_each(|have| list.push_str(&format!("^{have}\n")));
    let mut args = vec!["pack-objects", "-q", "--revs", "--stdout"];
    args.extend(arguments.thin_pack.then_some("--thin"));
    args.extend(arguments.include_tag.then_some("--include-tag"));
    let pack = repo.git_with(&args, list.as_bytes());
    band.write(out, Channel::Data, &pack);
    band.write_end(out);
}

fn fetch(repo: &Repo, body: &[u8], log: &Log) -> Vec<u8> {
    let mut out = Vec::new();
    let request = match parse_request(body, &RequestLimits::default()) {
        Ok(Some(request)) => request,
        Ok(None) => return out,
        Err(error) => return error_response(&error.to_string()),
    };
    match request.command {
        Command::LsRefs(request) => request.write_answer(&mut out, None, &refs(repo)).unwrap(),
        Command::ObjectInfo(_) => panic!("no client asks"),
        Command::Fetch(arguments) => {
            let (all, enough_at) = judge(repo, &arguments);
            let ready = enough_at.is_some() && !arguments.wait_for_done;
            let step = arguments.step();
            log.lock().unwrap().push(format!("{step:?} {ready}"));
            if step == FetchStep::Acknowledge {
                let common: Vec<_> = arguments.haves.iter().copied().filter(|have| all.contains(have)).collect();
                write_acknowledgments(&mut out, &common, ready).unwrap();
            }
            if step == FetchStep::Pack || ready {
                write_packfile_head(&mut out).unwrap();
                write_pack(repo, &arguments, &all, SideBand::Large, &mut out);
            }
        }
    }
    out
}

fn fetch_before_v2(repo: &Repo, body: &[u8], log: &Log) -> Vec<u8> {
    let request = match parse_upload_request(body, &RequestLimits::default()) {
        Ok(request) => request,
        Err(error) => return error_response(&error.to_string()),
    };
    let (all, enough_at) = judge(repo, &request.arguments);
    let mut out = Vec::new();
    let pack = request.negotiate(&mut out, |have| all.contains(have), enough_at).unwrap();
    log.lock().unwrap().push(format!("{:?} {pack}", request.end));
    if pack {
        write_pack(repo, &request.arguments, &all, request.capabilities.side_band, &mut out);
    }
    out
}

fn receive(repo: &Repo, body: &[u8], log: &Log) -> Vec<u8> {
    let (head, len) = match parse_head(body, ReceiveLimits::default()) {
        Ok(parsed) => parsed,
        Err(error) => return error_response(&error.to_string()),
    };
    let ReceiveHead { commands, capabilities, push_options, .. } = &head;
    log.lock().unwrap().push(format!("{} {push_options:?}", commands.len()));
    if commands.is_empty() {
        return Vec::new();
    }
    if head.expects_pack() {
        repo.git_with(&["index-pack", "--stdin", "--fix-thin", "--strict"], &body[len..]);
    }
    let mut out = Vec::new();
    write_message(&mut out, capabilities, "hello from treehold\n");
    let mut report = Report { unpack: Ok(()), refs: Vec::new() };
    for command in commands {
        let name = command.name.to_str().unwrap();
        let [old, new] = [command.old, command.new].map(|oid| oid.unwrap_or(ObjectId::Sha1([0; 20])).to_string());
        let output = repo.try_git(&["update-ref", name, &new, &old], b"");
        let result = if output.status.success() { Ok(()) } else { Err("failed to update ref".to_owned()) };
        report.refs.push(RefStatus { name: command.name.clone(), result, rewrite: None });
    }
    report.write(&mut out, capabilities).unwrap();
    write_end(&mut out, capabilities);
    out
}

fn run(repo: &Repo, args: &[&str]) -> (bool, String) {
    let output = repo.try_git(args, b"");
    (output.status.success(), [&output.stdout[..], &output.stderr].concat().to_str_lossy().into_owned())
}

#[test]
fn git_clones_fetches_and_pushes() {
    for version in ["protocol.version=0", "protocol.version=1", "protocol.version=2"] {
        let server = Arc::new(history(8, seed(61)));
        server.git(&["checkout", "-q", "--detach"]);
        server.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
        let (url, log) = serve(server.clone());
        let client = Repo::new();
        let git = |args: &[&str]| {
            let (ok, text) = run(&client, &[&["-C", "clone", "-c", version][..], args].concat());
            assert!(ok, "{version} {args:?}: {text}");
            text
        };
        let (ok, text) = run(&client, &["-c", version, "clone", "-q", &url, "clone"]);
        assert!(ok, "{text}");
        assert_eq!(client.git(&["-C", "clone", "rev-parse", "HEAD"]), server.oid("main").to_string());

        // So many commits of its own, and no ref in common, that one round of haves cannot tell what is common.
        let names = server.git(&["for-each-ref", "--format=%(refname)"]);
        for name in names.lines().filter(|name| *name != "refs/heads/main") {
            server.git(&["update-ref", "-d", name]);
        }
        for name in git(&["for-each-ref", "--format=%(refname)", "refs/remotes", "refs/tags"]).lines() {
            git(&["update-ref", "--no-deref", "-d", name]);
        }
        for n in 0..80 {
            git(&["commit", "-q", "--allow-empty", "-m", &format!("only here {n}")]);
        }
        let tree = server.git(&["rev-parse", "main^{tree}"]);
        let new = server.git(&["commit-tree", "-p", "main", "-m", "only there", &tree]);
        server.git(&["update-ref", "refs/heads/main", &new]);
        log.lock().unwrap().clear();
        git(&["fetch", "-q", "origin"]);
        assert_eq!(client.git(&["-C", "clone", "rev-parse", "origin/main"]), new);
        let rounds = std::mem::take(&mut *log.lock().unwrap());
        assert!(rounds.len() > 1 && rounds.iter().filter(|round| round.ends_with("true")).count() == 1, "{rounds:?}");

        // Large enough to be sent in chunks, after a try of the credentials.
        let mut numbers = Numbers(seed(62));
        let noise: Vec<u8> = (0..300_000).map(|_| numbers.next(256) as u8).collect();
        std::fs::write(client.path().join("clone/noise"), noise).unwrap();
        git(&["add", "noise"]);
        git(&["commit", "-q", "-m", "noise"]);
        let push = ["-c", "http.postBuffer=65536", "push", "--atomic", "-o", "ci.skip", "origin"];
        let text = git(&[&push[..], &["HEAD:refs/heads/a", "HEAD~3:refs/heads/b"]].concat());
        assert!(text.contains("remote: hello from treehold"), "{text}");
        assert_eq!(*log.lock().unwrap(), ["0 []", "2 [\"ci.skip\"]"]);
        assert_eq!(server.oid("a").to_string(), client.git(&["-C", "clone", "rev-parse", "HEAD"]));
        git(&["push", "-q", "origin", ":b"]);
        assert!(!server.try_git(&["rev-parse", "-q", "--verify", "b"], b"").status.success());
        git(&["fsck", "--strict"]);
        server.git(&["fsck", "--strict"]);
    }
}

#[test]
fn git_shows_our_refusals() {
    let server = Arc::new(history(2, seed(63)));
    let (url, _) = serve(server.clone());
    let client = Repo::new();
    for version in ["protocol.version=0", "protocol.version=2"] {
        let (ok, text) = run(&client, &["-c", version, "fetch", "--filter=sparse:oid=main", &url, "main"]);
        assert!(!ok && text.contains("filter 'sparse:oid' not supported"), "{version}: {text}");
    }
}
