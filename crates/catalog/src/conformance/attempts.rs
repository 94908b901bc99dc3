use super::*;
use crate::{Attempt, AttemptChange, AttemptState, Claim, FinalAnswer, SnapshotRow};

/// An attempt that was just prepared.
pub(super) fn attempt(project: Uuid, branch: &str) -> Attempt {
    let made = (oid("tree"), oid("commit"), b"tree \0\xff".to_vec());
    Attempt {
        idempotency_key: Some("key".to_owned()),
        user: Some(Uuid::new_v4()),
        pending_branch: "main".to_owned(),
        base: Some(oid("base")),
        push: true,
        snapshot: vec![
            SnapshotRow { path: b"a/\xff".into(), revision: Some(4), oid: Some(oid("a")), mode: 0o100755 },
            SnapshotRow { path: "gone".into(), revision: None, oid: None, mode: 0 },
        ],
        objects: vec![oid("a"), oid("tree"), oid("commit")],
        ..Attempt::prepared(Uuid::new_v4(), project, branch, made, NOW)
    }
}

/// The attempt goes to another state, if nobody moved it since `fence`.
pub(super) fn to(attempt: &Attempt, fence: i64, to: AttemptState) -> AttemptChange {
    AttemptChange { fence, ..attempt.to(to) }
}

pub(super) async fn claims_compare_bodies(case: Case) {
    let (project, other) = (case.project().await, case.project().await);
    let claim = async |project, body: u8| case.catalog.claim(project, "key", &[body; 32], NOW).await.expect("claim");
    assert_eq!(claim(project, 1).await, Claim::Open);
    assert_eq!(claim(project, 1).await, Claim::Open, "the same request, not yet answered");
    assert_eq!(claim(project, 2).await, Claim::Reused);
    assert_eq!(claim(other, 2).await, Claim::Open, "keys belong to a project");
    let racing = (0..8_u8).map(|racer| {
        let catalog = case.catalog.clone();
        async move { catalog.claim(project, "raced", &[racer; 32], NOW).await.expect("claim") }
    });
    let open = together(racing).await.into_iter().filter(|claim| *claim == Claim::Open).count();
    assert_eq!(open, 1, "one body has the key");
}

pub(super) async fn answers_stay(case: Case) {
    let project = case.project().await;
    case.catalog.claim(project, "key", &[1; 32], NOW).await.expect("claim");
    for body in ["first", "second"] {
        let answer = FinalAnswer { key: "key".to_owned(), body: body.to_owned() };
        case.catalog.answer(project, &answer).await.expect("answer");
        let claim = case.catalog.claim(project, "key", &[1; 32], NOW).await.expect("claim");
        assert_eq!(claim, Claim::Answered("first".to_owned()));
    }
    assert_eq!(case.catalog.claim(project, "key", &[2; 32], NOW).await.expect("claim"), Claim::Reused);
}

pub(super) async fn come_back_whole(case: Case) {
    let project = case.project().await;
    let full = attempt(project, "main");
    let bare = Attempt {
        idempotency_key: None,
        user: None,
        base: None,
        remote_base: Some(oid("r")),
        push: false,
        raw: Vec::new(),
        snapshot: Vec::new(),
        objects: Vec::new(),
        in_doubt: true,
        last_error: Some("words".to_owned()),
        ..attempt(project, "other")
    };
    let hosted =
        Attempt { idempotency_key: None, push: false, objects: Vec::new(), hosted: true, ..attempt(project, "main") };
    for attempt in [&full, &bare, &hosted, &full] {
        case.catalog.insert_attempt(attempt).await.expect("insert");
        assert_eq!(case.catalog.attempt(attempt.id).await.expect("attempt").as_ref(), Some(attempt));
    }
    assert_eq!(case.catalog.attempt(Uuid::new_v4()).await.expect("attempt"), None);
    assert_eq!(case.catalog.attempts_of(project, "key").await.expect("attempts"), [full]);
    assert_eq!(case.catalog.attempts_of(project, "other key").await.expect("attempts"), []);
}

pub(super) async fn move_by_their_fence(case: Case) {
    let attempt = attempt(case.project().await, "main");
    case.catalog.insert_attempt(&attempt).await.expect("insert");
    let change =
        async |fence, state| case.catalog.change_attempt(&to(&attempt, fence, state), NOW + 1).await.expect("change");
    assert_eq!(change(0, AttemptState::Stored).await, Some(1));
    assert_eq!(change(0, AttemptState::Superseded).await, None, "somebody else moved it");
    let stored = case.catalog.attempt(attempt.id).await.expect("attempt").expect("there");
    assert_eq!((stored.state, stored.fence, stored.updated_at_ms), (AttemptState::Stored, 1, NOW + 1));
    assert_eq!((stored.in_doubt, stored.last_error.as_deref()), (false, None));
    for (fence, words, in_doubt) in [(1, Some("words"), true), (2, Some("others"), true), (3, None, false)] {
        let last_error = words.map(str::to_owned);
        let change = AttemptChange { in_doubt, last_error, ..to(&attempt, fence, AttemptState::Paused) };
        assert_eq!(case.catalog.change_attempt(&change, NOW).await.expect("change"), Some(fence + 1));
        let stored = case.catalog.attempt(attempt.id).await.expect("attempt").expect("there");
        assert_eq!((stored.in_doubt, stored.last_error.as_deref()), (in_doubt, words));
    }
    let racing = (0..8).map(|_| {
        let (catalog, change) = (case.catalog.clone(), to(&attempt, 4, AttemptState::Pushing));
        async move { catalog.change_attempt(&change, NOW).await.expect("change") }
    });
    let winners = together(racing).await.into_iter().filter(Option::is_some).count();
    assert_eq!(winners, 1);
    let nobody = AttemptChange { id: Uuid::new_v4(), ..to(&attempt, 0, AttemptState::Stored) };
    assert_eq!(case.catalog.change_attempt(&nobody, NOW).await.expect("change"), None);
}

/// One that waits for a merge has the commit that it waits for, whoever made it; what it says of itself are errors alone.
pub(super) async fn wait_for_a_merge(case: Case) {
    let project = case.project().await;
    let asked = Attempt { push: false, objects: Vec::new(), hosted: true, ..attempt(project, "main") };
    let plain = attempt(project, "main");
    for attempt in [&asked, &plain] {
        case.catalog.insert_attempt(attempt).await.expect("insert");
    }
    let read = async |of: &Attempt| {
        let read = case.catalog.attempt(of.id).await.expect("attempt").expect("there");
        (read.state, read.waits, read.push, read.commit)
    };
    let change = async |of: &Attempt, fence, state, waits| {
        let change = AttemptChange { waits, ..to(of, fence, state) };
        case.catalog.change_attempt(&change, NOW).await.expect("change").expect("its fence");
    };
    change(&asked, 0, AttemptState::Landed, Some(oid("made"))).await;
    change(&plain, 0, AttemptState::Landed, None).await;
    assert_eq!(read(&asked).await, (AttemptState::Landed, true, true, oid("made")));
    assert_eq!(read(&plain).await, (AttemptState::Landed, false, true, plain.commit));
    assert_eq!(case.backend.execute("UPDATE attempts SET fence = fence WHERE last_error IS NULL").await, 2);
    change(&asked, 1, AttemptState::Finalized, None).await;
    assert_eq!(read(&asked).await, (AttemptState::Finalized, false, true, oid("made")));
}

pub(super) async fn push_one_at_a_time(case: Case) {
    let project = case.project().await;
    let attempts: Vec<Attempt> = (0..6).map(|_| attempt(project, "main")).collect();
    for attempt in &attempts {
        case.catalog.insert_attempt(attempt).await.expect("insert");
    }
    let racing = attempts.iter().map(|attempt| {
        let (catalog, change) = (case.catalog.clone(), to(attempt, 0, AttemptState::Pushing));
        async move { catalog.change_attempt(&change, NOW).await.expect("change") }
    });
    let outcomes = together(racing).await;
    let winners: Vec<usize> = (0..6).filter(|index| outcomes[*index].is_some()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let (first, second) = (&attempts[winners[0]], &attempts[(winners[0] + 1) % 6]);
    let change = async |attempt: &Attempt, fence, state| {
        case.catalog.change_attempt(&to(attempt, fence, state), NOW).await.expect("change")
    };
    // Unknown blocks as well; the same attempt may push again.
    assert_eq!(change(first, 1, AttemptState::Unknown).await, Some(2));
    assert_eq!(change(second, 0, AttemptState::Pushing).await, None);
    assert_eq!(change(first, 2, AttemptState::Pushing).await, Some(3));
    // Other branches and other projects are free; one that waits for credentials blocks nobody.
    for free in [attempt(project, "other"), attempt(case.project().await, "main")] {
        case.catalog.insert_attempt(&free).await.expect("insert");
        assert_eq!(change(&free, 0, AttemptState::Pushing).await, Some(1));
    }
    assert_eq!(change(first, 3, AttemptState::Paused).await, Some(4));
    assert_eq!(change(second, 0, AttemptState::Pushing).await, Some(1));
    assert_eq!(change(first, 4, AttemptState::Pushing).await, None);
    assert_eq!(change(second, 1, AttemptState::Landed).await, Some(2));
    assert_eq!(change(first, 4, AttemptState::Pushing).await, Some(5), "a refusal left the fence as it was");
}

pub(super) async fn are_found_while_open(case: Case) {
    use AttemptState::*;
    let project = case.project().await;
    let mut open = Vec::new();
    for (index, state) in
        [Prepared, Stored, Pushing, Finalized, Landed, CommittedLocal, Rejected, Paused, Superseded, Unknown]
            .into_iter()
            .enumerate()
    {
        let attempt = Attempt { state, ..attempt(project, &format!("branch {}", index % 5)) };
        case.catalog.insert_attempt(&attempt).await.expect("insert");
        if !matches!(state, Finalized | CommittedLocal | Rejected | Superseded) {
            open.push(attempt);
        }
    }
    let elsewhere = attempt(case.project().await, "branch 0");
    case.catalog.insert_attempt(&elsewhere).await.expect("insert");
    assert_eq!(case.catalog.attempts_of(project, "key").await.expect("attempts").len(), 10);
    let of_branch = case.catalog.open_attempts(Some((project, "branch 4")), 9).await.expect("open");
    let expected: Vec<Attempt> = open.iter().filter(|attempt| attempt.branch == "branch 4").cloned().collect();
    assert_eq!(of_branch, expected);
    // Of the project alone, page by page.
    let (mut after, mut paged) = (0, Vec::new());
    loop {
        let page = case.catalog.inspect_attempts(project, after, 2).await.expect("look");
        let Some(last) = page.last() else { break };
        after = last.seq;
        paged.extend(page.into_iter().map(|found| (found.id, found.state, found.commit)));
    }
    let expected: Vec<_> = open.iter().map(|attempt| (attempt.id, attempt.state, attempt.commit)).collect();
    assert_eq!(paged, expected);
    open.push(elsewhere);
    assert_eq!(case.catalog.open_attempts(None, 100).await.expect("open"), open, "oldest first");
    assert_eq!(case.catalog.open_attempts(None, 2).await.expect("open"), open[..2]);

    open.retain(|attempt| attempt.state != Paused);
    let (mut after, mut left) = (0, Vec::new());
    loop {
        let page = case.catalog.attempts_left(NOW, after, 2).await.expect("left");
        let Some(&(last, _)) = page.last() else { break };
        after = last;
        left.extend(page.into_iter().map(|(_, attempt)| attempt));
    }
    assert_eq!(left, open, "page by page, without those that wait for credentials");
    assert_eq!(case.catalog.attempts_left(NOW - 1, 0, 9).await.expect("left"), [], "they moved since");
}
