use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use std::time::Duration;
use treehold_tests::s3::{S3Fault, S3Server};

/// A client without retries, so that a test sees each answer.
pub fn client(server: &S3Server, secret_key: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(server.url())
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new(server.access_key(), secret_key, None, None, "tests"))
        .force_path_style(true);
    Client::from_conf(config.build())
}

async fn started() -> (S3Server, Client) {
    let server = S3Server::start().await;
    server.create_bucket("bucket");
    let client = client(&server, server.secret_key());
    (server, client)
}

async fn put(client: &Client, key: &str, body: &[u8]) -> Result<(), u16> {
    let put = client.put_object().bucket("bucket").key(key).if_none_match("*").body(body.to_vec().into());
    put.send().await.map(drop).map_err(|error| error.raw_response().map_or(0, |answer| answer.status().as_u16()))
}

async fn get(client: &Client, key: &str) -> Option<Vec<u8>> {
    let answer = client.get_object().bucket("bucket").key(key).send().await.ok()?;
    Some(answer.body.collect().await.ok()?.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_conditional_puts_wins() {
    let (_server, client) = started().await;
    for round in 0..20 {
        let key = format!("race/{round}");
        let bodies: Vec<Vec<u8>> = (0..16).map(|writer| vec![writer; 100]).collect();
        let racers = bodies.iter().map(|body| put(&client, &key, body));
        let outcomes = futures::future::join_all(racers).await;
        let winners: Vec<usize> = (0..16).filter(|&writer| outcomes[writer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(412))), "{outcomes:?}");
        assert_eq!(get(&client, &key).await.as_ref(), Some(&bodies[winners[0]]));
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let (server, _) = started().await;
    assert_eq!(put(&client(&server, "another"), "key", b"body").await, Err(403));
    assert!(!server.directory().join("bucket/key").exists());
}

#[tokio::test]
async fn requests_are_counted_and_faults_happen_as_often_as_set() {
    let (server, client) = started().await;
    server.fail_next("put_object", 2, S3Fault::SlowDown);
    server.fail_next("put_object", 1, S3Fault::LostAnswer);
    assert_eq!(put(&client, "key", b"1").await, Err(503));
    assert_eq!(put(&client, "key", b"2").await, Err(503));
    assert_eq!(get(&client, "key").await, None, "not executed");
    assert_eq!(put(&client, "key", b"3").await, Err(500));
    assert_eq!(get(&client, "key").await, Some(b"3".to_vec()), "executed all the same");
    assert_eq!(put(&client, "key", b"4").await, Err(412));
    let requests = server.requests();
    assert_eq!((requests["put_object"], requests["get_object"]), (4, 2));
    server.reset_requests();
    assert!(server.requests().is_empty());

    server.set_latency(Duration::from_secs(3600));
    let waiting = tokio::time::timeout(Duration::from_millis(50), get(&client, "key"));
    assert!(waiting.await.is_err(), "held back");
    server.heal();
    assert!(get(&client, "key").await.is_some());
}

#[tokio::test]
async fn down_and_up_again_with_everything_in_place() {
    let (server, client) = started().await;
    put(&client, "dir/key", b"body").await.unwrap();
    server.stop();
    assert_eq!(put(&client, "other", b"body").await, Err(0), "no answer at all");
    server.restart();
    assert_eq!(get(&client, "dir/key").await, Some(b"body".to_vec()));
    assert_eq!(
        server.store_url("bucket", "p"),
        format!("s3://bucket/p?endpoint={}&region=us-east-1&path_style=true", server.url())
    );
}

#[test]
fn runtimes_of_many_tests_share_one_server() {
    for bucket in ["shared-1", "shared-2"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = S3Server::shared().await;
            server.create_bucket(bucket);
            let client = client(server, server.secret_key());
            client.put_object().bucket(bucket).key("k").body(b"1".to_vec().into()).send().await.unwrap();
        });
    }
}
