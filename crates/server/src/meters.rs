//! Requests, counted: by route, method and class of status, and how long each took until its answer began.
//!
//! Routes are known from the start, and each has counters of its own: counting takes no lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use treehold_calls::Durations;

/// Upper ends of the classes of durations, seconds; longer ones are in the last class, without end.
pub(crate) const UP_TO_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What is no route.
pub(crate) const NO_ROUTE: &str = "-";
/// Methods that HTTP knows; those that clients invent are one.
const METHODS: [&str; 8] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "other"];

/// Counters of all routes, by their templates (never a URL).
#[derive(Debug)]
pub(crate) struct Meters(BTreeMap<String, [Meter; METHODS.len()]>);

/// One route and method.
#[derive(Debug)]
struct Meter {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
    durations: Durations<{ UP_TO_S.len() + 1 }>,
}

/// What a route and method came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Metered<'a> {
    pub route: &'a str,
    pub method: &'static str,
    /// Answers with a status that begins with 0 to 5.
    pub answers: [u64; 6],
    /// Answers that took no longer than each of [`UP_TO_S`], and all.
    pub within: [u64; UP_TO_S.len() + 1],
    pub total_s: f64,
}

impl Meters {
    /// For these routes; all others are [`NO_ROUTE`].
    pub(crate) fn new(routes: impl IntoIterator<Item = String>) -> Self {
        let routes = routes.into_iter().chain([NO_ROUTE.to_owned()]);
        Self(routes.map(|route| (route, std::array::from_fn(|_| Meter::new()))).collect())
    }

    /// One request was answered.
    pub(crate) fn count(&self, route: &str, method: &Method, status: u16, took: Duration) {
        let Some(meters) = self.0.get(route).or_else(|| self.0.get(NO_ROUTE)) else { return };
        let method = name(method);
        let meter = &meters[METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1)];
        let class = usize::from(status / 100).min(meter.answers.len() - 1);
        meter.answers[class].fetch_add(1, Ordering::Relaxed);
        meter.durations.count(took);
    }

    /// Everything that was asked for, in order of route and method.
    pub(crate) fn read(&self) -> Vec<Metered<'_>> {
        let all = self.0.iter().flat_map(|(route, meters)| {
            METHODS.iter().zip(meters).map(move |(method, meter)| meter.read(route, method))
        });
        all.filter(|metered| metered.answers.iter().any(|count| *count > 0)).collect()
    }
}

impl Meter {
    fn new() -> Self {
        Self { answers: Default::default(), durations: Durations::new(&UP_TO_S) }
    }

    fn read<'a>(&self, route: &'a str, method: &'static str) -> Metered<'a> {
        Metered {
            route,
            method,
            answers: std::array::from_fn(|class| self.answers[class].load(Ordering::Relaxed)),
            within: self.durations.within(),
            total_s: self.durations.total_s(),
        }
    }
}

/// Methods that clients invent are one.
pub(crate) fn name(method: &Method) -> &'static str {
    let method = method.as_str();
    METHODS.into_iter().find(|known| *known == method && *known != "other").unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_route_method_and_class() {
        let meters = Meters::new(["/a/{b}".to_owned(), "/never".to_owned()]);
        meters.count("/a/{b}", &Method::GET, 200, Duration::from_micros(900));
        meters.count("/a/{b}", &Method::GET, 204, Duration::from_millis(1));
        meters.count("/a/{b}", &Method::GET, 503, Duration::from_secs(60));
        meters.count("/a/{b}", &Method::from_bytes(b"FROB").unwrap(), 405, Duration::ZERO);
        meters.count("/what/a/caller/made/up", &Method::from_bytes(b"other").unwrap(), 404, Duration::ZERO);
        let [none, gets, others] = &meters.read()[..] else { panic!("three") };
        assert_eq!((gets.route, gets.method, gets.answers), ("/a/{b}", "GET", [0, 0, 2, 0, 0, 1]));
        assert_eq!((gets.within[0], gets.within[13], gets.within[14]), (2, 2, 3));
        assert!((gets.total_s - 60.0019).abs() < 1e-9, "{}", gets.total_s);
        assert_eq!((others.method, others.answers[4]), ("other", 1));
        assert_eq!((none.route, none.method, none.answers[4]), (NO_ROUTE, "other", 1));
    }
}
