//! One delivery over HTTP: the request, its time limit, and what the answer means.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_domain::escape_line;
use ledger_domain::event::WebhookUrl;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url};
use tokio::time::timeout;
use tracing::warn;

use crate::guard::{AddressGuard, GuardedResolver};
use crate::settings::Settings;

/// Maximum number of bytes of an answer that are read.
const EXCERPT_BYTES: usize = 1024;
/// Maximum time for them after a success, which they cannot change any more.
const EXCERPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time after which an idle connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The HTTP client cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the HTTP client of webhooks")]
pub struct SetupError(#[from] reqwest::Error);

/// An entry to deliver, with its signature.
pub(crate) struct Message<'a> {
    pub(crate) url: &'a WebhookUrl,
    /// Identity of the delivery, the same in each attempt.
    pub(crate) id: &'a str,
    /// Time of the attempt in seconds since 1970.
    pub(crate) timestamp: i64,
    pub(crate) signature: &'a str,
    pub(crate) body: Bytes,
}

/// Reason why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Status of the answer; `None`: no answer.
    pub(crate) status: Option<StatusCode>,
    /// Reason, without anything that the receiver chose.
    pub(crate) reason: String,
    /// Begin of the answer as one escaped line, for the log of attempts.
    pub(crate) excerpt: String,
    /// Time for which the receiver wants no other attempt.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// Creates a failure without an answer.
    pub(crate) fn without_answer(reason: impl ToString) -> Self {
        Self { status: None, reason: reason.to_string(), excerpt: String::new(), retry_after: None }
    }

    /// Returns true if the receiver wants no delivery any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE)
    }

    /// Returns the reason with the begin of the answer.
    pub(crate) fn detail(&self) -> String {
        if self.excerpt.is_empty() {
            self.reason.clone()
        } else {
            format!("{}: {}", self.reason, self.excerpt)
        }
    }
}

/// Sends entries to receivers.
#[derive(Debug)]
pub(crate) struct Sender {
    http: Client,
    guard: Arc<AddressGuard>,
    timeout: Duration,
}

impl Sender {
    pub(crate) fn new(settings: &Settings) -> Result<Self, SetupError> {
        let guard = Arc::new(AddressGuard::new(settings.allow_http, settings.allow_networks.clone()));
        let http = match client(&guard).build() {
            Ok(http) => http,
            // A small image has no certificate authorities, and a service may need none.
            Err(error) => {
                warn!(%error, "no certificate authorities for webhooks; deliveries over https will fail");
                client(&guard).tls_certs_only([]).build()?
            }
        };
        Ok(Self { http, guard, timeout: settings.timeout.min(Settings::MAX_TIMEOUT) })
    }

    /// Returns the maximum time of an attempt.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a message, and returns the status with which the receiver acknowledged it. `now` is the time from which a
    /// receiver's `Retry-After` counts.
    pub(crate) async fn send(&self, message: Message<'_>, now: DateTime<Utc>) -> Result<StatusCode, Failure> {
        match timeout(self.timeout, self.exchange(message, now)).await {
            Ok(result) => result,
            Err(_) => {
                let seconds = self.timeout.as_secs_f32();
                Err(Failure::without_answer(format!("no complete answer within {seconds} s")))
            }
        }
    }

    async fn exchange(&self, message: Message<'_>, now: DateTime<Utc>) -> Result<StatusCode, Failure> {
        let url = Url::parse(message.url.as_str());
        let url = url.map_err(|error| Failure::without_answer(format!("the URL is not valid: {error}")))?;
        self.guard.check_url(&url).map_err(Failure::without_answer)?;
        let request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", message.signature)
            .body(message.body);
        let response = request.send().await.map_err(|error| Failure::without_answer(chain(error)))?;
        let status = response.status();
        if status.is_success() {
            // The rest of a short answer lets the connection be used again.
            let _ = timeout(EXCERPT_TIMEOUT, excerpt(response)).await;
            return Ok(status);
        }
        let retry_after = retry_after(response.headers(), now);
        let reason = if status.is_redirection() {
            format!("the receiver answered {}, and redirects are not followed", status.as_u16())
        } else {
            format!("the receiver answered {}", status.as_u16())
        };
        Err(Failure { status: Some(status), reason, excerpt: excerpt(response).await, retry_after })
    }
}

/// Returns the settings of the client: it uses no proxy, which would look up names itself, and follows no redirect.
fn client(guard: &Arc<AddressGuard>) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("release-ledger/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .dns_resolver(Arc::new(GuardedResolver(Arc::clone(guard))))
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

/// Returns an error with its causes, without the URL: its query may be secret.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    escape_line(&text).into_owned()
}

/// Reads the begin of an answer, as one escaped line.
async fn excerpt(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < EXCERPT_BYTES {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        let room = EXCERPT_BYTES - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    escape_line(String::from_utf8_lossy(&bytes).trim()).into_owned()
}

/// Returns the delay that a receiver demands, in seconds or up to a time.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(value).ok()?;
    (until.with_timezone(&Utc) - now).to_std().ok()
}

#[cfg(test)]
mod tests;
