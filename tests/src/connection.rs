//! A connection without an HTTP client, for requests that no client would send.

use std::io::ErrorKind;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::WAIT_LIMIT;

/// A connection to a service.
pub struct RawConnection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// The status.
    pub status: u16,
    /// The status line and the header lines, in lower case.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// Returns a header; empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let values = self.head.lines().filter_map(|line| line.split_once(": "));
        values.filter(|(found, _)| *found == name).map(|(_, value)| value).next().unwrap_or_default()
    }

    /// Returns the body as JSON; null if it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the problem's type without its prefix; empty if the answer is not a problem.
    #[must_use]
    pub fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        kind.strip_prefix("urn:release-ledger:problem:").unwrap_or_default().to_owned()
    }
}

impl RawConnection {
    /// Connects to the service at a URL.
    pub(crate) async fn open(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.expect("connected");
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes. The service may have closed the connection before it received all of them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Ends the client's side of the connection. The service may have closed it before.
    pub async fn end(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Receives the next answer to a request that is not HEAD; `None` if the service closes the connection.
    pub async fn answer(&mut self) -> Option<RawAnswer> {
        self.answer_with_body(true).await
    }

    /// Receives the next answer to a HEAD request; `None` if the service closes the connection.
    pub async fn answer_to_head(&mut self) -> Option<RawAnswer> {
        self.answer_with_body(false).await
    }

    async fn answer_with_body(&mut self, has_body: bool) -> Option<RawAnswer> {
        let end = loop {
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if self.receive().await == 0 {
                assert!(self.received.is_empty(), "an incomplete head: {:?}", self.received);
                return None;
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect()).expect("ASCII").to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut answer = RawAnswer { status, head, body: Vec::new() };
        let length = answer.header("content-length").parse::<usize>().unwrap_or_default();
        let is_bodiless = !has_body || status < 200 || matches!(status, 204 | 304);
        if !is_bodiless {
            while self.received.len() < length && self.receive().await > 0 {}
            answer.body = self.received.drain(..length.min(self.received.len())).collect();
        }
        Some(answer)
    }

    /// Waits until the service closes the connection; returns what was received before.
    pub async fn closed(&mut self) -> String {
        while self.receive().await > 0 {}
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Returns true if nothing that was received is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.received.is_empty()
    }

    /// Receives some bytes; 0 if the service has closed or reset the connection.
    async fn receive(&mut self) -> usize {
        let read = timeout(WAIT_LIMIT, self.stream.read_buf(&mut self.received)).await;
        match read.expect("the service sends or closes") {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
}
