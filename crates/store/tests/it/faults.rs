//! A store that fails now and then is a store that works.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use rand::Rng;
use treehold_object::Kind;
use treehold_store::{
    Bucket, DirectoryBucket, Fault, FaultRates, Faulty, MemoryBucket, Metered, ObjectStore, Payload, Put, RetryPolicy,
    Retrying, StoreError,
};
use treehold_tests::s3::{S3Fault, S3Server};

use crate::buckets::s3_bucket;
use crate::sample::{assert_objects, blobs, object, options, put_pack, seeded};

fn hasty(tries: u32) -> RetryPolicy {
    RetryPolicy { tries, base: Duration::from_micros(100), cap: Duration::from_millis(2) }
}

fn value(text: &'static str) -> Payload {
    Payload::Bytes(text.into())
}

#[tokio::test]
async fn a_lost_answer_is_found_again() {
    let memory: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
    let faulty = Arc::new(Faulty::scripted(Arc::clone(&memory), []));
    let bucket = Retrying::new(Arc::clone(&faulty) as Arc<dyn Bucket>, hasty(3));
    for (faults, put) in [
        (vec![], Put::Created),
        (vec![Fault::Before], Put::Created),
        (vec![Fault::Before, Fault::Before], Put::Created),
        (vec![Fault::After], Put::AlreadyThere),
        (vec![Fault::Cut, Fault::Before], Put::AlreadyThere),
    ] {
        let key =
            format!("objects/{}/{:?}", faults.len(), put) + &format!("{:?}", faults.first()).replace(['(', ')'], "");
        faulty.script(faults);
        assert_eq!(bucket.put(&key, value("x")).await.unwrap(), put);
        faulty.script([Fault::Before, Fault::After]);
        assert_eq!(bucket.get(&key, None).await.unwrap().as_deref(), Some(&b"x"[..]));
        faulty.script([Fault::After]);
        assert_eq!(bucket.head(&key).await.unwrap(), Some(1));
        faulty.script([Fault::Cut]);
        assert_eq!(bucket.list(&key, None, 5).await.unwrap().entries, [(key.clone(), 1)]);
        faulty.script([Fault::After, Fault::After]);
        bucket.delete(&key).await.unwrap();
        assert_eq!(memory.head(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn tries_are_bounded_and_final_answers_are_final() {
    let memory: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
    let faulty = Arc::new(Faulty::scripted(Arc::clone(&memory), vec![Fault::Before; 9]));
    let meter = Arc::new(Metered::new(Arc::clone(&faulty) as Arc<dyn Bucket>));
    let bucket = Retrying::new(Arc::clone(&meter) as Arc<dyn Bucket>, hasty(4));
    assert!(matches!(bucket.put("objects/x", value("x")).await, Err(StoreError::Unavailable { .. })));
    assert_eq!((meter.snapshot().put.calls, meter.snapshot().put.failures), (4, 4));
    faulty.script([Fault::Refuse]);
    assert!(matches!(bucket.get("objects/x", None).await, Err(StoreError::Refused { .. })));
    assert_eq!(meter.snapshot().get.calls, 1);
    faulty.script([]);
    bucket.put("objects/x", value("first")).await.unwrap();
    assert!(matches!(bucket.put("objects/x", value("other")).await, Err(StoreError::Occupied { .. })));
    let put = meter.snapshot().put;
    assert_eq!((put.calls, put.failures, put.amount), (6, 5, 5));
}

async fn survives(bucket: Arc<dyn Bucket>) {
    let mut rng = seeded();
    let rates = FaultRates { before: 10, after: 10, cut: 10, flip: 0, delay: 10, delay_max: Duration::from_millis(1) };
    let faulty = Arc::new(Faulty::seeded(bucket, rng.random(), rates));
    let (_dir, options) = options();
    let store = ObjectStore::new(Arc::new(Retrying::new(faulty, hasty(30))), options);
    let objects = blobs(&mut rng, 200);
    let (loose, packed) = objects.split_at(60);
    let stored = store.put_loose_many(loose.to_vec()).await.unwrap();
    let mut asked: Vec<_> = stored.iter().map(|stored| stored.location()).collect();
    for (number, part) in packed.chunks(20).enumerate() {
        asked.extend(put_pack(&store, part, u8::try_from(number).unwrap()).await.1);
    }
    // A cut answer to a read counts as damage, unless a second read is whole; two in a row are one in a hundred.
    let (mut answers, mut turns) = (store.get_many(&asked).await, 0);
    while let Some(at) = answers.iter().position(|answer| matches!(answer, Err(StoreError::Corrupt { .. }))) {
        answers[at] = store.get(&asked[at]).await;
        turns += 1;
        assert!(turns < 1000);
    }
    assert_objects(answers, &objects);
    let mut streamed = Box::pin(store.stream_many(asked));
    let mut count = 0;
    while let Some(answer) = streamed.next().await {
        match answer {
            Ok(object) => assert!(object == objects[count]),
            Err(err) => assert!(matches!(err, StoreError::Corrupt { .. }), "{err:?}"),
        }
        count += 1;
    }
    assert_eq!(count, objects.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_with_faults_works() {
    survives(Arc::new(MemoryBucket::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_with_faults_works() {
    let dir = tempfile::tempdir().unwrap();
    survives(Arc::new(DirectoryBucket::open(&dir.path().join("store"), &dir.path().join("temp")).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_with_faults_works() {
    let server = S3Server::start().await;
    survives(Arc::new(s3_bucket(&server, "faults", ""))).await;
}

#[tokio::test]
async fn bytes_that_broke_on_the_way_are_read_again() {
    let memory: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
    let faulty = Arc::new(Faulty::scripted(memory, []));
    let (_dir, options) = options();
    let store = ObjectStore::new(Arc::clone(&faulty) as Arc<dyn Bucket>, options);
    let objects = [object(Kind::Blob, "one"), object(Kind::Blob, "two")];
    let (_, asked) = put_pack(&store, &objects, 1).await;
    for fault in [Fault::Cut, Fault::Flip] {
        faulty.script([fault]);
        assert_objects(store.get_many(&asked).await, &objects);
        // The second read of an object is the last.
        faulty.script([fault; 3]);
        let answers = store.get_many(&asked).await;
        assert!(answers.iter().any(|answer| matches!(answer, Err(StoreError::Corrupt { .. }))), "{answers:?}");
    }
    for fault in [Fault::Before, Fault::Refuse] {
        faulty.script([fault]);
        let answers = store.get_many(&asked).await;
        assert!(answers.iter().all(|answer| match fault {
            Fault::Before => matches!(answer, Err(StoreError::Unavailable { action: "get", store: "memory", .. })),
            _ => matches!(answer, Err(StoreError::Refused { .. })),
        }));
        let source = std::error::Error::source(answers[0].as_ref().unwrap_err()).unwrap().to_string();
        assert!(source.contains("injected"), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_answers_mean_what_they_say() {
    let server = S3Server::start().await;
    let bucket: Arc<dyn Bucket> = Arc::new(s3_bucket(&server, "answers", "p"));
    let patient = Retrying::new(Arc::clone(&bucket), hasty(4));
    for fault in [S3Fault::SlowDown, S3Fault::InternalError, S3Fault::LostAnswer] {
        for operation in ["put_object", "get_object", "head_object", "list_objects_v2", "delete_object"] {
            server.fail_next(operation, 1, fault);
        }
        let key = format!("objects/{fault:?}");
        let unavailable = bucket.put(&key, value("x")).await.unwrap_err();
        assert!(matches!(unavailable, StoreError::Unavailable { action: "put", store: "s3", .. }), "{unavailable:?}");
        // No retries of the SDK's own: one call, one request.
        assert_eq!(server.requests()["put_object"], 1);
        let expected = if fault == S3Fault::LostAnswer { Put::AlreadyThere } else { Put::Created };
        assert_eq!(patient.put(&key, value("x")).await.unwrap(), expected);
        assert_eq!(patient.get(&key, Some(0..9)).await.unwrap().as_deref(), Some(&b"x"[..]));
        assert_eq!(patient.head(&key).await.unwrap(), Some(1));
        assert_eq!(patient.list("", None, 10).await.unwrap().entries, [(key.clone(), 1)]);
        patient.delete(&key).await.unwrap();
        assert_eq!(patient.head(&key).await.unwrap(), None);
        server.heal();
        server.reset_requests();
    }
    server.stop();
    let err = bucket.get("objects/x", None).await.unwrap_err();
    assert!(matches!(err, StoreError::Unavailable { action: "get", .. }), "{err:?}");
    server.restart();
    assert_eq!(patient.get("objects/x", None).await.unwrap(), None);
}
