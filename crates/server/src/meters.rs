//! Requests, counted: by route, method and class of status, and how long each took until its answer began.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::Method;

/// Upper ends of the classes of durations, seconds; longer ones are in the last class, without end.
pub(crate) const UP_TO_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What was asked: a route's template (never the URL), and a method by name.
type Asked = (Arc<str>, &'static str);

/// Counters of all routes. There are as many as the router has routes, times the methods that HTTP knows.
#[derive(Debug, Default)]
pub(crate) struct Meters(RwLock<HashMap<Asked, Arc<Meter>>>);

/// One route and method.
#[derive(Debug, Default)]
struct Meter {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
    /// Answers by the class of their duration, not added up.
    durations: [AtomicU64; UP_TO_S.len() + 1],
    total_us: AtomicU64,
}

/// What a route and method came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Metered {
    pub route: Arc<str>,
    pub method: &'static str,
    /// Answers with a status that begins with 0 to 5.
    pub answers: [u64; 6],
    /// Answers that took no longer than each of [`UP_TO_S`], and all.
    pub within: [u64; UP_TO_S.len() + 1],
    pub total_s: f64,
}

impl Meters {
    /// One request was answered.
    pub(crate) fn count(&self, route: &Arc<str>, method: &Method, status: u16, took: Duration) {
        let asked = (Arc::clone(route), name(method));
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&asked).map(Arc::clone);
        let meter = known.unwrap_or_else(|| {
            let mut meters = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(meters.entry(asked).or_default())
        });
        let class = usize::from(status / 100).min(meter.answers.len() - 1);
        meter.answers[class].fetch_add(1, Ordering::Relaxed);
        let within = UP_TO_S.partition_point(|up_to| *up_to < took.as_secs_f64());
        meter.durations[within].fetch_add(1, Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        meter.total_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Everything, in order of route and method.
    pub(crate) fn read(&self) -> Vec<Metered> {
        let meters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Metered> = meters.iter().map(|(asked, meter)| meter.read(asked)).collect();
        found.sort_by(|one, other| (&one.route, one.method).cmp(&(&other.route, other.method)));
        found
    }
}

impl Meter {
    fn read(&self, (route, method): &Asked) -> Metered {
        let mut within = [0; UP_TO_S.len() + 1];
        let mut so_far = 0;
        for (class, count) in within.iter_mut().zip(&self.durations) {
            so_far += count.load(Ordering::Relaxed);
            *class = so_far;
        }
        Metered {
            route: Arc::clone(route),
            method,
            answers: std::array::from_fn(|class| self.answers[class].load(Ordering::Relaxed)),
            within,
            total_s: Duration::from_micros(self.total_us.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// Methods that clients invent are one.
fn name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_route_method_and_class() {
        let (meters, route): (Meters, Arc<str>) = (Meters::default(), "/a/{b}".into());
        meters.count(&route, &Method::GET, 200, Duration::from_micros(900));
        meters.count(&route, &Method::GET, 204, Duration::from_millis(1));
        meters.count(&route, &Method::GET, 503, Duration::from_secs(60));
        meters.count(&route, &Method::from_bytes(b"FROB").unwrap(), 405, Duration::ZERO);
        let [gets, others] = &meters.read()[..] else { panic!("two") };
        assert_eq!((&*gets.route, gets.method, gets.answers), ("/a/{b}", "GET", [0, 0, 2, 0, 0, 1]));
        assert_eq!((gets.within[0], gets.within[13], gets.within[14]), (2, 2, 3));
        assert!((gets.total_s - 60.0019).abs() < 1e-9, "{}", gets.total_s);
        assert_eq!((others.method, others.answers[4]), ("other", 1));
    }
}
