//! What only S3 has: credentials, and servers that differ.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use treehold_store::{Bucket, Payload, Put, S3Bucket, S3Options, StoreError, keeps_first_value, open_bucket};
use treehold_tests::s3::S3Server;

use crate::buckets::s3_bucket;

/// Answers requests (their heads) with what `answer` says, one connection each, and notes the heads.
async fn stub(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (S3Bucket, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let end = loop {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break None;
                }
                if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break Some(end);
                }
            };
            let Some(end) = end else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            while bytes.len() < end + 4 + length.unwrap_or(0) && stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {}
            let reply = answer(&head);
            noted.lock().unwrap().push(head);
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    let options = S3Options {
        bucket: "b".into(),
        prefix: "p".into(),
        endpoint: Some(endpoint),
        region: Some("r".into()),
        path_style: true,
    };
    (S3Bucket::with_credentials(options, "key", "secret"), heads)
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn code(status: &str, code: &str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
    reply(status, "content-type: application/xml\r\n", &body)
}

fn value(text: &'static str) -> Payload {
    Payload::Bytes(text.into())
}

#[tokio::test]
async fn a_server_without_conditional_writes_is_written_to_without() {
    let (bucket, heads) = stub(|head| match head {
        _ if head.contains("if-none-match") => code("501 Not Implemented", "NotImplemented"),
        _ if head.starts_with("head /b/p/objects/used") => reply("200 OK", "", "first"),
        _ if head.starts_with("head") => reply("404 Not Found", "", ""),
        _ if head.starts_with("get") => reply("200 OK", "", "first"),
        _ => reply("200 OK", "", ""),
    })
    .await;
    for _ in 0..2 {
        assert_eq!(bucket.put("objects/free", value("x")).await.unwrap(), Put::Created);
    }
    let seen: Vec<String> =
        heads.lock().unwrap().iter().map(|head| head[..head.find(' ').unwrap()].to_owned()).collect();
    assert_eq!(seen, ["put", "head", "put", "head", "put"], "the refusal is remembered");
    assert_eq!(bucket.put("objects/used", value("first")).await.unwrap(), Put::AlreadyThere);
    assert!(matches!(bucket.put("objects/used", value("other")).await, Err(StoreError::Occupied { .. })));
}

#[tokio::test]
async fn a_server_that_replaces_values_is_found_out() {
    let (bucket, _) = stub(|_| reply("200 OK", "", "")).await;
    assert!(!keeps_first_value(&bucket).await.unwrap());
    let server = S3Server::start().await;
    let honest = s3_bucket(&server, "probe", "");
    assert!(keeps_first_value(&honest).await.unwrap() && keeps_first_value(&honest).await.unwrap());
}

#[tokio::test]
async fn a_server_without_ranges_gives_the_range_all_the_same() {
    let (bucket, _) = stub(|_| reply("200 OK", "", "0123456789")).await;
    assert_eq!(bucket.get("objects/x", Some(3..5)).await.unwrap().as_deref(), Some(&b"34"[..]));
    assert_eq!(bucket.get("objects/x", Some(8..50)).await.unwrap().as_deref(), Some(&b"89"[..]));
}

#[tokio::test]
async fn a_server_that_does_not_list_versions_refuses_for_good() {
    let list = "<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name></ListBucketResult>";
    let refusals = [
        code("501 Not Implemented", "NotImplemented"),
        code("405 Method Not Allowed", "MethodNotAllowed"),
        code("403 Forbidden", "AccessDenied"),
        code("404 Not Found", "NoSuchKey"),
        reply("200 OK", "content-type: application/xml\r\n", list),
    ];
    for refusal in refusals {
        let said = refusal.clone();
        let (bucket, _) = stub(move |_| said.clone()).await;
        let err = bucket.versions("objects/x", 9).await.unwrap_err();
        assert!(matches!(err, StoreError::Refused { action: "list versions", .. }), "{refusal}: {err:?}");
    }
    let (bucket, _) = stub(|_| code("503 Slow Down", "SlowDown")).await;
    let err = bucket.versions("objects/x", 9).await.unwrap_err();
    assert!(matches!(err, StoreError::Unavailable { .. }), "{err:?}");
}

#[tokio::test]
async fn a_body_that_is_cut_is_no_answer() {
    let (bucket, _) = stub(|_| reply("200 OK", "", "0123456789").replace("length: 10", "length: 11")).await;
    let err = bucket.get("objects/x", None).await.unwrap_err();
    assert!(matches!(err, StoreError::Unavailable { action: "get", store: "s3", .. }), "{err:?}");
}

#[tokio::test]
async fn a_key_that_is_in_use_and_gone_is_tried_again() {
    let (bucket, _) = stub(|head| match head {
        _ if head.starts_with("put") => code("412 Precondition Failed", "PreconditionFailed"),
        _ => reply("404 Not Found", "", ""),
    })
    .await;
    let err = bucket.put("objects/x", value("x")).await.unwrap_err();
    assert!(matches!(err, StoreError::Unavailable { action: "put", .. }), "{err:?}");
}

#[tokio::test]
async fn a_large_body_that_is_not_read_to_its_end_is_settled() {
    // Heads are answered at once; the connection closes with most of the body unread, so that writing it fails.
    let content = "x".repeat(16 << 20);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let there = content.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
            if head.starts_with("put") {
                continue;
            }
            let whole = reply("200 OK", "", &there);
            let end = if head.starts_with("head") { whole.len() - there.len() } else { whole.len() };
            let whole = match head.split("range: bytes=").nth(1) {
                Some(range) => {
                    let (start, end) = range.lines().next().unwrap().split_once('-').unwrap();
                    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
                    reply(
                        "206 Partial Content",
                        &format!("content-range: bytes {start}-{end}/*\r\n"),
                        &there[start..=end],
                    )
                }
                None => whole[..end].to_owned(),
            };
            let _ = stream.write_all(whole.as_bytes()).await;
        }
    });
    let options = S3Options { bucket: "b".into(), endpoint: Some(endpoint), path_style: true, ..S3Options::default() };
    let bucket = S3Bucket::with_credentials(options, "key", "secret");
    assert_eq!(bucket.put("objects/x", Payload::Bytes(content.into())).await.unwrap(), Put::AlreadyThere);
    assert!(matches!(bucket.put("objects/x", value("other")).await, Err(StoreError::Occupied { .. })));
}

#[tokio::test]
async fn refusals_are_final_and_say_why() {
    let (bucket, _) = stub(|_| code("403 Forbidden", "AccessDenied")).await;
    let err = bucket.put("objects/x", value("x")).await.unwrap_err();
    assert!(matches!(err, StoreError::Refused { action: "put", store: "s3", .. }), "{err:?}");
    let source = std::error::Error::source(&err).unwrap().to_string();
    assert!(source.contains("403") && source.contains("AccessDenied"), "{source}");

    let server = S3Server::start().await;
    server.create_bucket("there");
    let options =
        S3Options { bucket: "there".into(), endpoint: Some(server.url()), path_style: true, ..S3Options::default() };
    let wrong_secret = S3Bucket::with_credentials(options, server.access_key(), "wrong");
    let (no_bucket, _) = stub(|_| code("404 Not Found", "NoSuchBucket")).await;
    assert!(matches!(no_bucket.get("objects/x", None).await, Err(StoreError::Refused { .. })));
    for bucket in [wrong_secret, no_bucket] {
        let err = bucket.put("objects/x", value("x")).await.unwrap_err();
        assert!(matches!(err, StoreError::Refused { action: "put", .. }), "{err:?}");
        let err = bucket.list("", None, 1).await.unwrap_err();
        assert!(matches!(err, StoreError::Refused { action: "list", .. }), "{err:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_streamed_with_their_checksum_and_compared_in_pieces() {
    let server = S3Server::start().await;
    let bucket = s3_bucket(&server, "files", "p");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pack");
    // More than one piece of comparison.
    let mut content: Vec<u8> = (0..20_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    assert_eq!(bucket.put("objects/pack/x", Payload::File(file.clone())).await.unwrap(), Put::Created);
    assert!(std::fs::read(server.directory().join("files/p/objects/pack/x")).unwrap() == content);
    assert_eq!(bucket.put("objects/pack/x", Payload::File(file.clone())).await.unwrap(), Put::AlreadyThere);
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &content).unwrap();
    let occupied = bucket.put("objects/pack/x", Payload::File(file)).await;
    assert!(matches!(occupied, Err(StoreError::Occupied { .. })), "{occupied:?}");

    let (bucket, heads) = stub(|_| reply("200 OK", "", "")).await;
    std::fs::write(dir.path().join("small"), "abc").unwrap();
    bucket.put("objects/x", Payload::File(dir.path().join("small"))).await.unwrap();
    let head = heads.lock().unwrap()[0].clone();
    // SHA-256 of `abc`, in Base64 (here in lower case).
    assert!(head.contains("x-amz-checksum-sha256: ungwv48bz+pbqudexa4ii7adyaowf3qctbd/yfiafa0="), "{head}");
    assert!(head.contains("if-none-match: *") && head.contains("content-length: 3"), "{head}");
}

/// Goal: a URL and the environment are all it takes.
/// Method: this test once more in a process whose environment has the credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_the_environment() {
    const URL: &str = "TREEHOLD_TEST_CHILD_URL";
    if let Ok(url) = std::env::var(URL) {
        let bucket = open_bucket(&url, std::path::Path::new("/nowhere")).await.unwrap();
        assert_eq!(bucket.put("objects/x", value("from the child")).await.unwrap(), Put::Created);
        return;
    }
    let server = S3Server::start().await;
    server.create_bucket("environment");
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "s3::credentials_come_from_the_environment"])
        .env(URL, server.store_url("environment", "some/prefix"))
        .env("AWS_ACCESS_KEY_ID", server.access_key())
        .env("AWS_SECRET_ACCESS_KEY", server.secret_key())
        .env_remove("AWS_SESSION_TOKEN")
        .env_remove("AWS_PROFILE")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let stored = std::fs::read(server.directory().join("environment/some/prefix/objects/x")).unwrap();
    assert_eq!(stored, b"from the child");
}
