//! Requests to issuers of identities: small, bounded in size and time, without redirects, and encrypted unless the issuer
//! is this machine.

use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, ClientBuilder, Identity, RequestBuilder, StatusCode, Url, header, redirect};

use super::bounded_file::read_bytes;
use super::error::CredentialsError;
use crate::address::{is_loopback, origin};

/// Time limit of a request with its response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a response in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// Maximum size of a file of certificates in bytes.
const MAX_CERTIFICATES_BYTES: u64 = 1 << 20;

/// Returns the builder of an HTTP client that follows no redirect: a redirect could lead credentials to another service.
/// `ca_file` has further certificate authorities.
///
/// # Errors
/// The file cannot be read, or contains no certificates.
pub(crate) fn http_client(ca_file: Option<&Path>) -> Result<ClientBuilder, String> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("release-ledger/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none());
    let Some(path) = ca_file else { return Ok(builder) };
    let failed = |reason: String| format!("cannot read the ca_file {}: {reason}", path.display());
    let pem = read_bytes(path, MAX_CERTIFICATES_BYTES).map_err(|error| failed(error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|_| failed("it has an invalid certificate".to_owned()))?;
    if certificates.is_empty() {
        return Err(failed("it has no certificate in PEM form".to_owned()));
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// Reads a client certificate and its private key.
///
/// # Errors
/// The file cannot be read, or does not contain both.
pub(crate) fn client_identity(path: &Path) -> Result<Identity, String> {
    let failed = |reason: &str| format!("cannot use the client certificate {}: {reason}", path.display());
    let pem = read_bytes(path, MAX_CERTIFICATES_BYTES).map_err(|error| failed(&error.to_string()))?;
    // The parser's error may quote the file.
    Identity::from_pem(&pem).map_err(|_| failed("it needs a certificate and its private key in PEM form"))
}

/// A response of an issuer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

/// Sends requests to issuers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetcher {
    ca_file: Option<std::path::PathBuf>,
}

impl Fetcher {
    pub(crate) fn new(ca_file: Option<&Path>) -> Self {
        Self { ca_file: ca_file.map(Path::to_owned) }
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// The URL is not encrypted, or no complete response arrives.
    pub(crate) async fn get(
        &self,
        url: &Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, CredentialsError> {
        let request = self.client(url)?.get(url.clone()).header(header::ACCEPT, "application/json");
        let request = match authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        };
        answer(request, url).await
    }

    /// Sends a form.
    ///
    /// # Errors
    /// The URL is not encrypted, or no complete response arrives.
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        members: &[(&str, &str)],
    ) -> Result<Answer, CredentialsError> {
        let mut form = url.clone();
        form.query_pairs_mut().clear().extend_pairs(members);
        let request = self
            .client(url)?
            .post(url.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned());
        answer(request, url).await
    }

    fn client(&self, url: &Url) -> Result<reqwest::Client, CredentialsError> {
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(url)) {
            let text = format!("refusing to ask {} for an identity: its URL must be https", origin(url));
            return Err(CredentialsError::permanent(text));
        }
        let build = || {
            let builder = http_client(self.ca_file.as_deref())?.timeout(TIMEOUT);
            let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
            // A small image has no certificate authorities; plain HTTP does not need them.
            let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
            builder.build().map_err(|error| format!("cannot set up the HTTP client: {error}"))
        };
        build().map_err(CredentialsError::permanent)
    }
}

async fn answer(request: RequestBuilder, url: &Url) -> Result<Answer, CredentialsError> {
    let unreachable = |error: reqwest::Error| {
        let text = format!("{} does not answer ({})", origin(url), root_cause(&error.without_url()));
        CredentialsError::temporary(text)
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            let text = format!("the response of {} has more than {MAX_RESPONSE_BYTES} bytes", origin(url));
            return Err(CredentialsError::permanent(text));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

/// Returns the innermost cause: the outer ones only say that a request failed.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
