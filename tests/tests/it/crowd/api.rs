//! Requests to one of two servers, again while it is busy, as every client should send them.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;
use uuid::Uuid;

use crate::deployment::{API_KEY, REMOTE_TOKEN};

/// How often a server may ask to come back.
const PATIENCE: usize = 400;

/// Both servers, and the project on them.
pub struct Api {
    pub client: reqwest::Client,
    pub servers: [String; 2],
    pub project: Uuid,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Api {
    pub fn request(&self, at: usize, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let request = self.client.request(method, format!("{}{path}", self.servers[at]));
        request.header("X-Internal-API-Key", API_KEY).header("X-Remote-Token", REMOTE_TOKEN)
    }

    /// Sends until there is an answer that is not "come back later".
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        for _ in 0..PATIENCE {
            let response = request.try_clone().expect("a body in memory").send().await.expect("an answer");
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.text().await.expect("a text");
            let answer = Answer { status, headers, body };
            let later = [429, 503].contains(&status) || answer.code() == "push_unknown";
            if !later {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("busy for ever")
    }

    pub async fn get(&self, at: usize, path: &str) -> Answer {
        self.send(self.request(at, "GET", path)).await
    }

    pub async fn post(&self, at: usize, path: &str, key: &str, body: &Value) -> Answer {
        let request = self.request(at, "POST", path).header("Content-Type", "application/json");
        self.send(request.header("Idempotency-Key", key).body(body.to_string())).await
    }

    /// All pages of a list.
    pub async fn all(&self, at: usize, path: &str, list: &str) -> Vec<Value> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let more = if path.contains('?') { '&' } else { '?' };
            let page = self.get(at, &format!("{path}{more}limit=100{cursor}")).await.json(200);
            found.extend(page[list].as_array().expect("a list").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    }
}
