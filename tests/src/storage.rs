//! A private object storage for a test, which speaks S3 over HTTP.

use std::process::Stdio;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::free_port;
use crate::limits::WAIT_LIMIT;

/// Interval between requests while the storage starts.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A `moto_server` with one bucket, in memory. It is killed on drop.
pub struct Storage {
    url: String,
    // Keeps the process running until the storage is dropped.
    _child: Child,
}

impl Storage {
    /// The name of the bucket.
    pub const BUCKET: &str = "ledgers";

    /// Starts the server and creates the bucket.
    pub async fn start() -> Self {
        let port = free_port();
        let child = Command::new("moto_server")
            .args(["--host=127.0.0.1", &format!("--port={port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("moto_server starts: ops/test installs it, or `pip install 'moto[s3]' flask flask-cors`");
        let url = format!("http://127.0.0.1:{port}");
        let storage = Self { url, _child: child };
        let created = async {
            loop {
                match storage.request(Method::PUT, "").send().await {
                    Ok(response) => return assert!(response.status().is_success(), "{}", response.status()),
                    Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        };
        timeout(WAIT_LIMIT, created).await.expect("the storage starts");
        storage
    }

    /// Builds a request for a path in the bucket. The server requires a signature but does not check it.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = reqwest::Client::new().request(method, format!("{}/{}{path}", self.url, Self::BUCKET));
        let signature = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
            SignedHeaders=host, Signature=0";
        request.header("authorization", signature)
    }

    /// Returns the environment variables with which programs connect to the storage.
    #[must_use]
    pub fn variables(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }

    /// Lists the names of the objects.
    pub async fn objects(&self) -> Vec<String> {
        let response = self.request(Method::GET, "?list-type=2").send().await;
        let text = response.expect("an answer").text().await.expect("a list");
        text.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
    }

    /// Returns an object's bytes.
    pub async fn object(&self, name: &str) -> Vec<u8> {
        let response = self.request(Method::GET, &format!("/{name}")).send().await.expect("an answer");
        assert!(response.status().is_success(), "{name}: {}", response.status());
        response.bytes().await.expect("an object").to_vec()
    }

    /// Writes or overwrites an object.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) {
        let request = self.request(Method::PUT, &format!("/{name}")).body(bytes);
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{name}: {}", response.status());
    }
}
