//! Requests of our own client through our own parsers, and bytes that no client sends.

use proptest::prelude::*;
use treehold_object::ObjectId;
use treehold_wire::fetch::{ClientCapabilities, Deepen as ClientDeepen, FetchRequest, LsRefs};
use treehold_wire::push::{self, ReportReader};
use treehold_wire::serve::{
    Command, CommandKind, Deepen, HeadReader, PushCapabilities, ReceiveHead, ReceiveLimits, RefStatus, Report,
    ReportStatus, RequestError, RequestLimits, Rewrite, parse_head, parse_request, parse_upload_request, write_end,
    write_message,
};

fn any_oid() -> impl Strategy<Value = ObjectId> {
    (1u8..6).prop_map(|byte| ObjectId::Sha1([byte; 20]))
}

fn oids() -> impl Strategy<Value = Vec<ObjectId>> {
    prop::collection::vec(any_oid(), 0..8)
}

fn distinct(oids: &[ObjectId]) -> Vec<ObjectId> {
    let mut list: Vec<ObjectId> = Vec::new();
    for oid in oids {
        if !list.contains(oid) {
            list.push(*oid);
        }
    }
    list
}

fn deepens() -> impl Strategy<Value = ClientDeepen> {
    prop_oneof![
        Just(ClientDeepen::Keep),
        (1u32..0x7fff_ffff).prop_map(ClientDeepen::Depth),
        (1u32..0x7fff_ffff).prop_map(ClientDeepen::By),
        (0i64..).prop_map(ClientDeepen::Since),
        prop::collection::vec("[a-z/]{1,9}".prop_map(Into::into), 1..4).prop_map(ClientDeepen::Not),
        Just(ClientDeepen::Unshallow),
    ]
}

fn served(deepen: &ClientDeepen) -> Deepen {
    match deepen.clone() {
        ClientDeepen::Keep => Deepen::Keep,
        ClientDeepen::Depth(commits) => Deepen::Depth { commits, relative: false },
        ClientDeepen::By(commits) => Deepen::Depth { commits, relative: true },
        ClientDeepen::Since(time) => Deepen::Bounded { since: Some(time), not: vec![] },
        ClientDeepen::Not(not) => Deepen::Bounded { since: None, not },
        ClientDeepen::Unshallow => Deepen::Unshallow,
    }
}

fn names() -> impl Strategy<Value = String> {
    "refs/heads/[a-zé~%]{1,12}"
}

fn commands() -> impl Strategy<Value = Vec<push::Command>> {
    let oid = || prop::option::of(any_oid());
    prop::collection::btree_map(names(), (oid(), oid()), 1..6).prop_map(|commands| {
        let command = |(name, (old, new)): (String, (Option<ObjectId>, Option<ObjectId>))| {
            let new = if old.is_none() && new.is_none() { Some(ObjectId::Sha1([7; 20])) } else { new };
            push::Command { old, new, name: name.into() }
        };
        commands.into_iter().map(command).collect()
    })
}

fn statuses() -> impl Strategy<Value = Vec<RefStatus>> {
    let result = prop_oneof![Just(Ok(())), "[a-z][ -~]{0,40}[a-z]".prop_map(Err)];
    let oid = || prop::option::of(any_oid());
    let rewrite = (prop::option::of(names()), oid(), oid(), any::<bool>());
    let rewrite = rewrite.prop_map(|(name, old, new, forced)| Rewrite { name: name.map(Into::into), old, new, forced });
    let status = (names(), result, prop::option::of(rewrite));
    let status = status.prop_map(|(name, result, rewrite)| RefStatus { name: name.into(), result, rewrite });
    prop::collection::vec(status, 0..6)
}

/// Packets such as clients send, in any order, with junk between them.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let hex = "1".repeat(40);
    let lines = [
        "command=fetch",
        "command=ls-refs",
        "command=object-info",
        "agent=x",
        "server-option=x",
        "object-format=sha1",
        "done",
        "thin-pack",
        "ofs-delta",
        "deepen 3",
        "deepen-since 9",
        "deepen-not x",
        "deepen-relative",
        "filter combine:tree:1+blob:none",
        "peel",
        "symrefs",
        "ref-prefix refs/",
        "size",
        "push-cert",
    ];
    let mut packets: Vec<Vec<u8>> = vec![b"0000".to_vec(), b"0001".to_vec(), b"0002".to_vec(), b"0004".to_vec()];
    let more = [
        format!("want {hex}"),
        format!("want {hex} multi_ack side-band filter no-done"),
        format!("have {hex}"),
        format!("shallow {hex}"),
        format!("oid {hex}"),
        format!("{} {hex} refs/heads/x", "0".repeat(40)),
        format!("{hex} {hex} refs/heads/y\0report-status push-options atomic"),
    ];
    for line in lines.iter().map(|line| (*line).to_owned()).chain(more) {
        packets.push(format!("{:04x}{line}\n", line.len() + 5).into_bytes());
    }
    let junk = prop::collection::vec(any::<u8>(), 0..20);
    let packet = prop_oneof![30 => prop::sample::select(packets), 1 => junk];
    prop::collection::vec(packet, 0..12).prop_map(|packets| packets.concat())
}

fn in_portions(bytes: &[u8], portion: usize, limits: ReceiveLimits) -> Result<(ReceiveHead, usize), RequestError> {
    let (mut reader, mut len) = (HeadReader::new(limits), 0);
    for chunk in bytes.chunks(portion) {
        let taken = reader.push(chunk)?;
        len += taken;
        if reader.is_complete() {
            break;
        }
        assert_eq!(taken, chunk.len());
    }
    Ok((reader.finish()?, len))
}

proptest! {
    #[test]
    fn our_clients_fetches_are_understood(
        (wants, haves, shallow) in (oids(), oids(), oids()), deepen in deepens(), include_tag: bool, no_progress: bool,
        filtered: bool, object_format: bool,
    ) {
        let filter = filtered.then(|| "combine:tree:3+blob:limit=1k".into());
        let request = FetchRequest { wants, haves, shallow, deepen, include_tag, no_progress, filter };
        let capabilities = ClientCapabilities { agent: Some("treehold/test"), object_format };
        let body = request.encode(&capabilities).unwrap();
        let got = parse_request(&body, &RequestLimits::default()).unwrap().unwrap();
        prop_assert_eq!(got.agent.unwrap(), "treehold/test");
        let Command::Fetch(got) = got.command else { panic!("{:?}", got.command) };
        prop_assert_eq!(&got.wants, &distinct(&request.wants));
        prop_assert_eq!(&got.haves, &distinct(&request.haves));
        prop_assert_eq!(&got.shallow, &distinct(&request.shallow));
        prop_assert_eq!(&got.deepen, &served(&request.deepen));
        prop_assert_eq!((got.include_tag, got.no_progress), (include_tag, no_progress));
        prop_assert_eq!((got.done, got.ofs_delta, got.thin_pack, got.wait_for_done), (true, true, false, false));
        let filter = got.filter.map(|filter| filter.to_string());
        prop_assert_eq!(filter, filtered.then(|| "combine:tree:3+blob:limit=1024".to_owned()));
    }

    #[test]
    fn our_clients_ls_refs_are_understood(prefixes in prop::collection::vec("[ -~]{0,12}", 0..6), unborn: bool) {
        let request = LsRefs { prefixes: prefixes.iter().map(|prefix| prefix.as_str().into()).collect(), unborn };
        let body = request.encode(&ClientCapabilities::default()).unwrap();
        let got = parse_request(&body, &RequestLimits::default()).unwrap().unwrap();
        let Command::LsRefs(got) = got.command else { panic!("{:?}", got.command) };
        prop_assert_eq!((got.peel, got.symrefs, got.unborn), (true, true, unborn));
        prop_assert!(prefixes.iter().all(|prefix| got.matches(prefix.as_bytes())));
    }

    #[test]
    fn our_clients_pushes_are_understood(commands in commands(), portion in 1usize..200) {
        let capabilities = push::PushCapabilities::choose(None, "treehold/test");
        let head = push::head(&commands, &capabilities).unwrap();
        let body = [&head[..], b"PACK..."].concat();
        let (got, len) = in_portions(&body, portion, ReceiveLimits::default()).unwrap();
        prop_assert_eq!(len, head.len());
        prop_assert_eq!(got.commands.len(), commands.len());
        for (got, command) in got.commands.iter().zip(&commands) {
            prop_assert_eq!((&got.name, got.old, got.new), (&command.name, command.old, command.new));
            prop_assert_eq!(got.kind() == CommandKind::Delete, command.new.is_none());
            prop_assert_eq!(got.kind() == CommandKind::Create, command.old.is_none());
        }
        prop_assert_eq!(got.expects_pack(), commands.iter().any(|command| command.new.is_some()));
        prop_assert_eq!(got.capabilities, PushCapabilities {
            report_status: ReportStatus::V2,
            side_band_64k: true,
            atomic: commands.len() > 1,
            ofs_delta: true,
            agent: Some("treehold/test".into()),
            ..PushCapabilities::default()
        });
    }

    #[test]
    fn our_client_reads_our_reports(
        refs in statuses(), unpack in prop_oneof![Just(Ok(())), Just(Err("index-pack abnormal exit".to_owned()))],
        side_band_64k: bool, v2: bool, portion in 1usize..100,
    ) {
        let report_status = if v2 { ReportStatus::V2 } else { ReportStatus::V1 };
        let capabilities = PushCapabilities { report_status, side_band_64k, ..PushCapabilities::default() };
        let mut out = Vec::new();
        write_message(&mut out, &capabilities, "hello\n");
        let report = Report { unpack: unpack.clone(), refs };
        report.write(&mut out, &capabilities).unwrap();
        write_message(&mut out, &capabilities, "world\n");
        write_end(&mut out, &capabilities);
        let mut reader = ReportReader::new(side_band_64k);
        out.chunks(portion).for_each(|chunk| reader.push(chunk));
        let got = reader.finish();
        prop_assert!(got.complete);
        prop_assert_eq!(got.unpack, Some(unpack));
        prop_assert_eq!(got.messages, if side_band_64k { "hello\nworld\n" } else { "" });
        prop_assert_eq!(got.refs.len(), report.refs.len());
        for (got, status) in got.refs.iter().zip(&report.refs) {
            prop_assert_eq!((&got.name, &got.result), (&status.name, &status.result));
            let rewrite = status.rewrite.clone().filter(|_| v2 && status.result.is_ok()).unwrap_or_default();
            let option = |option: &str| got.options.iter().find(|(name, _)| name == option);
            let value = |name: &str| option(name).map(|(_, value)| value.to_string());
            prop_assert_eq!(value("refname"), rewrite.name.map(|name| name.to_string()));
            prop_assert_eq!(value("old-oid"), rewrite.old.map(|oid| oid.to_string()));
            prop_assert_eq!(value("new-oid"), rewrite.new.map(|oid| oid.to_string()));
            prop_assert_eq!(value("forced-update").is_some(), rewrite.forced);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_request(&bytes, &RequestLimits::default());
        let _ = parse_upload_request(&bytes, &RequestLimits::default());
        let _ = parse_head(&bytes, ReceiveLimits::default());
    }

    #[test]
    fn any_packets_are_survived(bytes in packets(), portion in 1usize..30) {
        let limits = RequestLimits { wants: 1, haves: 1, shallow: 1, ..RequestLimits::default() };
        if let Ok(Some(request)) = parse_request(&bytes, &limits) {
            prop_assert!(!matches!(request.command, Command::Fetch(fetch) if fetch.wants.len() > 1));
        }
        if let Ok(request) = parse_upload_request(&bytes, &limits) {
            let mut out = Vec::new();
            request.negotiate(&mut out, |_| true, Some(0)).unwrap();
            prop_assert!(out.len() <= 3 * 64);
        }
        let whole = parse_head(&bytes, ReceiveLimits::default());
        prop_assert_eq!(in_portions(&bytes, portion, ReceiveLimits::default()), whole);
    }
}

fn line(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

#[test]
fn limits_are_kept() {
    let limit = |what, limit| Some(RequestError::Limit { what, limit });
    let oid = |n: u32| format!("{n:040x}");
    let many = |word: &str, n| (1..=n).map(|n| line(&format!("{word} {}", oid(n)))).collect::<String>();
    let fetch = |lines: &str| format!("{}0001{lines}0000", line("command=fetch"));
    let three = RequestLimits { wants: 3, haves: 3, shallow: 3, deepen_not: 1, object_info: 3, ..Default::default() };
    for (word, what) in [("want", "wants"), ("have", "haves"), ("shallow", "shallow commits")] {
        assert!(parse_request(fetch(&many(word, 3).repeat(2)).as_bytes(), &three).is_ok());
        assert_eq!(parse_request(fetch(&many(word, 4)).as_bytes(), &three).err(), limit(what, 3));
    }
    let not = line("deepen-not x").repeat(2);
    assert_eq!(parse_request(fetch(&not).as_bytes(), &three).err(), limit("deepen-not lines", 1));
    let info = format!("{}0001{}0000", line("command=object-info"), many("oid", 4));
    assert_eq!(parse_request(info.as_bytes(), &three).err(), limit("objects to tell about", 3));
    let legacy = format!("{}0000{}0009done", many("want", 1), many("have", 4)).replace("0009done", "0008done");
    assert_eq!(parse_upload_request(legacy.as_bytes(), &three).err(), limit("haves", 3));
    let few = RequestLimits { bytes: 10, ..three };
    assert_eq!(parse_request(&[b'0'; 11], &few).err(), limit("bytes", 10));
    assert_eq!(parse_upload_request(&[b'0'; 11], &few).err(), limit("bytes", 10));

    let command = |name: &str| line(&format!("{} {} {name}", oid(0), oid(1)));
    let head = |text: String, limits| parse_head(text.as_bytes(), limits).map(|(head, _)| head.commands.len());
    let base = ReceiveLimits::default();
    let two =
        ReceiveLimits { commands: 2, name_bytes: 9, shallow: 1, push_options: 1, push_option_bytes: 3, bytes: 400 };
    assert_eq!(head(command("a") + &command("b") + "0000", two), Ok(2));
    assert_eq!(head(command("a") + &command("b") + &command("c"), two).err(), limit("commands", 2));
    assert_eq!(head(command("refs/tags/x"), two).err(), limit("bytes in the name of a ref", 9));
    assert_eq!(head(many("shallow", 2), two).err(), limit("shallow commits", 1));
    assert_eq!(head(many("shallow", 1).repeat(9), two).err(), limit("bytes", 400));
    let options = |options: &str| command("a\0push-options") + "0000" + options;
    assert_eq!(head(options("0006ab0000"), two), Ok(1));
    assert_eq!(head(options("0005a0005b"), two).err(), limit("push options", 1));
    assert_eq!(head(options("0008abcd"), two).err(), limit("bytes of push options", 3));
    assert_eq!(head(options("0006a\n0000"), base), Ok(1));
    assert!(matches!(head(options("0007a\nb"), base), Err(RequestError::Line(_))));
}

#[test]
fn pushes_that_cannot_be_are_refused() {
    let (zero, one) = ("0".repeat(40), "1".repeat(40));
    let error = |text: &str| parse_head(text.as_bytes(), ReceiveLimits::default()).unwrap_err().to_string();
    let command = |name: &str| line(&format!("{zero} {one} {name}"));
    assert_eq!(error(&line("push-cert\0 report-status")), "signed pushes are not supported");
    assert_eq!(error(&(command("a") + &command("a"))), "multiple updates for ref 'a' not allowed");
    assert_eq!(error(&command("a\0object-format=sha256")), "unsupported object format 'sha256'");
    assert!(error(&line(&format!("{zero} {zero} a"))).starts_with("unexpected line: '000"));
    for name in ["", " a", "a b", "a\nb", "a\x7f", "a\t"] {
        assert!(error(&(command(name) + "0000")).starts_with("unexpected line"), "{name:?}");
    }
    for text in ["", "00", "0031", &command("a"), "0001", &format!("{}0000", command("a\0push-options"))] {
        assert!(!error(text).is_empty());
    }
    // Clients try their credentials with nothing to do.
    let nothing = parse_head(b"0000PACK", ReceiveLimits::default()).unwrap();
    assert_eq!((nothing.1, nothing.0.commands.len(), nothing.0.expects_pack()), (4, 0, false));
}
