use super::*;

fn places(bounds: Bounds) -> Arc<Places> {
    patient(bounds, Duration::from_secs(3_600))
}

fn patient(bounds: Bounds, queue_timeout: Duration) -> Arc<Places> {
    let config = AdmissionConfig { light: bounds, queue_timeout, ..AdmissionConfig::for_cores(2) };
    Arc::clone(&Admission::new(&config).light)
}

const ONE: Bounds = Bounds { places: 1, queue: 2, queue_total: 4 };

#[tokio::test]
async fn places_go_to_those_that_wait_in_turn() {
    let places = places(ONE);
    let first = places.enter(1).await.unwrap();
    let mut second = Box::pin(places.enter(1));
    let mut third = Box::pin(places.enter(2));
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut third).is_pending());
    drop(first);
    let second = second.await.unwrap();
    assert!(futures::poll!(&mut third).is_pending());
    drop(second);
    drop(third.await.unwrap());
    assert_eq!(places.lock().fair.arrive(3), Arrival::Admitted);
}

#[tokio::test]
async fn whoever_goes_away_while_waiting_leaves_nothing_behind() {
    let places = places(ONE);
    let first = places.enter(1).await.unwrap();
    let mut gone = Box::pin(places.enter(1));
    let mut told = Box::pin(places.enter(1));
    assert!(futures::poll!(&mut gone).is_pending());
    assert!(futures::poll!(&mut told).is_pending());
    assert_eq!(places.enter(1).await.unwrap_err().status(), 429, "the queue is full");
    drop(gone);
    drop(first);
    // It has its place, and goes away without having looked.
    drop(told);
    assert!(places.lock().waiting.is_empty());
    drop(places.enter(2).await.unwrap());
}

#[tokio::test]
async fn waiting_has_an_end() {
    let places = patient(ONE, Duration::from_millis(5));
    let _first = places.enter(1).await.unwrap();
    let problem = places.enter(1).await.unwrap_err();
    assert_eq!((problem.status().as_u16(), problem.code()), (429, "too_many_requests"));
    let problem = places.enter(2).await.unwrap_err();
    assert_eq!((problem.status().as_u16(), problem.code()), (503, "busy"));
    assert!(places.lock().waiting.is_empty());
}

#[tokio::test]
async fn work_that_outlives_its_request_keeps_the_place() {
    let places = places(ONE);
    let place = Arc::new(places.enter(1).await.unwrap());
    let (end, ended) = oneshot::channel::<()>();
    let work = CURRENT.sync_scope(Current { key: 1, _place: place }, || keeping(ended));
    let work = tokio::spawn(work);
    let mut next = Box::pin(places.enter(2));
    assert!(futures::poll!(&mut next).is_pending());
    end.send(()).unwrap();
    work.await.unwrap().unwrap();
    drop(next.await.unwrap());
}

#[test]
fn defaults_grow_with_the_cores() {
    let (small, large) = (AdmissionConfig::for_cores(2), AdmissionConfig::for_cores(64));
    assert_eq!((small.light.places, small.commit.places, small.bulk.places), (128, 16, 4));
    assert_eq!((large.light.places, large.commit.places, large.bulk.places), (4096, 512, 128));
    assert_eq!((small.memory_bytes, large.memory_bytes), (1 << 30, 16 << 30));
    assert_eq!(AdmissionConfig::for_cores(0), AdmissionConfig::for_cores(1));
}
