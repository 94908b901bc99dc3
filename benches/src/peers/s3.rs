//! A bucket, as any program would use it.

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

/// One bucket and a client of its own.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    /// Opens no connection yet.
    pub fn connect(endpoint: &str, name: &str, access_key: &str, secret_key: &str) -> Self {
        let config = aws_sdk_s3::config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(access_key, secret_key, None, None, "bench"))
            .force_path_style(true)
            .build();
        Self { client: Client::from_conf(config), name: name.to_owned() }
    }

    /// Writes a value.
    pub async fn put(&self, key: &str, value: Vec<u8>) -> anyhow::Result<()> {
        let request = self.client.put_object().bucket(&self.name).key(key).body(value.into());
        request.send().await.with_context(|| format!("put {key}"))?;
        Ok(())
    }

    /// Reads a value.
    pub async fn get(&self, key: &str) -> anyhow::Result<Vec<u8>> {
        let request = self.client.get_object().bucket(&self.name).key(key);
        let answer = request.send().await.with_context(|| format!("get {key}"))?;
        Ok(answer.body.collect().await.with_context(|| format!("read {key}"))?.to_vec())
    }
}
