//! The HTTP client of the service.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use ledger_api_types::{EventResult, ProblemBody};
use ledger_domain::{TenantName, escape_line};
use reqwest::{Method, Response, StatusCode, Url, header};
use serde::Serialize;

use super::address::{AddressError, Credentials, GivenTenant, GivenUrl, ServiceUrl, without_credentials};
use super::chunk::Chunk;
use super::event_result::parse_results;
use super::problem;

/// Time limit for a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a silence of the service. It answers queries that wait within 30 s, all others sooner.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit for a request with its whole response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum size of a response in bytes. The largest of a ledger, the state of 100,000 services, has half of it.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Flags that select the service and the tenant's ledger.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The URL of the service
    #[arg(
        long,
        value_name = "URL",
        env = "RELEASE_LEDGER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_parser = OsStringValueParser::new().map(GivenUrl::parse)
    )]
    url: GivenUrl,
    /// The tenant
    #[arg(
        long,
        value_name = "NAME",
        env = "RELEASE_LEDGER_TENANT",
        default_value = "default",
        value_parser = OsStringValueParser::new().map(GivenTenant::parse)
    )]
    tenant: GivenTenant,
}

impl Connection {
    /// Creates the client. It connects with the first request.
    ///
    /// # Errors
    /// The URL or the tenant is invalid.
    pub fn client(self) -> Result<Client, AddressError> {
        let (service, tenant) = (self.url.into_result()?, self.tenant.into_result()?);
        Ok(Client::of(service, &tenant))
    }
}

/// A client of one tenant's ledger at a service.
#[derive(Debug, Clone)]
pub struct Client {
    /// The error if the HTTP client could not be created; then every request fails with it.
    http: Result<reqwest::Client, String>,
    /// The tenant's base URL in the API, without credentials.
    ledger: Url,
    credentials: Option<Credentials>,
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
    /// The response is an HTTP error that is not a problem of a ledger, such as a proxy's. Temporary if the
    /// status is a server's failure.
    #[error("{url} answered {status}, but not as a release ledger; check --url")]
    ForeignResponse {
        /// The origin of the service.
        url: Url,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The ledger answers with a problem. Temporary if the status is a server's failure.
    #[error("{}", problem::describe(problem))]
    Problem {
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
            Self::Setup(_) => false,
        }
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

impl Client {
    /// Creates a client of the service at `url`, which may contain credentials.
    #[must_use]
    pub fn new(url: Url, tenant: &TenantName) -> Self {
        Self::of(ServiceUrl::new(url), tenant)
    }

    fn of(service: ServiceUrl, tenant: &TenantName) -> Self {
        let ServiceUrl { url: mut ledger, credentials } = service;
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("release-ledger/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT);
            // Do not use HTTP_PROXY for loopback addresses.
            if is_local(&ledger) { builder.no_proxy() } else { builder }
        };
        let http = match builder().build() {
            // A small image has no certificate authorities; plain HTTP does not need them.
            Err(_) if ledger.scheme() == "http" => builder().tls_certs_only([]).build(),
            built => built,
        };
        if let Ok(mut path) = ledger.path_segments_mut() {
            path.pop_if_empty().push("v1");
            if *tenant != TenantName::default() {
                path.push("tenants").push(tenant.as_str());
            }
        }
        Self { http: http.map_err(|error| root_cause(&error)), ledger, credentials }
    }

    fn request(&self, method: Method, url: &Url) -> Result<reqwest::RequestBuilder, Error> {
        let http = self.http.as_ref().map_err(|cause| Error::Setup(cause.clone()))?;
        let request = http.request(method, url.clone());
        Ok(match &self.credentials {
            Some(Credentials { user, password }) => request.basic_auth(user, password.as_ref()),
            None => request,
        })
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
        self.send(self.request(Method::GET, &url)?, url).await
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

    async fn send(&self, request: reqwest::RequestBuilder, url: Url) -> Result<Bytes, Error> {
        let response = self.respond(request.timeout(RESPONSE_TIMEOUT), &url).await?;
        read_body(response, &url, MAX_RESPONSE_BYTES).await
    }

    /// Returns the response if its status is a success.
    async fn respond(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                Error::Unreachable { url: origin(url), cause: root_cause(&error.without_url()) }
            } else {
                incomplete_response(url, error)
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = read_body(response, url, MAX_RESPONSE_BYTES).await?;
        Err(match serde_json::from_slice::<ProblemBody>(&body) {
            Ok(problem) if problem.slug().is_some() => Error::Problem { status, problem: Box::new(problem) },
            _ => Error::ForeignResponse { url: origin(url), status },
        })
    }
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

/// Returns the origin of a URL: the path does not help to find out why a host is unreachable.
fn origin(url: &Url) -> Url {
    let mut url = without_credentials(url);
    url.set_path("/");
    url.set_query(None);
    url
}

fn is_local(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// Returns the innermost cause: the outer ones only say that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str, tenant: &str) -> Client {
        let tenant = TenantName::parse(tenant).expect("a name");
        Client::new(url.parse().expect("a URL"), &tenant)
    }

    #[test]
    fn every_url_contains_the_tenant_and_the_path_of_the_proxy() {
        let url = |url: &str, tenant| client(url, tenant).url(&["environments", "a b", "state"]).to_string();
        assert_eq!(
            url("http://127.0.0.1:8080", "default"),
            "http://127.0.0.1:8080/v1/environments/a%20b/state"
        );
        assert_eq!(
            url("https://example.com/ledger/", "shop"),
            "https://example.com/ledger/v1/tenants/shop/environments/a%20b/state"
        );
    }

    #[tokio::test]
    async fn credentials_are_never_shown() {
        let client = client("http://ci:secret@127.0.0.1:1/behind/a/proxy", "default");
        let error = client.get(client.url(&["position"])).await.expect_err("nothing listens");

        assert!(error.to_string().contains("http://127.0.0.1:1/ "), "{error}");
        assert_eq!(client.ledger().as_str(), "http://127.0.0.1:1/behind/a/proxy/v1");
        let shown = format!("{client:?} {error} {error:?} {}", client.url(&["position"]));
        assert!(!shown.contains("secret") && !shown.contains("ci:"), "{shown}");
    }

    /// Serves a router on a free port; returns the URL, with credentials.
    async fn serve(router: axum::Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://ci:s3%40cret@{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn credentials_are_sent_with_every_request() {
        let header = |headers: axum::http::HeaderMap| async move {
            headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned()
        };
        let url = serve(axum::Router::new().fallback(header)).await;
        let client = client(&url, "default");
        // ci:s3@cret
        let basic = "Basic Y2k6czNAY3JldA==";
        assert_eq!(client.get(client.url(&["position"])).await.expect("an answer"), basic);
        let posted = client.post(client.url(&["backtests"]), &(), None).await.expect("an answer");
        assert_eq!(posted, basic);
    }

    #[tokio::test]
    async fn an_endless_response_is_rejected_after_the_limit() {
        let endless = |status| {
            move || async move {
                let chunks = futures::stream::repeat(Ok::<_, std::convert::Infallible>(Bytes::from_static(
                    &[b' '; 4096],
                )));
                (status, axum::body::Body::from_stream(chunks))
            }
        };
        let router = axum::Router::new()
            .route("/v1/ok", axum::routing::get(endless(StatusCode::OK)))
            .route("/v1/error", axum::routing::get(endless(StatusCode::CONFLICT)));
        let url = serve(router).await;
        let client = client(&url, "default");
        for path in ["ok", "error"] {
            let error = client.get(client.url(&[path])).await.expect_err("it does not end");
            let text = error.to_string();
            assert!(text.contains("the response has more than 67108864 bytes"), "{text}");
            assert!(error.is_temporary());
        }
    }

    #[tokio::test]
    async fn the_error_for_an_absent_service_names_it_and_says_what_to_do() {
        // Port 1 is reserved: nothing listens there.
        let client = client("http://127.0.0.1:1", "default");
        let error = client.get(client.url(&["position"])).await.expect_err("nothing listens");
        assert!(error.is_temporary());
        let text = error.to_string();
        assert!(text.contains("http://127.0.0.1:1/") && text.contains("release-ledger up"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
