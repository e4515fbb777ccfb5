//! Requests to issuers, and fetching of key sets, with limits on time and size.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode, Url, header};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;

use super::jwks::{KeySet, NotAKeySet};
use super::settings::{IssuerSettings, KeySource, SettingsError, is_loopback, is_secure};
use super::strict;

/// Time limit of a fetch, with the discovery document.
pub(super) const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// Maximum number of bytes of a discovery document, and of a key set.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// A fetch failed. A later one may succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No complete response arrived in time.
    #[error("no complete response within {} s", FETCH_LIMIT.as_secs())]
    Timeout,
    /// No connection, or it broke off.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The response has another status than 200. Redirects are not followed.
    #[error("unexpected status {0}")]
    Status(StatusCode),
    /// The response or the file is larger than allowed.
    #[error("more than {} bytes", MAX_BODY_BYTES)]
    TooLarge,
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    File(std::io::Error),
    /// The discovery document is for another issuer, or has no usable `jwks_uri`.
    #[error("invalid discovery document: {0}")]
    Discovery(&'static str),
    /// The response is not a key set.
    #[error(transparent)]
    NotAKeySet(#[from] NotAKeySet),
    /// The fetch ended without a result.
    #[error("the fetch was interrupted")]
    Interrupted,
}

impl Failure {
    /// Returns the value of the label `outcome`.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::File(_) => "file",
            Self::Discovery(_) => "discovery",
            Self::NotAKeySet(_) => "not_a_key_set",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Where the keys of one issuer are fetched.
#[derive(Debug)]
pub(super) enum Fetcher {
    /// An HTTP server.
    Http(Box<HttpSource>),
    /// A file.
    File(PathBuf),
}

/// A URL with the keys, or with the discovery document that names it.
#[derive(Debug)]
pub(super) struct HttpSource {
    issuer: String,
    url: Url,
    is_discovery: bool,
    http: Http,
}

/// HTTP clients for the servers of one issuer. No redirect is followed.
#[derive(Debug)]
pub(super) struct Http {
    /// Client that uses the proxy of the environment.
    remote: Client,
    /// Client for loopback addresses.
    local: Client,
}

impl Fetcher {
    /// Creates the fetcher of an issuer; `None` if its keys are fixed.
    pub(super) fn new(settings: &IssuerSettings) -> Result<Option<Self>, SettingsError> {
        if let KeySource::File(path) = &settings.keys {
            return Ok(Some(Self::File(path.clone())));
        }
        let Some(url) = settings.url()? else { return Ok(None) };
        Ok(Some(Self::Http(Box::new(HttpSource {
            issuer: settings.issuer.clone(),
            is_discovery: settings.keys == KeySource::Discovery,
            http: Http::new(settings, url.scheme() == "http")?,
            url,
        }))))
    }

    /// Fetches the keys, within [`FETCH_LIMIT`].
    pub(super) async fn fetch(&self) -> Result<KeySet, Failure> {
        let text = async {
            match self {
                Self::Http(source) => source.fetch().await,
                Self::File(path) => read(path).await,
            }
        };
        let text = tokio::time::timeout(FETCH_LIMIT, text).await.map_err(|_| Failure::Timeout)??;
        Ok(KeySet::parse(&text)?)
    }
}

impl HttpSource {
    async fn fetch(&self) -> Result<Vec<u8>, Failure> {
        if !self.is_discovery {
            return self.http.get(&self.url).await;
        }
        let document = self.http.discover(&self.url, &self.issuer).await?;
        let keys = endpoint(&document, "jwks_uri", &self.url);
        self.http.get(&keys.ok_or(Failure::Discovery("its jwks_uri is not an https URL"))?).await
    }
}

impl Http {
    /// Creates the clients. `is_plain`: the issuer may be reached over plain HTTP.
    pub(super) fn new(settings: &IssuerSettings, is_plain: bool) -> Result<Self, SettingsError> {
        let authorities = authorities(settings)?;
        let client = |is_local: bool| {
            build(&authorities, is_local, is_plain)
                .map_err(|source| SettingsError::Http { issuer: settings.issuer.clone(), source })
        };
        Ok(Self { remote: client(false)?, local: client(true)? })
    }

    const fn client(&self, is_local: bool) -> &Client {
        if is_local { &self.local } else { &self.remote }
    }

    /// Gets the discovery document of an issuer.
    pub(super) async fn discover(&self, url: &Url, issuer: &str) -> Result<Map<String, Value>, Failure> {
        let document = self.get(url).await?;
        let document = strict::object(&document).ok_or(Failure::Discovery("it is not a JSON object"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(Failure::Discovery("its issuer is not the configured one"));
        }
        Ok(document)
    }

    /// Gets a body. Stops reading at the limit.
    async fn get(&self, url: &Url) -> Result<Vec<u8>, Failure> {
        let request = self.client(is_loopback(url)).get(url.clone());
        let response = send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status()));
        }
        body(response).await
    }

    /// Posts a form, with credentials of the scheme `Basic` if they are given. Returns the status and the body. Stops
    /// reading at the limit.
    pub(super) async fn post(
        &self,
        url: &Url,
        form: String,
        credentials: Option<(String, String)>,
    ) -> Result<(StatusCode, Vec<u8>), Failure> {
        let mut request = self.client(is_loopback(url)).post(url.clone()).body(form);
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some((user, password)) = credentials {
            request = request.basic_auth(user, Some(password));
        }
        let response = send(request).await?;
        Ok((response.status(), body(response).await?))
    }
}

async fn send(request: RequestBuilder) -> Result<Response, Failure> {
    let request = request.header(header::ACCEPT, "application/json");
    request.send().await.map_err(|error| unreachable(&error))
}

async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns a URL that the discovery document at another URL names; `None` if it is not as secure as that one.
pub(super) fn endpoint(document: &Map<String, Value>, name: &str, of: &Url) -> Option<Url> {
    let url = document.get(name).and_then(Value::as_str).and_then(|url| Url::parse(url).ok());
    url.filter(|url| is_secure(url) && (url.scheme() == "https" || of.scheme() == "http"))
}

async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = tokio::fs::File::open(path).await.map_err(Failure::File)?;
    let mut text = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut text).await.map_err(Failure::File)?;
    if text.len() > MAX_BODY_BYTES { Err(Failure::TooLarge) } else { Ok(text) }
}

/// Returns the innermost cause, without the URL.
fn unreachable(error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    Failure::Unreachable(cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string))
}

/// Reads the additional certificate authorities.
fn authorities(settings: &IssuerSettings) -> Result<Vec<Certificate>, SettingsError> {
    let Some(path) = &settings.ca_file else { return Ok(Vec::new()) };
    let text = std::fs::read(path).map_err(|source| SettingsError::CaFile {
        issuer: settings.issuer.clone(),
        path: path.clone(),
        source,
    })?;
    let found = Certificate::from_pem_bundle(&text).map_err(|error| settings.invalid("ca_file", error))?;
    if found.is_empty() { Err(settings.invalid("ca_file", "contains no certificate")) } else { Ok(found) }
}

fn build(authorities: &[Certificate], is_local: bool, is_plain: bool) -> Result<Client, reqwest::Error> {
    let builder = || {
        let builder = Client::builder()
            .user_agent(concat!("release-ledger/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            // The next fetch is minutes away.
            .pool_max_idle_per_host(0);
        // Do not use HTTP_PROXY for loopback addresses.
        if is_local { builder.no_proxy() } else { builder }
    };
    match builder().tls_certs_merge(authorities.to_vec()).build() {
        // A small image has no certificate authorities. Plain HTTP needs none, and `ca_file` may have all that are
        // used.
        Err(_) if is_plain || !authorities.is_empty() => {
            builder().tls_certs_only(authorities.to_vec()).build()
        }
        built => built,
    }
}
