//! One delivery over HTTP: the request, its time limit, and what the answer means.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_domain::event::WebhookUrl;
use ledger_domain::{error_chain, escape_line};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url};
use tokio::time::timeout;
use tracing::warn;

use crate::guard::{AddressGuard, Forbidden, GuardedResolver, LookupError};
use crate::settings::Settings;

/// Maximum number of bytes of an answer that are read.
const EXCERPT_BYTES: usize = 1024;
/// Maximum time for them, after the head of the answer.
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

/// Kind of a failure. Nothing in it is chosen by the receiver, so that the ledger can record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// The settings of the service have no such secret.
    Secret,
    /// The URL cannot be used.
    Url,
    /// Deliveries must not go to the address.
    Address,
    /// The name cannot be resolved.
    Dns,
    /// No connection.
    Connect,
    /// The connection cannot be encrypted, or the certificate is not trusted.
    Tls,
    /// No answer in time.
    Timeout,
    /// The connection failed before the answer, or the answer is no HTTP.
    Http,
    /// The answer has this status.
    Status(StatusCode),
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Secret => "secret",
            Self::Url => "url",
            Self::Address => "address",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Http => "http",
            Self::Status(status) => return write!(f, "status {}", status.as_u16()),
        };
        f.write_str(name)
    }
}

/// Reason why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Kind.
    pub(crate) class: FailureClass,
    /// Reason, without the body of the answer.
    pub(crate) reason: String,
    /// Begin of the answer as one escaped line, for the log of attempts. Empty for an address that is not public: the log
    /// must not show what services for the network of this one answer.
    pub(crate) excerpt: String,
    /// Time for which the receiver wants no other attempt.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// Creates a failure without an answer.
    pub(crate) fn without_answer(class: FailureClass, reason: impl ToString) -> Self {
        Self { class, reason: reason.to_string(), excerpt: String::new(), retry_after: None }
    }

    /// Returns the status of the answer; `None`: no answer.
    pub(crate) const fn status(&self) -> Option<StatusCode> {
        match self.class {
            FailureClass::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Returns true if the receiver wants no delivery any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.status() == Some(StatusCode::GONE)
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

/// Client with the guard of its connections.
#[derive(Debug)]
struct GuardedClient {
    http: Client,
    guard: Arc<AddressGuard>,
}

/// Sends entries to receivers.
#[derive(Debug)]
pub(crate) struct Sender {
    /// Clients of the ports that networks of the settings have as their only one: a resolver does not know the port.
    by_port: BTreeMap<u16, GuardedClient>,
    /// Client of all other ports.
    other: GuardedClient,
    timeout: Duration,
}

impl GuardedClient {
    fn new(settings: &Settings, port: Option<u16>) -> Result<Self, SetupError> {
        let guard = Arc::new(AddressGuard::new(settings.allow_http, &settings.allow_networks, port));
        let http = match client(&guard).build() {
            Ok(http) => http,
            // A small image has no certificate authorities, and a service may need none.
            Err(error) => {
                warn!(%error, "no certificate authorities for webhooks; deliveries over https will fail");
                client(&guard).tls_certs_only([]).build()?
            }
        };
        Ok(Self { http, guard })
    }
}

impl Sender {
    pub(crate) fn new(settings: &Settings) -> Result<Self, SetupError> {
        let ports: BTreeSet<u16> =
            settings.allow_networks.iter().filter_map(|network| network.port()).collect();
        let client = |port| GuardedClient::new(settings, Some(port)).map(|client| (port, client));
        let by_port = ports.into_iter().map(client);
        Ok(Self {
            by_port: by_port.collect::<Result<_, SetupError>>()?,
            other: GuardedClient::new(settings, None)?,
            timeout: settings.timeout.min(Settings::MAX_TIMEOUT),
        })
    }

    /// Returns the maximum time of an attempt.
    pub(crate) const fn max_duration(&self) -> Duration {
        self.timeout.saturating_add(EXCERPT_TIMEOUT)
    }

    /// Sends a message, and returns the status with which the receiver acknowledged it. `now` is the time from which a
    /// receiver's `Retry-After` counts.
    pub(crate) async fn send(&self, message: Message<'_>, now: DateTime<Utc>) -> Result<StatusCode, Failure> {
        let url = Url::parse(message.url.as_str()).map_err(|error| {
            Failure::without_answer(FailureClass::Url, format!("the URL is not valid: {error}"))
        })?;
        let port = url.port_or_known_default();
        let client = port.and_then(|port| self.by_port.get(&port)).unwrap_or(&self.other);
        let forbidden = |error| Failure::without_answer(FailureClass::Address, error);
        client.guard.check_url(&url).map_err(forbidden)?;
        let request = client
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", message.signature)
            .body(message.body);
        let response = match timeout(self.timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure::without_answer(class(&error), chain(error))),
            Err(_) => {
                let reason = format!("no answer within {} s", self.timeout.as_secs_f32());
                return Err(Failure::without_answer(FailureClass::Timeout, reason));
            }
        };
        let status = response.status();
        let retry_after = retry_after(response.headers(), now);
        let is_public = response.remote_addr().is_some_and(|address| AddressGuard::is_public(address.ip()));
        // Reading the rest of a short answer lets the connection be used again.
        let excerpt = excerpt(response).await;
        if status.is_success() {
            return Ok(status);
        }
        let reason = if status.is_redirection() {
            format!("the receiver answered {}, and redirects are not followed", status.as_u16())
        } else {
            format!("the receiver answered {}", status.as_u16())
        };
        let excerpt = if is_public { excerpt } else { String::new() };
        Err(Failure { class: FailureClass::Status(status), reason, excerpt, retry_after })
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
    escape_line(&error_chain(&error.without_url())).into_owned()
}

/// Returns true for an error of a TLS handshake.
fn is_handshake(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        || error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()).is_some_and(is_handshake)
}

/// Returns the class of an error without an answer.
fn class(error: &reqwest::Error) -> FailureClass {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<Forbidden>() {
            return FailureClass::Address;
        }
        if cause.is::<LookupError>() {
            return FailureClass::Dns;
        }
        if error.is_connect() && cause.downcast_ref::<io::Error>().is_some_and(is_handshake) {
            return FailureClass::Tls;
        }
        source = cause.source();
    }
    if error.is_timeout() {
        FailureClass::Timeout
    } else if error.is_connect() {
        FailureClass::Connect
    } else {
        FailureClass::Http
    }
}

/// Reads the begin of an answer, as one escaped line: what arrives in time.
async fn excerpt(mut response: Response) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() < EXCERPT_BYTES {
            let Ok(Some(chunk)) = response.chunk().await else { break };
            let room = EXCERPT_BYTES - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    };
    // A timeout is no error: the status is known.
    let _ = timeout(EXCERPT_TIMEOUT, read).await;
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
