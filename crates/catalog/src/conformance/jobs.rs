use uuid::Uuid;

use super::*;

pub(super) async fn are_done_by_one_at_a_time(case: Case) {
    let catalog = &case.catalog;
    let racing = (0..8).map(|_| {
        let (catalog, holder) = (catalog.clone(), Uuid::new_v4());
        async move { catalog.take_job("gc", holder, NOW, NOW + 100).await.expect("take").map(|job| (holder, job)) }
    });
    let winners: Vec<_> = together(racing).await.into_iter().flatten().collect();
    let [(first, job)] = &winners[..] else { panic!("not one winner: {winners:?}") };
    assert_eq!(job.holder, Some((*first, NOW + 100)));
    assert_eq!((&job.progress, &job.finished), (&None, &None));
    let second = Uuid::new_v4();
    assert_eq!(catalog.take_job("gc", second, NOW + 99, NOW + 300).await.expect("take"), None);
    assert!(catalog.take_job("verify", second, NOW, NOW + 1).await.expect("take").is_some(), "another job");
    assert!(catalog.take_job("gc", *first, NOW, NOW + 200).await.expect("take").is_some(), "its own again");
    assert!(catalog.take_job("gc", second, NOW + 200, NOW + 300).await.expect("take").is_some(), "the holder is gone");
    assert!(!catalog.renew_job("gc", *first, NOW + 900, Some("late")).await.expect("renew"));
    catalog.release_job("gc", *first, NOW, Some("late")).await.expect("release");
    let now = catalog.jobs().await.expect("list").remove(0);
    assert_eq!((now.holder, now.progress, now.finished), (Some((second, NOW + 300)), None, None));
}

pub(super) async fn go_on_where_they_were(case: Case) {
    let (catalog, one, two) = (&case.catalog, Uuid::new_v4(), Uuid::new_v4());
    catalog.take_job("verify", one, NOW, NOW + 10).await.expect("take").expect("free");
    assert!(catalog.renew_job("verify", one, NOW + 20, Some("half")).await.expect("renew"));
    assert!(catalog.renew_job("verify", one, NOW + 30, None).await.expect("renew"), "a sign of life says nothing else");
    catalog.release_job("verify", one, NOW, None).await.expect("release");
    let job = catalog.take_job("verify", two, NOW, NOW + 10).await.expect("take").expect("given back");
    assert_eq!((job.progress.as_deref(), job.finished), (Some("half"), None));
    catalog.release_job("verify", two, NOW + 5, Some("{}")).await.expect("release");
    let job = catalog.take_job("verify", one, NOW + 6, NOW + 10).await.expect("take").expect("given back");
    assert_eq!((job.progress, job.finished), (None, Some((NOW + 5, "{}".to_owned()))), "from the start again");
}
