use std::io::Read as _;

use http_body_util::BodyExt as _;

use super::*;

fn wanted(value: &str) -> Option<Coding> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
    Coding::wanted(&headers)
}

#[test]
fn codings_are_chosen_by_weight() {
    for (value, coding) in [
        ("gzip", Some(Coding::Gzip)),
        ("x-gzip", Some(Coding::Gzip)),
        ("zstd", Some(Coding::Zstd)),
        ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
        ("GZIP, deflate, br", Some(Coding::Gzip)),
        ("zstd;q=0.5, gzip", Some(Coding::Gzip)),
        ("gzip;q=0.5, zstd;q=0.6", Some(Coding::Zstd)),
        ("zstd;q=0, gzip;q=0", None),
        ("zstd;q=0.2, identity;q=0.9", None),
        ("*", Some(Coding::Gzip)),
        ("*, Zstd", Some(Coding::Zstd)),
        ("*, zstd;q=0", Some(Coding::Gzip)),
        ("*, gzip;q=0", None),
        ("*;q=0", None),
        ("gzip;q=0.2, identity;q=0.9", None),
        ("gzip;q=0.9, identity;q=0.2", Some(Coding::Gzip)),
        ("identity", None),
        ("br, deflate", None),
        ("", None),
        ("gzip;q=nonsense", None),
    ] {
        assert_eq!(wanted(value), coding, "{value:?}");
    }
    assert_eq!(Coding::wanted(&HeaderMap::new()), None);
}

fn response(pairs: &[(&'static str, &str)], status: u16) -> Response {
    let mut response = Response::new(Body::from("x"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in pairs {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

#[test]
fn gzip_is_taken_or_not() {
    for (value, takes) in [
        ("gzip", true),
        ("zstd, x-gzip;q=0.1", true),
        ("*", true),
        ("zstd", false),
        ("gzip;q=0, *", false),
        ("", false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        assert_eq!(takes_gzip(&headers), takes, "{value:?}");
    }
    assert!(!takes_gzip(&HeaderMap::new()));
}

#[test]
fn only_text_without_a_tag_is_compressed() {
    let json = ("content-type", "application/json");
    for (pairs, status) in [
        (vec![json], 200),
        (vec![json], 201),
        (vec![("content-type", "application/x-ndjson")], 200),
        (vec![("content-type", "text/x-diff; charset=utf-8")], 200),
        (vec![("content-type", "application/problem+json")], 409),
    ] {
        assert!(is_compressible(&response(&pairs, status)), "{pairs:?}");
    }
    for (pairs, status) in [
        (vec![json, ("etag", "\"1\"")], 200),
        (vec![json, ("content-encoding", "gzip")], 200),
        (vec![json, ("content-range", "bytes 0-1/2")], 206),
        (vec![json], 206),
        (vec![json, ("content-disposition", "attachment")], 200),
        (vec![("content-type", "text/event-stream")], 200),
        (vec![("content-type", "application/octet-stream")], 200),
        (vec![("content-type", "application/gzip")], 200),
        (vec![("content-type", "application/zip")], 200),
        (vec![], 200),
    ] {
        assert!(!is_compressible(&response(&pairs, status)), "{pairs:?}");
    }
    let mut empty = response(&[json], 200);
    *empty.body_mut() = Body::empty();
    assert!(!is_compressible(&empty));
}

/// Goal: what comes out is what went in, for pieces of any length, and each piece is readable as soon as it is sent.
#[tokio::test]
async fn pieces_come_out_as_they_went_in() {
    let memory = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let all =
        [vec![], vec![0], vec![1, 2, 3], vec![5_000, INLINE_MAX, INLINE_MAX + 1, 300_000, 1], vec![1 << 20, 1 << 20]];
    for (coding, lengths) in
        [Coding::Gzip, Coding::Zstd].into_iter().flat_map(|coding| all.clone().map(|all| (coding, all)))
    {
        let pieces: Vec<Vec<u8>> = lengths
            .iter()
            .enumerate()
            .map(|(at, length)| (0..*length).map(|byte| (byte * (at + 3) / 7 % 251) as u8).collect())
            .collect();
        let sent = pieces.clone().into_iter().map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
        let body = Body::from_stream(futures::stream::iter(sent));
        let place = memory.clone().try_acquire_owned().unwrap();
        let mut stream = Box::pin(encoded(body, Encoder::new(coding).unwrap(), place));
        let (mut coded, mut plain) = (Vec::new(), Vec::new());
        for piece in &pieces {
            coded.extend_from_slice(&stream.next().await.unwrap().unwrap());
            plain.extend_from_slice(piece);
            assert!(decoded(coding, &coded, plain.len()) == plain, "{coding:?} {lengths:?}");
        }
        while let Some(rest) = stream.next().await {
            coded.extend_from_slice(&rest.unwrap());
        }
        drop(stream);
        assert!(decoded(coding, &coded, usize::MAX) == plain, "{coding:?} {lengths:?}");
        assert_eq!(memory.available_permits(), 1);
    }
}

/// The first `most` bytes, or all where that is more than there are; then the end must be there, too.
fn decoded(coding: Coding, coded: &[u8], most: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    let reader: Box<dyn io::Read> = match coding {
        Coding::Gzip => Box::new(flate2::read::GzDecoder::new(coded)),
        Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
    };
    reader.take(most as u64).read_to_end(&mut plain).unwrap();
    plain
}

/// Goal: a body that fails is cut, never ended as if it were complete.
#[tokio::test]
async fn failures_come_through() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let pieces = [Ok(Bytes::from_static(b"some text")), Err(io::Error::other("broken"))];
        let body = Body::from_stream(futures::stream::iter(pieces));
        let coded = Body::from_stream(encoded(body, Encoder::new(coding).unwrap(), ()));
        assert!(coded.collect().await.is_err(), "{coding:?}");
    }
}
