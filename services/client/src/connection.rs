//! Where the service is, and requests to it.

use std::time::Duration;

use bytes::Bytes;
use ledger_domain::TenantName;
use reqwest::{Method, Response, StatusCode, Url, header};
use serde::Serialize;

use super::answer::{self, EventResult};
use super::chunk::Chunk;
use super::problem::Problem;

/// How long a connection may take to be made, and how long the service may be silent. It answers
/// questions that wait within 30 seconds, and events within less.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// Which service, and whose ledger there.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// Where the service is
    #[arg(
        long,
        value_name = "URL",
        env = "RELEASE_LEDGER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_parser = base
    )]
    url: Url,
    /// Whose ledger
    #[arg(long, value_name = "NAME", env = "RELEASE_LEDGER_TENANT", default_value = "default")]
    tenant: TenantName,
}

fn base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.query().is_none() && url.fragment().is_none() => Ok(url),
        "http" | "https" => Err("must have neither ? nor #".into()),
        _ => Err("must begin with http:// or https://".into()),
    }
}

impl Connection {
    /// The client of that service. Connects only when something is asked.
    #[must_use]
    pub fn client(self) -> Client {
        Client::new(self.url, &self.tenant)
    }
}

/// A service, and a tenant's ledger there.
#[derive(Debug, Clone)]
pub struct Client {
    /// Or why there is none: nothing can be asked then.
    http: Result<reqwest::Client, String>,
    /// The tenant's part of the API, with what only the service's friends may know.
    api: Url,
    /// Without that.
    ledger: Url,
}

/// Why the service gave no answer that is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there. May pass by itself.
    #[error(
        "no release ledger can be reached at {url} ({cause}); start one with `release-ledger up`, or say where it is with --url or RELEASE_LEDGER_URL"
    )]
    Unreachable {
        /// Where.
        url: Url,
        /// Why not.
        cause: String,
    },
    /// It did not answer to the end: what was asked for may be done, or not. May pass by itself.
    #[error("{url} did not answer to the end ({cause})")]
    BrokenOff {
        /// Where.
        url: Url,
        /// Why not.
        cause: String,
    },
    /// It answered something else than was asked for. May pass by itself where it is the service's
    /// or a proxy's failure.
    #[error("{url} answered {status}, and not as a release ledger does; is --url right?")]
    NotALedger {
        /// Where.
        url: Url,
        /// What.
        status: StatusCode,
    },
    /// It says what is wrong. May pass by itself if it is the service's failure.
    #[error("{problem}")]
    Problem {
        /// The answer's status.
        status: StatusCode,
        /// What is wrong.
        problem: Box<Problem>,
    },
    /// It answered well, but not what belongs to the request. May pass by itself.
    #[error("{url} answered something that is not understood ({detail})")]
    Garbled {
        /// Where.
        url: Url,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The client itself cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
}

impl Error {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BrokenOff { .. } | Self::Garbled { .. } => true,
            Self::NotALedger { status, .. } | Self::Problem { status, .. } => {
                status.is_server_error()
                    || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Setup(_) => false,
        }
    }

    /// The problem that the service names, if this is its kind: the last word of its URN.
    #[must_use]
    pub fn problem(&self, kind: &str) -> Option<&Problem> {
        match self {
            Self::Problem { problem, .. } if problem.is(kind) => Some(problem),
            _ => None,
        }
    }
}

impl Client {
    /// A client of the service at `url`.
    #[must_use]
    pub fn new(url: Url, tenant: &TenantName) -> Self {
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("release-ledger/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(PATIENCE.0)
                .read_timeout(PATIENCE.1);
            // A proxy of the surroundings does not know this machine.
            if is_local(&url) { builder.no_proxy() } else { builder }
        };
        let http = match builder().build() {
            // Without any certificate authority, as in a small image: what is not encrypted needs none.
            Err(_) if url.scheme() == "http" => builder().tls_certs_only([]).build(),
            built => built,
        };
        let mut api = url;
        if let Ok(mut path) = api.path_segments_mut() {
            path.pop_if_empty().push("v1");
            if *tenant != TenantName::default() {
                path.push("tenants").push(tenant.as_str());
            }
        }
        Self { http: http.map_err(|error| root_cause(&error)), ledger: public(&api), api }
    }

    fn request(&self, method: Method, url: &Url) -> Result<reqwest::RequestBuilder, Error> {
        let http = self.http.as_ref().map_err(|cause| Error::Setup(cause.clone()))?;
        Ok(http.request(method, url.clone()))
    }

    /// The URL of something in the API.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        url
    }

    /// Asks a question; answers the body.
    pub(super) async fn get(&self, url: Url) -> Result<Bytes, Error> {
        self.send(self.request(Method::GET, &url)?, url).await
    }

    /// Asks a question that has a body; `seen` is the position that it must still be true for.
    pub(super) async fn post(
        &self,
        url: Url,
        body: &impl Serialize,
        seen: Option<u64>,
    ) -> Result<Bytes, Error> {
        let request = self.request(Method::POST, &url)?.json(body);
        let request = match seen {
            Some(position) => request.header(header::IF_MATCH, format!("\"{position}\"")),
            None => request,
        };
        self.send(request, url).await
    }

    /// Opens a stream of events that goes on after a position, if one is given.
    pub(super) async fn follow(&self, url: Url, after: Option<u64>) -> Result<Response, Error> {
        let request = self.request(Method::GET, &url)?.header(header::ACCEPT, "text/event-stream");
        let request = match after {
            Some(position) => request.header("last-event-id", position),
            None => request,
        };
        self.answered(request, &url).await
    }

    /// Where the tenant's ledger is, as everybody may know.
    pub(super) const fn ledger(&self) -> &Url {
        &self.ledger
    }

    /// Sends one structured event; answers what became of it, if it is recorded.
    pub(super) async fn record_one(&self, event: Bytes) -> Result<Bytes, Error> {
        let url = self.url(&["events"]);
        let request = self.request(Method::POST, &url)?;
        let request = request.header(header::CONTENT_TYPE, "application/cloudevents+json").body(event);
        self.send(request, url).await
    }

    /// Sends structured events, one a line; answers what became of each, in order, without what the ledger says of them.
    pub(super) async fn record(&self, events: &Chunk) -> Result<Vec<EventResult>, Error> {
        Ok(self.send_lines(events, Some("return=minimal")).await?.0)
    }

    /// Sends structured events, one a line; answers what became of each, in order, and the answer as it came.
    pub(super) async fn record_and_keep(&self, events: &Chunk) -> Result<(Vec<EventResult>, Bytes), Error> {
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
        let garbled = |detail| Error::Garbled { url: base_of(&self.ledger), detail };
        let results = answer::results(&body).map_err(garbled)?;
        if results.len() != events.numbers().len() {
            let detail = format!("{} results for {} events", results.len(), events.numbers().len());
            return Err(garbled(detail));
        }
        Ok((results, body))
    }

    async fn send(&self, request: reqwest::RequestBuilder, url: Url) -> Result<Bytes, Error> {
        let response = self.answered(request, &url).await?;
        response.bytes().await.map_err(|error| broken_off(&url, &error))
    }

    /// The answer, if it is a good one.
    async fn answered(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                Error::Unreachable { url: base_of(url), cause: root_cause(&error) }
            } else {
                broken_off(url, &error)
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| broken_off(url, &error))?;
        Err(match serde_json::from_slice(&body) {
            Ok(problem) if Problem::is_a_ledgers(&problem) => {
                Error::Problem { status, problem: Box::new(problem) }
            }
            _ => Error::NotALedger { url: base_of(url), status },
        })
    }
}

pub(super) fn broken_off(url: &Url, error: &reqwest::Error) -> Error {
    Error::BrokenOff { url: base_of(url), cause: root_cause(error) }
}

/// The URL as a person gave it, more or less: what is behind the host says nothing about reaching it.
fn base_of(url: &Url) -> Url {
    let mut url = public(url);
    url.set_path("/");
    url.set_query(None);
    url
}

/// A URL without user and password.
pub(super) fn public(url: &Url) -> Url {
    let mut url = url.clone();
    // A URL that can have none has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

fn is_local(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// The innermost cause, which says what happened; the ones around it say that it was a request.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str, tenant: &str) -> Client {
        let tenant = TenantName::parse(tenant).expect("a name");
        Client::new(base(url).expect("a URL"), &tenant)
    }

    #[test]
    fn the_tenant_and_a_path_of_a_proxy_are_part_of_every_url() {
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

    #[test]
    fn a_url_is_one_of_http() {
        for wrong in ["ftp://example.com", "example.com:8080", "http://example.com/?tenant=a", "http://a/#b"]
        {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_only_friends_may_know_is_not_told() {
        let client = client("http://ci:secret@127.0.0.1:1/behind/a/proxy", "default");
        let error = client.get(client.url(&["position"])).await.expect_err("nobody listens");

        assert!(error.to_string().contains("http://127.0.0.1:1/ "), "{error}");
        assert_eq!(client.ledger().as_str(), "http://127.0.0.1:1/behind/a/proxy/v1");
        assert_eq!(client.url(&[]).password(), Some("secret"));
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_named_with_what_to_do() {
        // Port 1 is reserved and nobody listens there.
        let client = client("http://127.0.0.1:1", "default");
        let error = client.get(client.url(&["position"])).await.expect_err("nobody listens");
        assert!(error.is_temporary());
        let text = error.to_string();
        assert!(text.contains("http://127.0.0.1:1/") && text.contains("release-ledger up"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
