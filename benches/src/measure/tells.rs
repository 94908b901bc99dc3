//! Whether time tells what other projects have: the same requests with content that another project committed and with content that
//! nobody has, in turn, compared by the two-sample Kolmogorov-Smirnov test (Smirnov, 1948).

use std::time::Duration;

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::Bench;
use super::autosave::{SAVE, save};
use crate::plan::Scenario;
use crate::report::medians_ms;
use crate::server::Http;
use crate::setup::API_KEY;

/// Over what a row of the database takes: it goes to the bucket.
const LARGE: usize = 200_000;
/// Below this the two kinds would be told apart by chance once in a hundred runs.
const LEVEL: f64 = 0.01;

/// Refused keys for each of the others: they take little time.
const REFUSALS: usize = 5;

#[derive(Debug, Clone, Copy)]
enum Verb {
    Autosave(usize),
    File,
}

/// Each verb with known and with new content, one after the other, by a project that has neither.
pub async fn all(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<()> {
    bench.sheet.begin(Scenario::Tells);
    for (verb, name) in [
        (Verb::Autosave(SAVE), "autosave of 4 KB"),
        (Verb::Autosave(LARGE), "autosave of 200 KB"),
        (Verb::File, "PUT of a file of 4 KB"),
    ] {
        let (known, new) = pairs(bench, http, verb).await?;
        let runs = |times: &[Duration]| medians_ms(&[times.to_vec()]);
        bench.sheet.add(format!("{name}, another project has it, p50"), "ms", runs(&known));
        bench.sheet.add(format!("{name}, nobody has it, p50"), "ms", runs(&new));
        let p = kolmogorov_smirnov(&known, &new);
        bench.sheet.add(format!("{name}: chance of such a difference between equals"), "", vec![p]).at_least(LEVEL);
    }
    let (near, far) = refused(bench, http).await?;
    bench.sheet.add("key that is nearly right, refused, p50", "ms", medians_ms(std::slice::from_ref(&near)));
    bench.sheet.add("key that is not, refused, p50", "ms", medians_ms(std::slice::from_ref(&far)));
    let p = kolmogorov_smirnov(&near, &far);
    bench.sheet.add("refused keys: chance of such a difference between equals", "", vec![p]).at_least(LEVEL);
    Ok(())
}

/// The times of refusing keys that are wrong in their last character, and of such as are wrong in all.
async fn refused(bench: &mut Bench<'_>, http: &Http) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let near = format!("{}~", &API_KEY[..API_KEY.len() - 1]);
    let far: String = API_KEY.chars().map(|_| '~').collect();
    let (mut nears, mut fars) = (Vec::new(), Vec::new());
    for n in 0..bench.plan.singles * REFUSALS {
        // Who goes first changes, too.
        for second in [n % 2 == 1, n % 2 == 0] {
            let (key, times) = if second { (&far, &mut fars) } else { (&near, &mut nears) };
            let reply = http.send(http.request_as(key, Method::GET, "/projects")).await?;
            ensure!(reply.status == 401, "a wrong key was answered with {}", reply.status);
            times.push(reply.took);
        }
    }
    Ok((nears, fars))
}

async fn pairs(bench: &mut Bench<'_>, http: &Http, verb: Verb) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let (theirs, ours) = (project(http).await?, project(http).await?);
    let size = match verb {
        Verb::Autosave(size) => size,
        Verb::File => SAVE,
    };
    let contents: Vec<_> =
        (0..bench.plan.singles).map(|_| [bench.chance.content(size), bench.chance.content(size)]).collect();
    let actions: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(n, [known, _])| {
            json!({"action": "create", "path": format!("{n}.txt"), "content": String::from_utf8_lossy(known)})
        })
        .collect();
    let author = json!({"name": "Ann Author", "email": "ann@example.org"});
    let body = json!({"message": "Begin", "author": author, "actions": actions});
    http.send(http.json(Method::POST, &format!("/projects/{theirs}/commits"), &body)).await?.ok()?;
    let user = Uuid::new_v4();
    let (mut known, mut new) = (Vec::new(), Vec::new());
    for (n, [there, fresh]) in contents.iter().enumerate() {
        // Who goes first changes, too.
        for second in [n % 2 == 1, n % 2 == 0] {
            let (content, times) = if second { (fresh, &mut new) } else { (there, &mut known) };
            let path = format!("{n}-{}.txt", u8::from(second));
            times.push(match verb {
                Verb::Autosave(_) => save(http, &ours, user, &path, content).await?.1,
                Verb::File => {
                    let url = format!("/files/{ours}/{path}?message=m");
                    let reply = http.send(http.request(Method::PUT, &url).body(content.clone())).await?;
                    reply.ok()?;
                    reply.took
                }
            });
        }
    }
    Ok((known, new))
}

async fn project(http: &Http) -> anyhow::Result<String> {
    let made = http.send(http.json(Method::POST, "/projects", &json!({}))).await?.json()?;
    let id = made["id"].as_str().unwrap_or_default().to_owned();
    ensure!(!id.is_empty(), "a project without id: {made}");
    Ok(id)
}

/// The chance that two samples of one distribution differ as much as these, by the limit distribution.
fn kolmogorov_smirnov(a: &[Duration], b: &[Duration]) -> f64 {
    let sorted = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times
    };
    let (a, b) = (sorted(a), sorted(b));
    let below =
        |times: &[Duration], at: Duration| times.partition_point(|time| *time <= at) as f64 / times.len() as f64;
    let distance = a.iter().chain(&b).map(|at| (below(&a, *at) - below(&b, *at)).abs()).fold(0.0, f64::max);
    let lambda = distance * ((a.len() * b.len()) as f64 / (a.len() + b.len()) as f64).sqrt();
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |k: i32| f64::from(k % 2 * 4 - 2) * (-2.0 * f64::from(k * k) * lambda * lambda).exp();
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        milliseconds.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn equals_are_equal_and_others_are_not() {
        let (even, odd) = (times((0..200).map(|n| 2 * n)), times((0..200).map(|n| 2 * n + 1)));
        assert!(kolmogorov_smirnov(&even, &odd) > 0.99);
        assert!(kolmogorov_smirnov(&even, &times((0..200).map(|n| 2 * n + 100))) < 0.001);
    }

    /// The critical value of the table: 1.36 / sqrt(n / 2) is passed by chance once in twenty times.
    #[test]
    fn the_table_of_critical_values_agrees() {
        let n = 1_000;
        let shift = (1.358 / (n as f64 / 2.0).sqrt() * n as f64).round() as u64;
        let p = kolmogorov_smirnov(&times(0..n), &times((0..n).map(|at| at + shift)));
        assert!((p - 0.05).abs() < 0.005, "{p}");
    }
}
