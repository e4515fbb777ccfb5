//! The HTTP client of the service.

mod flags;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ledger_access::ApiToken;
use ledger_api_types::{EnvironmentsBody, EventResult, ProblemBody};
use ledger_domain::{TenantName, escape_line};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

pub use self::flags::Connection;
pub(super) use self::flags::ServiceFlags;

use super::address::{ServiceUrl, is_loopback, origin};
use super::chunk::Chunk;
use super::credentials::{Credentials, CredentialsError, Reread, client_identity, http_client, root_cause};
use super::event_result::parse_results;
use super::meant::suggestion;
use super::problem;

/// Time limit for a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a silence of the service. It answers queries that wait within 30 s, all others sooner.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit for a request with its whole response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(600);
/// Pause between two probes of a service that starts.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for looking up the names that a misspelt one is compared with.
const NAMES_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response in bytes. The largest of a ledger, the state of 100,000 services, has half of it.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// A client of one tenant's ledger at a service.
#[derive(Debug, Clone)]
pub struct Client {
    /// The error if the HTTP client could not be created; then every request fails with it.
    http: Result<reqwest::Client, String>,
    /// The base URL of the API, without credentials.
    api: Url,
    /// The tenant's base URL in the API, without credentials.
    ledger: Url,
    credentials: Credentials,
    /// Maximum time that the first request waits for a service that starts.
    startup_timeout: Duration,
    /// Chooses the credentials again after that wait, if there is one.
    reread: Option<Reread>,
    /// Set after that wait, with the credentials that were chosen then; clones share it.
    waited: Arc<OnceCell<Option<Credentials>>>,
}

/// A request failed, or its response is not usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection. Temporary.
    #[error(
        "no release ledger answers at {url} ({cause}); start one with `release-ledger up`, or set --url or \
         RELEASE_LEDGER_URL"
    )]
    Unreachable {
        /// The origin of the service.
        url: Url,
        /// The innermost cause.
        cause: String,
    },
    /// The response did not arrive completely: the request may have taken effect or not. Temporary.
    #[error("the response of {url} broke off ({cause})")]
    IncompleteResponse {
        /// The origin of the service.
        url: Url,
        /// The innermost cause.
        cause: String,
    },
    /// The response is not that of a ledger: an HTTP error that is no problem, such as a proxy's, or a page in HTML.
    /// Temporary if the status is a server's failure.
    #[error("{url} answered {status}, but not as a release ledger; check --url")]
    ForeignResponse {
        /// The origin of the service.
        url: Url,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The ledger answers with a problem. Temporary if the status is a server's failure.
    #[error("{} ({url})", problem::describe(problem))]
    Problem {
        /// The origin of the service.
        url: Url,
        /// The HTTP status.
        status: StatusCode,
        /// The problem.
        problem: Box<ProblemBody>,
    },
    /// A successful response with a body that does not match the request. Temporary.
    #[error("unexpected response from {url} ({})", escape_line(detail))]
    InvalidResponse {
        /// The origin of the service.
        url: Url,
        /// The mismatch.
        detail: String,
    },
    /// There are no credentials to send. Nothing was sent.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The HTTP client cannot be created.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
}

impl Error {
    /// Returns true if the same request may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::IncompleteResponse { .. } | Self::InvalidResponse { .. } => true,
            Self::ForeignResponse { status, .. } | Self::Problem { status, .. } => {
                status.is_server_error()
                    || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Credentials(error) => error.is_temporary(),
            Self::Setup(_) => false,
        }
    }

    /// Returns true if the service does not accept the credentials, or there are none: they may have expired.
    #[must_use]
    pub fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Credentials(_) | Self::Problem { status: StatusCode::UNAUTHORIZED, .. })
    }

    /// Returns the problem if it is of this kind, given by the last part of its URN.
    #[must_use]
    pub fn problem(&self, kind: &str) -> Option<&ProblemBody> {
        match self {
            Self::Problem { problem, .. } if problem.slug() == Some(kind) => Some(problem),
            _ => None,
        }
    }
}

/// The way of requests to the service.
#[derive(Debug, Default)]
struct Transport<'a> {
    /// The file with further certificate authorities.
    ca_file: Option<&'a Path>,
    /// The file with the client certificate and its private key.
    client_cert: Option<&'a Path>,
    /// Headers of every request.
    headers: HeaderMap,
    /// Maximum time that the first request waits for a service that starts.
    startup_timeout: Duration,
    /// Chooses the credentials again after that wait.
    reread: Option<Reread>,
}

impl Client {
    /// Creates a client of the service at `url`, which may contain credentials. Without them, requests have none.
    #[must_use]
    pub fn new(url: Url, tenant: &TenantName) -> Self {
        let ServiceUrl { url, credentials } = ServiceUrl::new(url);
        let credentials = Credentials::of_url(&url, credentials);
        Self::of(url, tenant, credentials, &Transport::default())
    }

    /// Creates a client that sends a token, also over plain HTTP: the caller knows the way to the service.
    #[must_use]
    pub fn with_token(url: Url, tenant: &TenantName, token: &ApiToken) -> Self {
        Self::of(ServiceUrl::new(url).url, tenant, Credentials::of_token(token), &Transport::default())
    }

    fn of(url: Url, tenant: &TenantName, credentials: Credentials, transport: &Transport<'_>) -> Self {
        let builder = || {
            let builder = http_client(transport.ca_file)?
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .default_headers(transport.headers.clone());
            let builder = match transport.client_cert {
                Some(path) => builder.identity(client_identity(path)?),
                None => builder,
            };
            // Do not use HTTP_PROXY for loopback addresses.
            Ok(if is_loopback(&url) { builder.no_proxy() } else { builder })
        };
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(|error| root_cause(&error));
        let http = match builder().and_then(build) {
            // A small image has no certificate authorities; plain HTTP does not need them.
            Err(_) if url.scheme() == "http" => {
                builder().and_then(|builder| build(builder.tls_certs_only([])))
            }
            built => built,
        };
        let mut api = url;
        if let Ok(mut path) = api.path_segments_mut() {
            path.pop_if_empty().push("v1");
        }
        let mut ledger = api.clone();
        if *tenant != TenantName::default()
            && let Ok(mut path) = ledger.path_segments_mut()
        {
            path.push("tenants").push(tenant.as_str());
        }
        let (startup_timeout, reread) = (transport.startup_timeout, transport.reread.clone());
        Self { http, api, ledger, credentials, startup_timeout, reread, waited: Arc::default() }
    }

    fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, Error> {
        let http = self.http.as_ref().map_err(|cause| Error::Setup(cause.clone()))?;
        Ok(http.request(method, url.clone()))
    }

    /// Returns the URL of a path in the API that belongs to no tenant.
    pub(super) fn service_url(&self, path: &[&str]) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        url
    }

    /// Returns the URL of a path in the API.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.ledger.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        url
    }

    /// Sends a GET request and returns the body.
    pub(super) async fn get(&self, url: Url) -> Result<Bytes, Error> {
        let request = self.request(Method::GET, &url)?.timeout(RESPONSE_TIMEOUT);
        match self.respond(request, &url).await {
            Ok(response) if is_page(&response) => {
                Err(Error::ForeignResponse { url: origin(&url), status: response.status() })
            }
            Ok(response) => read_body(response, &url, MAX_RESPONSE_BYTES).await,
            Err(error) => Err(self.with_suggestion(error).await),
        }
    }

    /// Sends a POST request with a JSON body and returns the response body. `if_match` is the position at
    /// which the request must still hold.
    pub(super) async fn post(
        &self,
        url: Url,
        body: &impl Serialize,
        if_match: Option<u64>,
    ) -> Result<Bytes, Error> {
        let request = self.request(Method::POST, &url)?.json(body);
        let request = match if_match {
            Some(position) => request.header(header::IF_MATCH, format!("\"{position}\"")),
            None => request,
        };
        self.send(request, url).await
    }

    /// Opens an event stream that continues after a position, if one is given.
    pub(super) async fn open_stream(&self, url: Url, after: Option<u64>) -> Result<Response, Error> {
        let request = self.request(Method::GET, &url)?.header(header::ACCEPT, "text/event-stream");
        let request = match after {
            Some(position) => request.header("last-event-id", position),
            None => request,
        };
        self.respond(request, &url).await
    }

    /// Returns the error for a response that does not match its request.
    pub(super) fn invalid_response(&self, detail: String) -> Error {
        Error::InvalidResponse { url: origin(&self.ledger), detail }
    }

    /// The URL of the tenant's ledger, without credentials.
    pub(super) const fn ledger(&self) -> &Url {
        &self.ledger
    }

    /// Sends one structured event and returns the response body if the event is recorded.
    pub(super) async fn record_one(&self, event: Bytes) -> Result<Bytes, Error> {
        let url = self.url(&["events"]);
        let request = self.request(Method::POST, &url)?;
        let request = request.header(header::CONTENT_TYPE, "application/cloudevents+json").body(event);
        self.send(request, url).await
    }

    /// Sends structured events, one per line, and returns their results in order, without the annotations of
    /// the ledger.
    pub(super) async fn record(&self, events: &Chunk) -> Result<Vec<EventResult>, Error> {
        Ok(self.send_lines(events, Some("return=minimal")).await?.0)
    }

    /// Sends structured events, one per line, and returns their results in order, and the raw response body.
    pub(super) async fn record_with_body(&self, events: &Chunk) -> Result<(Vec<EventResult>, Bytes), Error> {
        self.send_lines(events, None).await
    }

    async fn send_lines(
        &self,
        events: &Chunk,
        prefer: Option<&'static str>,
    ) -> Result<(Vec<EventResult>, Bytes), Error> {
        let url = self.url(&["events"]);
        let mut request = self.request(Method::POST, &url)?;
        if let Some(prefer) = prefer {
            request = request.header("prefer", prefer);
        }
        let request = request.header(header::CONTENT_TYPE, "application/x-ndjson").body(events.lines());
        let body = self.send(request, url).await?;
        let results = parse_results(&body, events.numbers().len());
        let results = results.map_err(|detail| self.invalid_response(detail))?;
        Ok((results, body))
    }

    async fn send(&self, request: RequestBuilder, url: Url) -> Result<Bytes, Error> {
        match self.respond(request.timeout(RESPONSE_TIMEOUT), &url).await {
            Ok(response) => read_body(response, &url, MAX_RESPONSE_BYTES).await,
            Err(error) => Err(self.with_suggestion(error).await),
        }
    }

    /// Adds the environment that was probably meant to the problem of an unknown one.
    async fn with_suggestion(&self, mut error: Error) -> Error {
        if let Error::Problem { problem, .. } = &mut error
            && problem.slug() == Some("unknown-environment")
            && let Some(unknown) = unknown_environment(&problem.detail)
        {
            let names = timeout(NAMES_TIMEOUT, self.environment_names()).await.ok().flatten();
            let near = suggestion(unknown, &names.unwrap_or_default());
            problem.detail.push_str(&near);
        }
        error
    }

    /// Returns the names of the environments that the client may read.
    async fn environment_names(&self) -> Option<Vec<String>> {
        let url = self.url(&["environments"]);
        let response = self.respond(self.request(Method::GET, &url).ok()?, &url).await.ok()?;
        let body = read_body(response, &url, MAX_RESPONSE_BYTES).await.ok()?;
        let body: EnvironmentsBody = serde_json::from_slice(&body).ok()?;
        Some(body.environments.into_iter().map(|environment| environment.name).collect())
    }

    /// Returns the response if its status is a success.
    async fn respond(&self, request: RequestBuilder, url: &Url) -> Result<Response, Error> {
        let response = self.send_with_credentials(request, url).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = read_body(response, url, MAX_RESPONSE_BYTES).await?;
        Err(match serde_json::from_slice::<ProblemBody>(&body) {
            Ok(problem) if problem.slug().is_some() => {
                Error::Problem { url: origin(url), status, problem: Box::new(problem) }
            }
            _ => Error::ForeignResponse { url: origin(url), status },
        })
    }

    /// Waits until the service is ready, at most for the given time. After it, the next request shows what is wrong. An
    /// answer that is no failure of a server, such as that of a proxy which hides the path, ends the wait, too.
    pub async fn wait_until_ready(&self, limit: Duration) {
        let Ok(http) = &self.http else { return };
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop().push("readyz");
        }
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let probe = http.get(url.clone()).timeout(PROBE_TIMEOUT.min(left)).send().await;
            if probe.is_ok_and(|response| !response.status().is_server_error()) {
                return;
            }
            sleep(PROBE_INTERVAL.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Waits for a service that starts, as the first request does.
    pub(super) async fn wait(&self) {
        self.current_credentials().await;
    }

    /// Returns the credentials, after the wait for a service that starts.
    async fn current_credentials(&self) -> &Credentials {
        let wait = || async {
            self.wait_until_ready(self.startup_timeout).await;
            self.reread.as_ref().and_then(Reread::read)
        };
        self.waited.get_or_init(wait).await.as_ref().unwrap_or(&self.credentials)
    }

    /// Sends a request, and once more with other credentials if the service rejects the first ones: they may have
    /// ended.
    async fn send_with_credentials(&self, request: RequestBuilder, url: &Url) -> Result<Response, Error> {
        let credentials = self.current_credentials().await;
        let authorization = credentials.header().await?;
        let again = request.try_clone();
        let response = send_once(request, authorization.as_ref(), url).await?;
        if let (StatusCode::UNAUTHORIZED, Some(again), Some(rejected)) =
            (response.status(), again, authorization)
            && let Some(renewed) = credentials.renew(&rejected).await?
        {
            return send_once(again, Some(&renewed), url).await;
        }
        Ok(response)
    }
}

/// Returns the environment that the detail of the problem names: `unknown environment NAME: …`.
fn unknown_environment(detail: &str) -> Option<&str> {
    detail.strip_prefix("unknown environment ")?.split([':', ' ']).next()
}

async fn send_once(
    request: RequestBuilder,
    authorization: Option<&HeaderValue>,
    url: &Url,
) -> Result<Response, Error> {
    let request = match authorization {
        Some(value) => request.header(header::AUTHORIZATION, value.clone()),
        None => request,
    };
    request.send().await.map_err(|error| {
        if error.is_connect() {
            let cause = root_cause(&error.without_url());
            // What a TLS client makes of an answer in plain text.
            let is_plain = url.scheme() == "https" && cause.contains("InvalidContentType");
            let plain = || origin(url).as_str().replacen("https", "http", 1);
            let cause = if is_plain { format!("it answers plain http; use {}", plain()) } else { cause };
            Error::Unreachable { url: origin(url), cause }
        } else {
            incomplete_response(url, error)
        }
    })
}

/// Returns true for a page in HTML, which a captive portal or the page of a sign-in sends with a success. No question
/// to a ledger is answered by one.
fn is_page(response: &Response) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|media_type| media_type.to_ascii_lowercase().starts_with("text/html"))
}

/// Reads a body of at most `limit` bytes.
async fn read_body(mut response: Response, url: &Url, limit: usize) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| incomplete_response(url, error))? {
        if body.len() + chunk.len() > limit {
            let detail = format!("the response has more than {limit} bytes");
            return Err(Error::InvalidResponse { url: origin(url), detail });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

pub(super) fn incomplete_response(url: &Url, error: reqwest::Error) -> Error {
    Error::IncompleteResponse { url: origin(url), cause: root_cause(&error.without_url()) }
}

#[cfg(test)]
mod tests;
