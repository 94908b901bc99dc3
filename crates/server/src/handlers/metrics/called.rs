//! Calls out of this process: the bucket, the database, remotes, the collector of traces.

use std::sync::atomic::Ordering::Relaxed;

use treehold_calls::{Counted, Exported, Kind, Outcome, UP_TO_S};
use treehold_engine::Watched;

use super::Page;

/// All of them.
pub(super) fn write(page: &mut Page, calls: &[Counted], exported: &Exported) {
    let of = |kind| calls.iter().filter(move |call| call.kind == kind);
    let help =
        "Calls to the bucket, each try, from their beginning to their end; what the cache answers is not among them.";
    durations(page, "store_call_seconds", help, of(Kind::Store));
    let store: Vec<&Counted> = of(Kind::Store).collect();
    page.counter(
        "store_read_bytes_total",
        "Content that came from the bucket.",
        sum(&store, |call| call.received_bytes),
    );
    page.counter("store_written_bytes_total", "Content that went to the bucket.", sum(&store, |call| call.sent_bytes));
    let help = "Calls to the bucket that were made because one before failed.";
    repeated(page, "store_retries_total", help, of(Kind::Store));
    let help =
        "Calls to the database, from asking for a connection to the answer; those that were answered together are one.";
    durations(page, "catalog_call_seconds", help, of(Kind::Catalog));
    let help = "Transactions that were run again, since another one was in their way.";
    repeated(page, "catalog_retries_total", help, of(Kind::Catalog));
    let help = "Uses of git remotes, to the end of what they send, and calls to GitHub's API.";
    durations(page, "remote_call_seconds", help, of(Kind::Remote));
    page.metric("trace_spans_total", "counter", "Spans for the collector of traces; `dropped`: the queue was full.");
    for (outcome, count) in [("sent", &exported.sent), ("failed", &exported.failed), ("dropped", &exported.dropped)] {
        page.value("trace_spans_total", &[("outcome", outcome)], count.load(Relaxed));
    }
}

/// The database's connections.
pub(super) fn connections(page: &mut Page, watched: &Watched) {
    let help =
        "Connections to the database of this process, by use and state; where `in_use` is the maximum, others wait.";
    page.metric("database_connections", "gauge", help);
    for pool in &watched.connections {
        let idle = pool.idle.min(pool.open);
        for (state, count) in [("in_use", pool.open - idle), ("idle", idle)] {
            page.value("database_connections", &[("for", pool.of), ("state", state)], count);
        }
    }
    page.metric("database_connections_max", "gauge", "How many there may be.");
    for pool in &watched.connections {
        page.value("database_connections_max", &[("for", pool.of)], pool.max);
    }
}

fn sum(calls: &[&Counted], what: impl Fn(&Counted) -> u64) -> u64 {
    calls.iter().map(|call| what(call)).sum()
}

fn repeated<'a>(page: &mut Page, name: &str, help: &str, calls: impl Iterator<Item = &'a Counted>) {
    page.metric(name, "counter", help);
    for call in calls.filter(|call| call.repeated > 0) {
        page.value(name, &[("operation", call.operation)], call.repeated);
    }
}

fn durations<'a>(page: &mut Page, name: &str, help: &str, calls: impl Iterator<Item = &'a Counted>) {
    page.metric(name, "histogram", help);
    for call in calls {
        for (outcome, ended) in
            Outcome::ALL.iter().zip(&call.ended).filter(|(_, ended)| ended.within[UP_TO_S.len()] > 0)
        {
            let of = [("operation", call.operation), ("outcome", outcome.name())];
            page.durations(name, of, &UP_TO_S, &ended.within, ended.total_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use treehold_calls::Ended;

    use super::*;

    #[test]
    fn calls_are_shown_by_kind_operation_and_outcome() {
        let mut within = [2; UP_TO_S.len() + 1];
        within[0] = 1;
        let ended = [Ended { within, total_s: 0.5 }, Ended::default(), Ended::default()];
        let call = |kind, operation| Counted { kind, operation, ended, received_bytes: 7, sent_bytes: 9, repeated: 3 };
        let calls = [
            call(Kind::Store, "get"),
            call(Kind::Store, "put"),
            call(Kind::Catalog, "read"),
            call(Kind::Remote, "git push"),
        ];
        let mut page = Page::default();
        write(&mut page, &calls, &treehold_calls::EXPORTED);
        for line in [
            "treehold_store_call_seconds_bucket{operation=\"get\",outcome=\"ok\",le=\"0.00025\"} 1",
            "treehold_store_call_seconds_bucket{operation=\"get\",outcome=\"ok\",le=\"+Inf\"} 2",
            "treehold_store_call_seconds_sum{operation=\"put\",outcome=\"ok\"} 0.5",
            "treehold_store_call_seconds_count{operation=\"put\",outcome=\"ok\"} 2",
            "treehold_store_read_bytes_total 14",
            "treehold_store_written_bytes_total 18",
            "treehold_store_retries_total{operation=\"get\"} 3",
            "treehold_catalog_call_seconds_count{operation=\"read\",outcome=\"ok\"} 2",
            "treehold_remote_call_seconds_count{operation=\"git push\",outcome=\"ok\"} 2",
        ] {
            assert!(page.0.lines().any(|found| found == line), "{line} is not in\n{}", page.0);
        }
        assert!(!page.0.contains("outcome=\"error\""), "what never happened is left out");
    }
}
