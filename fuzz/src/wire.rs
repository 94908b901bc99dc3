//! The protocol: requests and the heads of pushes as a server gets them, answers as a client does.

use treehold_object::{BString, ByteSlice, ObjectId};
use treehold_wire::fetch::{
    ClientCapabilities, Deepen as ClientDeepen, FetchLimits, FetchReader, FetchRequest, LsRefs, RefLimits, RefsReader,
};
use treehold_wire::pktline::{self as pkt, Decoder, Packet, PacketSlice};
use treehold_wire::push::ReportReader;
use treehold_wire::serve::{
    AdvertisedRef, Command, Deepen, FetchArguments, Filter, HeadReader, Protocol, ReceiveLimits, RefStatus, Report,
    RequestLimits, error_response, parse_head, parse_request, parse_upload_request,
};
use treehold_wire::sideband::Demultiplexer;
use treehold_wire::{Advertisement, printable};

use crate::input::portions;

const REQUEST_LIMITS: RequestLimits =
    RequestLimits { bytes: 1 << 16, wants: 40, haves: 40, shallow: 40, deepen_not: 10, object_info: 40 };
const RECEIVE_LIMITS: ReceiveLimits = ReceiveLimits {
    bytes: 1 << 14,
    commands: 20,
    name_bytes: 255,
    shallow: 20,
    push_options: 8,
    push_option_bytes: 1 << 10,
};

/// What an error says goes to the client as one packet.
fn sendable(error: &impl std::fmt::Display) {
    let sent = error_response(&error.to_string());
    assert!(matches!(pkt::take(&mut &sent[..]), Ok(Some(PacketSlice::Data(text))) if text.starts_with(b"ERR ")));
}

/// Packets, read from a slice and in portions: the same ones, which encode to the same bytes.
pub fn pktline(data: &[u8]) {
    let (mut rest, mut slices) = (data, Vec::new());
    let sliced = loop {
        match pkt::take(&mut rest) {
            Ok(Some(packet)) => slices.push(packet),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let (mut decoder, mut packets) = (Decoder::new(), Vec::new());
    let mut pushed = portions(data);
    let decoded = loop {
        match decoder.next_packet() {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => match pushed.next() {
                Some(portion) => decoder.push(portion),
                None => break Ok(()),
            },
            Err(error) => break Err(error),
        }
    };
    assert_eq!(sliced, decoded);
    let same = |(slice, packet): (&PacketSlice<'_>, &Packet)| match (slice, packet) {
        (PacketSlice::Data(a), Packet::Data(b)) => a == b,
        (PacketSlice::Flush, Packet::Flush)
        | (PacketSlice::Delim, Packet::Delim)
        | (PacketSlice::ResponseEnd, Packet::ResponseEnd) => true,
        _ => false,
    };
    assert!(slices.len() == packets.len() && slices.iter().zip(&packets).all(same));
    if sliced.is_ok() {
        assert_eq!((rest, decoder.finish().is_ok()), (decoder.rest(), rest.is_empty()));
    }
    let mut written = Vec::new();
    for packet in &slices {
        match packet {
            PacketSlice::Data(payload) => pkt::write(&mut written, payload).unwrap(),
            PacketSlice::Flush => written.extend_from_slice(pkt::FLUSH),
            PacketSlice::Delim => written.extend_from_slice(pkt::DELIM),
            PacketSlice::ResponseEnd => written.extend_from_slice(pkt::RESPONSE_END),
        }
    }
    // Lengths may be written in capitals.
    assert!(written.eq_ignore_ascii_case(&data[..data.len() - rest.len()]));
}

/// Events, in portions and at once.
pub fn sideband(data: &[u8]) {
    let read = |pieces: Vec<&[u8]>| {
        let (mut demux, mut events, mut pieces) = (Demultiplexer::new(), Vec::new(), pieces.into_iter());
        loop {
            match demux.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => match pieces.next() {
                    Some(piece) => demux.push(piece),
                    None => return (events, demux.finish()),
                },
                Err(error) => return (events, Err(error)),
            }
        }
    };
    assert_eq!(read(portions(data).collect()), read(vec![data]));
}

/// A filter reads back from its canonical form.
pub fn filter(data: &[u8]) {
    match Filter::parse(data) {
        Ok(filter) => {
            assert_eq!(Filter::parse(filter.to_string().as_bytes()).as_ref(), Ok(&filter));
            if let Filter::Combine(parts) = &filter {
                assert!(parts.len() > 1 && !parts.iter().any(|part| matches!(part, Filter::Combine(_))));
            }
        }
        Err(error) => sendable(&error),
    }
    let shown = printable(data, 100);
    assert!(shown.len() < 200 && !shown.chars().any(|c| c.is_control() && !"\n\t".contains(c)), "{shown:?}");
    // Headers of HTTP are as hostile, and there is little to them.
    let named = data.split(|byte| *byte == b':').filter_map(|word| word.strip_prefix(b"version="));
    let highest = named.filter_map(|version| [b"1", b"2"].iter().position(|known| *known == version)).max();
    let expected = highest.map_or(Protocol::V0, |at| [Protocol::V1, Protocol::V2][at]);
    assert_eq!(Protocol::from_header(data), expected);
}

fn check_fetch(fetch: &FetchArguments) {
    assert!(fetch.wants.len() <= 40 && fetch.haves.len() <= 40 && fetch.shallow.len() <= 40);
    for list in [&fetch.wants, &fetch.haves, &fetch.shallow] {
        let mut sorted = list.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), list.len());
    }
    match &fetch.deepen {
        Deepen::Depth { commits, .. } => assert!(*commits > 0),
        Deepen::Bounded { since, not } => {
            assert!(not.len() <= 10 && (since.is_some() || !not.is_empty()) && since.is_none_or(|since| since >= 0));
        }
        Deepen::Keep | Deepen::Unshallow => {}
    }
}

/// What is understood reads the same when our own client says it, as far as that has words for it.
fn said_again(fetch: &FetchArguments) {
    let deepen = match fetch.deepen.clone() {
        Deepen::Keep => ClientDeepen::Keep,
        Deepen::Depth { commits, relative: true } => ClientDeepen::By(commits),
        Deepen::Depth { commits, relative: false } => ClientDeepen::Depth(commits),
        Deepen::Bounded { since: Some(since), not } if not.is_empty() => ClientDeepen::Since(since),
        Deepen::Bounded { since: None, not } => ClientDeepen::Not(not),
        Deepen::Bounded { .. } => return,
        Deepen::Unshallow => ClientDeepen::Unshallow,
    };
    let request = FetchRequest {
        wants: fetch.wants.clone(),
        haves: fetch.haves.clone(),
        shallow: fetch.shallow.clone(),
        deepen,
        include_tag: fetch.include_tag,
        no_progress: fetch.no_progress,
        filter: fetch.filter.as_ref().map(|filter| BString::from(filter.to_string())),
    };
    let body = request.encode(&ClientCapabilities { agent: Some("fuzz/1"), object_format: true }).unwrap();
    let Ok(Some(read)) = parse_request(&body, &REQUEST_LIMITS) else { panic!("{:?}", body.as_bstr()) };
    let expected =
        FetchArguments { done: true, wait_for_done: false, thin_pack: false, ofs_delta: true, ..fetch.clone() };
    assert_eq!((read.command, read.agent), (Command::Fetch(expected), Some("fuzz/1".into())));
}

/// A request of v2.
pub fn request(data: &[u8]) {
    let request = match parse_request(data, &REQUEST_LIMITS) {
        Ok(None) => return,
        Ok(Some(request)) => request,
        Err(error) => return sendable(&error),
    };
    let mut out = Vec::new();
    match request.command {
        Command::Fetch(fetch) => {
            check_fetch(&fetch);
            let _ = (fetch.step(), fetch.expects_shallow_info());
            said_again(&fetch);
        }
        Command::LsRefs(ls_refs) => {
            let prefixes = ls_refs.prefixes().to_vec();
            assert!(prefixes.is_sorted());
            for prefix in &prefixes {
                assert!(ls_refs.matches(prefix) && ls_refs.matches(&[prefix.as_slice(), b"x"].concat()));
            }
            for name in ["HEAD", "refs/heads/main", "refs/tags/v1", "\u{10ffff}"] {
                let by_hand = prefixes.is_empty() || prefixes.iter().any(|prefix| name.as_bytes().starts_with(prefix));
                assert_eq!(ls_refs.matches(name.as_bytes()), by_hand);
                let (oid, target) = (ObjectId::Sha1([1; 20]), Some("refs/heads/main".into()));
                let advertised = AdvertisedRef { name: name.into(), oid, peeled: Some(oid), symref_target: target };
                ls_refs.write_ref(&mut out, &advertised).unwrap();
            }
            out.extend_from_slice(pkt::FLUSH);
            let mut reader = RefsReader::new(RefLimits::default());
            reader.push(&out).unwrap();
            assert!(reader.finish().unwrap().iter().all(|read| ls_refs.matches(&read.name)));
            let again = LsRefs { prefixes: prefixes.clone(), unborn: ls_refs.unborn };
            let Ok(body) = again.encode(&ClientCapabilities::default()) else { return };
            match parse_request(&body, &RequestLimits::default()) {
                Ok(Some(request)) => {
                    let Command::LsRefs(read) = request.command else { panic!("no longer ls-refs") };
                    assert_eq!((read.prefixes(), read.unborn), (&prefixes[..], ls_refs.unborn));
                }
                other => panic!("{other:?}"),
            }
        }
        Command::ObjectInfo(info) => {
            assert!(info.oids.len() <= 40);
            info.write_answer(&mut out, |oid| (oid.first_byte() < 128).then_some(7)).unwrap();
            assert!(out.ends_with(pkt::FLUSH));
        }
    }
}

/// A request of v0 and v1.
pub fn upload_request(data: &[u8]) {
    match parse_upload_request(data, &REQUEST_LIMITS) {
        Ok(request) => {
            check_fetch(&request.arguments);
            said_again(&request.arguments);
        }
        Err(error) => sendable(&error),
    }
}

/// The head of a push: at once, and in portions with the pack right behind it.
pub fn push_head(data: &[u8]) {
    let whole = parse_head(data, RECEIVE_LIMITS);
    let mut reader = HeadReader::new(RECEIVE_LIMITS);
    let (mut len, mut failed) = (0, None);
    for portion in portions(data) {
        match reader.push(portion) {
            Ok(taken) => len += taken,
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        if reader.is_complete() {
            break;
        }
    }
    let in_portions = failed.map_or_else(|| reader.finish().map(|head| (head, len)), Err);
    assert_eq!(whole, in_portions);
    let head = match whole {
        Ok((head, len)) => {
            assert!(len <= data.len() && data[..len].ends_with(pkt::FLUSH));
            head
        }
        Err(error) => return sendable(&error),
    };
    assert!(head.commands.len() <= 20 && head.push_options.len() <= 8 && head.shallow.len() <= 20);
    let status = |command: &treehold_wire::serve::RefCommand| RefStatus {
        name: command.name.clone(),
        result: if command.new.is_none() { Err(command.name.to_string()) } else { Ok(()) },
        rewrite: None,
    };
    let report = Report { unpack: Ok(()), refs: head.commands.iter().map(status).collect() };
    let mut out = Vec::new();
    report.write(&mut out, &head.capabilities).unwrap();
    treehold_wire::serve::write_end(&mut out, &head.capabilities);
    if head.capabilities.report_status == treehold_wire::serve::ReportStatus::None {
        return;
    }
    let mut reader = ReportReader::new(head.capabilities.side_band_64k);
    portions(&out).for_each(|portion| reader.push(portion));
    let read = reader.finish();
    assert!(read.complete && read.unpack == Some(Ok(())) && read.refs.len() == head.commands.len());
    for (read, command) in read.refs.iter().zip(&head.commands) {
        assert_eq!((&read.name, read.result.is_ok()), (&command.name, command.new.is_some()));
    }
}

/// The answer to `ls-refs`.
pub fn refs_answer(data: &[u8]) {
    let limits = RefLimits { refs: 50, bytes: 4096 };
    let read = |pieces: Vec<&[u8]>| {
        let mut reader = RefsReader::new(limits);
        pieces.into_iter().try_for_each(|piece| reader.push(piece))?;
        reader.finish()
    };
    let whole = read(vec![data]);
    assert_eq!(whole, read(portions(data).collect()));
    if let Ok(refs) = whole {
        assert!(refs.len() <= 50 && refs.iter().map(|read| read.name.len()).sum::<usize>() <= 4096);
    }
}

/// The answer to `fetch`.
pub fn fetch_answer(data: &[u8]) {
    let limits = FetchLimits { pack_bytes: 8192, lines: 50 };
    let read = |pieces: Vec<&[u8]>| {
        let (mut reader, mut pack, mut progress) = (FetchReader::new(limits), Vec::new(), Vec::new());
        let mut tell = |text: &[u8]| progress.extend_from_slice(text);
        let pushed = pieces.into_iter().try_for_each(|piece| reader.push_to(piece, &mut pack, &mut tell).unwrap());
        let summary = reader.summary().clone();
        (pushed.and_then(|()| reader.finish()), summary, pack, progress)
    };
    let whole = read(vec![data]);
    assert_eq!(whole, read(portions(data).collect()));
    let (result, summary, pack, _) = whole;
    assert!(pack.len() <= 8192 && summary.shallow.len() + summary.unshallow.len() + summary.acknowledged.len() <= 50);
    assert!(result.is_err() || summary.pack_bytes == pack.len() as u64);
}

/// The answer to a push, with and without side-band.
pub fn report(data: &[u8]) {
    for side_band in [true, false] {
        let read = |pieces: Vec<&[u8]>| {
            let mut reader = ReportReader::new(side_band);
            pieces.into_iter().for_each(|piece| reader.push(piece));
            reader.finish()
        };
        let report = read(portions(data).collect());
        assert_eq!(report, read(vec![data]));
        for name in [&b"refs/heads/main"[..], b"refs/heads/x"] {
            let _ = report.outcome(name, Some(&ObjectId::Sha1([1; 20])));
        }
    }
}

/// An advertisement of any version.
pub fn advertisement(data: &[u8]) {
    let Ok(advertisement) = Advertisement::parse(data) else { return };
    assert!(advertisement.version < 3 && (advertisement.version < 2 || advertisement.refs.is_empty()));
    let capabilities = &advertisement.capabilities;
    let words: Vec<_> = capabilities.words().collect();
    let again = treehold_wire::Capabilities::from_words(words.iter().map(|word| word.as_slice()));
    assert_eq!(&again, capabilities);
    let chosen = treehold_wire::push::PushCapabilities::choose(Some(capabilities), "fuzz/1");
    let command =
        treehold_wire::push::Command { old: None, new: Some(ObjectId::Sha1([1; 20])), name: "refs/heads/x".into() };
    let head = treehold_wire::push::head(&[command], &chosen).unwrap();
    let (read, len) = parse_head(&head, RECEIVE_LIMITS).unwrap();
    assert_eq!((read.commands.len(), len, read.capabilities.side_band_64k), (1, head.len(), chosen.side_band()));
}
