//! Fetching of key sets, with limits on time and size.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url, header};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::jwks::{KeySet, NotAKeySet};
use super::settings::{IssuerSettings, KeySource, SettingsError, is_loopback, is_secure};
use super::strict;

/// Time limit of a fetch, with the discovery document.
pub(super) const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// Maximum number of bytes of a discovery document, and of a key set.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// A fetch failed. The keys may be available later.
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
        let authorities = authorities(settings)?;
        let client = |is_local: bool| {
            build(&authorities, is_local, url.scheme() == "http")
                .map_err(|source| SettingsError::Http { issuer: settings.issuer.clone(), source })
        };
        Ok(Some(Self::Http(Box::new(HttpSource {
            issuer: settings.issuer.clone(),
            is_discovery: settings.keys == KeySource::Discovery,
            remote: client(false)?,
            local: client(true)?,
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
            return self.get(&self.url).await;
        }
        let document = self.get(&self.url).await?;
        let document = strict::object(&document).ok_or(Failure::Discovery("it is not a JSON object"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(self.issuer.as_str()) {
            return Err(Failure::Discovery("its issuer is not the configured one"));
        }
        let keys = document.get("jwks_uri").and_then(Value::as_str).and_then(|url| Url::parse(url).ok());
        let keys =
            keys.filter(|url| is_secure(url) && (url.scheme() == "https" || self.url.scheme() == "http"));
        self.get(&keys.ok_or(Failure::Discovery("its jwks_uri is not an https URL"))?).await
    }

    /// Gets a body. Stops reading at the limit.
    async fn get(&self, url: &Url) -> Result<Vec<u8>, Failure> {
        let client = if is_loopback(url) { &self.local } else { &self.remote };
        let request = client.get(url.clone()).header(header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| unreachable(&error))?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
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
