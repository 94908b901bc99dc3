//! Branches, tags and what they were.

use reqwest::Method;

use crate::error::Result;
use crate::project::Project;
use crate::streams::Pages;
use crate::transport::Request;
use crate::types::{PromoteRequest, Promoted, RefList, RefRequest, RefView, ReflogPage};

impl Project {
    /// Refs whose full name starts with `prefix`, in byte order.
    pub fn refs(&self, prefix: Option<&str>, limit: Option<usize>) -> Pages<RefList> {
        let request = Request::get(self.route("/refs")).query("prefix", prefix).query("limit", limit);
        Pages::new(&self.transport, request)
    }

    /// Creates or moves a ref, such as `heads/main`, by compare-and-swap where `expected_oid` is given.
    pub async fn write_ref(&self, name: &str, request: &RefRequest) -> Result<RefView> {
        let route = self.route("/refs").path(name.as_bytes());
        // What is expected does not hold a second time.
        let repeatable = request.expected_oid.is_none();
        self.transport.json(&Request::new(Method::PUT, route).json(request).repeatable(repeatable)).await
    }

    /// Deletes a ref; where `expected` is given, only if that is what it is.
    pub async fn delete_ref(&self, name: &str, expected: Option<&str>) -> Result<()> {
        let route = self.route("/refs").path(name.as_bytes());
        let request = Request::new(Method::DELETE, route).query("expected_oid", expected).repeatable(false);
        self.transport.done(&request).await
    }

    /// Keeps an ephemeral branch, or moves another one to where it is.
    pub async fn promote(&self, request: &PromoteRequest) -> Result<Promoted> {
        self.transport.json(&Request::post(self.route("/promote")).json(request)).await
    }

    /// What refs were, newest first.
    pub fn reflog(&self, name: Option<&str>, limit: Option<usize>) -> Pages<ReflogPage> {
        Pages::new(&self.transport, Request::get(self.route("/reflog")).query("ref", name).query("limit", limit))
    }
}
