//! The HTTP API as any caller would use it.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use treehold_engine::Secret;

use crate::failure::Failure;
use crate::output::clean;

/// A caller with its key.
#[derive(Debug)]
pub struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    key: Secret,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    call: String,
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Api {
    /// A caller of the server at this address.
    pub fn new(address: std::net::SocketAddr, key: Secret) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, base: format!("http://{address}"), key }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string().into()).await
    }

    /// `PUT` of a file, on condition that the caller's view still has the blob `seen`.
    pub async fn put(&self, path: &str, seen: Option<&str>, text: &str) -> Result<Answer, Failure> {
        let condition = seen.map(|oid| format!("\"{oid}\""));
        let headers: Vec<(&str, &str)> = condition.iter().map(|oid| ("if-match", oid.as_str())).collect();
        self.send(Method::PUT, path, &headers, text.to_owned().into()).await
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer, Failure> {
        let call = format!("{method} {path}");
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Failure::failed(format!("{call} was not answered")).because(error)
        };
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header("x-internal-api-key", self.key.expose());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body)).map_err(|error| failed(error.into()))?;
        let response = self.client.request(request).await.map_err(|error| failed(error.into()))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed(error.into()))?.to_bytes();
        Ok(Answer { call, status: parts.status, headers: parts.headers, body })
    }
}

impl Answer {
    /// The answer, if its status is this one.
    pub fn expect(self, status: u16) -> Result<Self, Failure> {
        if self.status.as_u16() == status {
            return Ok(self);
        }
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let detail = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("no reason given");
        Err(Failure::failed(format!("{} answered {}: {}", self.call, self.status.as_u16(), clean(detail))))
    }

    /// The answer, if it is a success.
    pub fn ok(self) -> Result<Self, Failure> {
        let status = if self.status.is_success() { self.status.as_u16() } else { 200 };
        self.expect(status)
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::failed(format!("{} did not answer JSON", self.call)).because(error))
    }

    /// The oid of the `ETag`.
    pub fn etag(&self) -> Option<String> {
        let value = self.headers.get("etag")?.to_str().ok()?;
        Some(value.trim_matches('"').to_owned())
    }
}
