use super::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What is known of all requests, beside the judge: a second bookkeeping.
#[derive(Default)]
struct Seen {
    working: Vec<Key>,
    waiting: HashMap<Ticket, Key>,
    /// For each waiting project, how often others were served since it was served or began to wait.
    passed: HashMap<Key, usize>,
}

impl Seen {
    fn held(&self, key: Key) -> usize {
        self.working.iter().filter(|holder| **holder == key).count()
    }

    fn admit(&mut self, admitted: Vec<(Key, Ticket)>) {
        for (key, ticket) in admitted {
            assert_eq!(self.waiting.remove(&ticket), Some(key), "admitted without having waited");
            self.working.push(key);
            for (other, passed) in &mut self.passed {
                *passed = if *other == key { 0 } else { *passed + 1 };
            }
        }
        self.passed.retain(|key, _| self.waiting.values().any(|waiting| waiting == key));
    }
}

/// What must be true at every moment.
fn check(fair: &Fair, seen: &Seen) {
    let bounds = fair.bounds;
    assert_eq!(fair.places.free() as usize, bounds.places - seen.working.len());
    assert!(seen.waiting.len() <= bounds.queue_total && fair.waiting == seen.waiting.len());
    for (key, queue) in &fair.queues {
        assert!(!queue.is_empty() && queue.len() <= bounds.queue);
        assert_eq!(fair.turns.iter().filter(|turn| *turn == key).count(), 1);
        // Nobody waits for what is there.
        let (held, free) = (seen.held(*key), bounds.places - seen.working.len());
        assert!(free == 0 || held >= free, "{key} waits with {held} places while {free} are free");
    }
    assert_eq!(fair.turns.len(), fair.queues.len());
    // Memory: nothing is kept of a project that neither works nor waits.
    assert!(fair.places.projects() <= seen.working.len());
    assert!(fair.queues.len() <= seen.waiting.len());
}

fn bounds(random: &mut StdRng) -> Bounds {
    let (places, queue) = (random.random_range(1..40), random.random_range(0..12));
    Bounds { places, queue, queue_total: random.random_range(0..40) }
}

#[test]
fn at_no_moment_is_a_place_wasted_a_bound_broken_or_a_project_remembered() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut fair = Fair::new(bounds(&mut random), 50);
        let mut seen = Seen::default();
        let projects = random.random_range(1..30);
        for _ in 0..400 {
            match random.random_range(0..10) {
                0..5 => {
                    let key = Key::from(random.random_range(0..projects) * random.random_range(0..2_u32));
                    match fair.arrive(key) {
                        Arrival::Admitted => seen.working.push(key),
                        Arrival::Waits(ticket) => _ = seen.waiting.insert(ticket, key),
                        Arrival::Refused(_) => {}
                    }
                }
                5..9 if !seen.working.is_empty() => {
                    let key = seen.working.swap_remove(random.random_range(0..seen.working.len()));
                    let admitted = fair.leave(key);
                    seen.admit(admitted);
                }
                _ => {
                    if let Some((ticket, key)) = seen.waiting.iter().next().map(|(ticket, key)| (*ticket, *key)) {
                        seen.waiting.remove(&ticket);
                        fair.give_up(key, ticket);
                    }
                }
            }
            check(&fair, &seen);
        }
        while let Some(key) = seen.working.pop() {
            let admitted = fair.leave(key);
            seen.admit(admitted);
            check(&fair, &seen);
        }
        assert!(seen.waiting.is_empty(), "seed {seed}: somebody waits for nobody");
        assert_eq!((fair.places.projects(), fair.queues.len(), fair.turns.len()), (0, 0, 0), "seed {seed}");
    }
}

#[test]
fn a_flood_leaves_room_so_that_others_need_not_wait() {
    for places in [4, 16, 128, 4096] {
        let mut fair = Fair::new(Bounds::places(places), 50);
        let mut refused = 0;
        for _ in 0..3 * places + 1000 {
            match fair.arrive(1) {
                Arrival::Refused(over) => {
                    assert_eq!(over, Over::Project);
                    refused += 1;
                }
                Arrival::Admitted | Arrival::Waits(_) => {}
            }
        }
        assert!(refused > 0);
        assert_eq!(fair.places.held(1), places as u64 / 2);
        assert_eq!(fair.waiting, fair.bounds.queue, "the queue is bounded");
        for _ in 0..places / 4 {
            assert_eq!(fair.arrive(2), Arrival::Admitted, "of {places}");
        }
    }
}

/// Projects that always have more to do share what one of them alone would have, and as much again is theirs together.
#[test]
fn floods_share_evenly() {
    for projects in 1..12 {
        let mut fair = Fair::new(Bounds { places: 120, queue: 64, queue_total: 2_000 }, 50);
        let mut random = StdRng::seed_from_u64(projects);
        let mut seen = Seen::default();
        // The first one comes long before the others, with all it has.
        for round in 0..1_500 {
            for key in 1..=if round == 0 { 1 } else { projects } {
                let key = Key::from(key);
                while let Arrival::Admitted | Arrival::Waits(_) = match fair.arrive(key) {
                    Arrival::Admitted => {
                        seen.working.push(key);
                        Arrival::Admitted
                    }
                    Arrival::Waits(ticket) => {
                        seen.waiting.insert(ticket, key);
                        Arrival::Waits(ticket)
                    }
                    refused @ Arrival::Refused(_) => refused,
                } {}
            }
            let key = seen.working.swap_remove(random.random_range(0..seen.working.len()));
            let admitted = fair.leave(key);
            seen.admit(admitted);
            check(&fair, &seen);
        }
        let portion = 120 / (projects + 1);
        for key in 1..=projects {
            let held = seen.held(Key::from(key)) as u64;
            assert!(held.abs_diff(portion) <= 2, "{held} of {portion} with {projects} projects");
        }
    }
}

#[test]
fn whoever_waits_without_a_place_is_next_after_each_other_project_once() {
    for seed in 0..50 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut fair = Fair::new(Bounds { places: 10, queue: 50, queue_total: 1_000 }, 50);
        let mut seen = Seen::default();
        let projects = 40;
        for _ in 0..2_000 {
            let key = Key::from(random.random_range(0..projects) as u32);
            match fair.arrive(key) {
                Arrival::Admitted => seen.working.push(key),
                Arrival::Waits(ticket) => {
                    seen.waiting.insert(ticket, key);
                    seen.passed.entry(key).or_insert(0);
                }
                Arrival::Refused(_) => {}
            }
            if seen.working.len() > random.random_range(0..10) {
                let key = seen.working.swap_remove(random.random_range(0..seen.working.len()));
                let admitted = fair.leave(key);
                seen.admit(admitted);
            }
            for (key, passed) in &seen.passed {
                assert!(seen.held(*key) > 0 || *passed <= 2 * projects, "seed {seed}: {key} was passed {passed} times");
            }
        }
    }
}

#[test]
fn one_project_keeps_its_order_and_a_long_queue_is_no_advantage() {
    let mut fair = Fair::new(Bounds { places: 2, queue: 10, queue_total: 20 }, 100);
    assert_eq!((fair.arrive(1), fair.arrive(1)), (Arrival::Admitted, Arrival::Admitted));
    let tickets: Vec<_> = [1, 1, 1, 2, 2].map(|key| (key, fair.arrive(key))).to_vec();
    let order: Vec<_> = [1, 1, 1, 2, 2].iter().flat_map(|key| fair.leave(*key)).collect();
    let keys: Vec<_> = order.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [1, 2, 1, 2, 1]);
    for key in [1, 2] {
        let served: Vec<_> = order.iter().filter(|(k, _)| *k == key).map(|(_, ticket)| *ticket).collect();
        let came: Vec<_> = tickets.iter().filter(|(k, _)| *k == key).map(|(_, arrival)| *arrival).collect();
        assert_eq!(served.into_iter().map(Arrival::Waits).collect::<Vec<_>>(), came);
    }
}

#[test]
fn whose_fault_it_is() {
    let mut fair = Fair::new(Bounds { places: 4, queue: 0, queue_total: 0 }, 50);
    assert_eq!([fair.arrive(1), fair.arrive(1)], [Arrival::Admitted; 2]);
    assert_eq!(fair.arrive(1), Arrival::Refused(Over::Project));
    assert_eq!([fair.arrive(2), fair.arrive(3)], [Arrival::Admitted; 2]);
    assert_eq!(fair.arrive(4), Arrival::Refused(Over::Server));
    assert_eq!(fair.arrive(1), Arrival::Refused(Over::Project));
}

#[test]
fn a_share_of_all_is_no_share() {
    let mut fair = Fair::new(Bounds { places: 3, queue: 1, queue_total: 1 }, 100);
    assert_eq!([fair.arrive(1), fair.arrive(1), fair.arrive(1)], [Arrival::Admitted; 3]);
    let mut single = Fair::new(Bounds { places: 1, queue: 0, queue_total: 0 }, 1);
    assert_eq!(single.arrive(1), Arrival::Admitted, "a place that nobody could have would be none");
}
