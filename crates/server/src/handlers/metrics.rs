//! `GET /metrics`: what an operator watches, in Prometheus' text format (exposition format 0.0.4).

mod called;

use std::fmt::{Display, Write as _};

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::{HeaderValue, header};
use treehold_engine::{Watched, attempt_state};

use crate::app::App;
use crate::meters::{Metered, UP_TO_S};
use crate::respond::Answer;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// All of it.
pub(crate) async fn read(State(app): State<App>) -> Answer {
    let text = text(&app.engine().watch().await?, &app.meters().read());
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// Metrics under way.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a metric. Its help is its documentation.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        _ = write!(self.0, "# HELP treehold_{name} {help}\n# TYPE treehold_{name} {kind}\n");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        _ = writeln!(self.0, "treehold_{name}{labels} {value}");
    }

    /// One histogram of a metric: how many took no longer than each of `up_to_s`, and all.
    fn durations(&mut self, name: &str, of: [(&str, &str); 2], up_to_s: &[f64], within: &[u64], total_s: f64) {
        let ends = up_to_s.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(within) {
            self.value(&format!("{name}_bucket"), &[of[0], of[1], ("le", &end)], count);
        }
        self.value(&format!("{name}_sum"), &of, total_s);
        self.value(&format!("{name}_count"), &of, within.last().unwrap_or(&0));
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help);
        self.value(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "counter", help);
        self.value(name, &[], value);
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn text(watched: &Watched, requests: &[Metered<'_>]) -> String {
    let mut page = Page::default();
    let vitals = &watched.vitals;
    let age = |at_ms: i64| seconds(watched.now_ms.saturating_sub(at_ms).max(0));
    page.metric("attempts", "gauge", "Commit attempts that are not final, by state.");
    for (state, count, _) in &vitals.attempts {
        page.value("attempts", &[("state", attempt_state(*state))], count);
    }
    let oldest = vitals.attempts.iter().map(|(.., created_ms)| age(*created_ms)).fold(0.0, f64::max);
    page.gauge(
        "oldest_attempt_age_seconds",
        "Age of the oldest commit attempt that is not final; 0: there is none.",
        oldest,
    );
    let help =
        "Branches that are elsewhere than their remote was last seen: commits that were not pushed or not pulled.";
    page.gauge("unpushed_branches", help, vitals.unpushed_branches);
    page.gauge("open_operations", "Operations that write to the store.", vitals.ops.map_or(0, |(count, _)| count));
    let silent = vitals.ops.map_or(0.0, |(_, heartbeat_ms)| age(heartbeat_ms));
    page.gauge("longest_silent_operation_seconds", "How long an open operation gave no sign of life, at most.", silent);
    page.gauge("condemned_objects", "Objects that nothing names and that wait for their grace.", vitals.condemned);
    page.gauge("doomed_keys", "Bucket keys whose bytes wait to be deleted.", vitals.doomed_keys);
    totals(&mut page, watched);
    jobs(&mut page, watched);
    cache(&mut page, watched);
    called::connections(&mut page, watched);
    called::write(&mut page, &treehold_calls::read(), &treehold_calls::EXPORTED);
    answers(&mut page, requests);
    page.0
}

fn answers(page: &mut Page, requests: &[Metered<'_>]) {
    page.metric(
        "requests_total",
        "counter",
        "Requests that this server answered, by route, method and class of status.",
    );
    for asked in requests {
        for (class, count) in asked.answers.iter().enumerate().filter(|(_, count)| **count > 0) {
            let labels = [("route", asked.route), ("method", asked.method), ("status", &format!("{class}xx"))];
            page.value("requests_total", &labels, count);
        }
    }
    page.metric("request_seconds", "histogram", "From a request's head to the beginning of its answer.");
    for asked in requests {
        let of = [("route", asked.route), ("method", asked.method)];
        page.durations("request_seconds", of, &UP_TO_S, &asked.within, asked.total_s);
    }
}

fn jobs(page: &mut Page, watched: &Watched) {
    let help = "When collection, verification and manifests were last done to the end, Unix time.";
    page.metric("job_finished_timestamp_seconds", "gauge", help);
    for job in &watched.jobs {
        if let Some(finished_ms) = job.finished_ms {
            page.value("job_finished_timestamp_seconds", &[("job", &job.name)], seconds(finished_ms));
        }
    }
    page.metric("job_running", "gauge", "Whether an instance is at it.");
    for job in &watched.jobs {
        page.value("job_running", &[("job", &job.name)], u8::from(job.running));
    }
    page.metric("job_report", "gauge", "The numbers of the last report: `errors` of verify are damage.");
    for job in &watched.jobs {
        for (number, value) in &job.numbers {
            page.value("job_report", &[("job", &job.name), ("number", number)], value);
        }
    }
}

fn totals(page: &mut Page, watched: &Watched) {
    let Some(totals) = &watched.totals else { return };
    page.gauge("store_objects", "Objects in the store, each once, when they were last counted.", totals.objects);
    page.gauge("store_content_bytes", "Sizes of these objects together.", totals.content_bytes);
    page.gauge("store_stored_bytes", "What these objects take in the bucket.", totals.stored_bytes);
    let help = "What all projects hold, as quotas count it: what would be stored if nothing were shared or packed.";
    page.gauge("projects_held_bytes", help, totals.held_bytes);
    let help = "When this server last counted what is stored, Unix time.";
    page.gauge("store_counted_timestamp_seconds", help, seconds(totals.counted_ms));
}

fn cache(page: &mut Page, watched: &Watched) {
    let Some(cache) = &watched.cache else { return };
    page.metric("cache_reads_total", "counter", "Objects asked for, by where they were found; `bucket`: nowhere near.");
    for (tier, count) in [("memory", cache.memory_hits), ("disk", cache.disk_hits), ("bucket", cache.misses)] {
        page.value("cache_reads_total", &[("tier", tier)], count);
    }
    page.counter("cache_shared_total", "Objects that came with somebody else's request.", cache.shared);
    page.gauge("cache_memory_bytes", "What the cache holds in memory.", cache.memory_bytes);
    if let Some(disk) = &cache.disk {
        page.gauge("cache_disk_bytes", "What the cache holds on disk.", disk.bytes);
        page.counter(
            "cache_disk_failures_total",
            "Writes to and reads from the cache's disk that failed.",
            disk.failures,
        );
    }
}

#[cfg(test)]
mod tests {
    use treehold_engine::{Totals, WatchedJob};

    use super::*;

    fn asked() -> Metered<'static> {
        let mut within = [3; UP_TO_S.len() + 1];
        within[..4].copy_from_slice(&[0, 2, 2, 2]);
        let answers = [0, 0, 3, 0, 0, 0];
        Metered { route: "/files/{project}", method: "GET", answers, within, total_s: 1.25 }
    }

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let vitals = treehold_engine::Vitals { unpushed_branches: 2, ops: Some((1, 4_000)), ..Default::default() };
        let job = WatchedJob {
            name: "a \"b\"\\".to_owned(),
            finished_ms: Some(1_500),
            running: true,
            numbers: vec![("errors".to_owned(), 3)],
        };
        let pool = treehold_engine::Connections { of: "any", max: 16, open: 3, idle: 1 };
        let (content_bytes, stored_bytes, held_bytes) = (9, 7, 30);
        let totals = Totals { counted_ms: 2_000, objects: 3, content_bytes, stored_bytes, held_bytes };
        let page = text(
            &Watched {
                now_ms: 10_000,
                vitals,
                connections: vec![pool],
                jobs: vec![job],
                totals: Some(totals),
                cache: None,
            },
            &[asked()],
        );
        for line in [
            "treehold_requests_total{route=\"/files/{project}\",method=\"GET\",status=\"2xx\"} 3",
            "treehold_request_seconds_bucket{route=\"/files/{project}\",method=\"GET\",le=\"0.0025\"} 2",
            "treehold_request_seconds_bucket{route=\"/files/{project}\",method=\"GET\",le=\"+Inf\"} 3",
            "treehold_request_seconds_sum{route=\"/files/{project}\",method=\"GET\"} 1.25",
            "treehold_request_seconds_count{route=\"/files/{project}\",method=\"GET\"} 3",
            "treehold_unpushed_branches 2",
            "treehold_store_objects 3",
            "treehold_store_content_bytes 9",
            "treehold_store_stored_bytes 7",
            "treehold_projects_held_bytes 30",
            "treehold_store_counted_timestamp_seconds 2",
            "treehold_database_connections{for=\"any\",state=\"in_use\"} 2",
            "treehold_database_connections{for=\"any\",state=\"idle\"} 1",
            "treehold_database_connections_max{for=\"any\"} 16",
            "treehold_oldest_attempt_age_seconds 0",
            "treehold_longest_silent_operation_seconds 6",
            "treehold_job_finished_timestamp_seconds{job=\"a \\\"b\\\"\\\\\"} 1.5",
            "treehold_job_report{job=\"a \\\"b\\\"\\\\\",number=\"errors\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("treehold_") && value.parse::<f64>().is_ok(), "{line}");
        }
        let helped = |line: &str| line.strip_prefix("# HELP ").is_none_or(|help| help.ends_with('.'));
        assert!(page.lines().all(helped));
    }
}
