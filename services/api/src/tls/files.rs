//! Contents of the files of TLS, and the configuration that they make.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::validity::not_after;
use super::{TlsError, TlsFiles};

/// Protocols that the service speaks above TLS (ALPN). A client that lists others only is refused.
const PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// Contents of the files.
#[derive(Hash)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Configuration of new connections.
pub(super) struct Loaded {
    pub(super) config: ServerConfig,
    /// Time at which the certificate expires.
    pub(super) not_after: DateTime<Utc>,
}

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_deref().map(read).transpose()?,
        })
    }

    pub(super) fn load(&self, files: &TlsFiles) -> Result<Loaded, TlsError> {
        let chain = certificates(&self.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|source| pem_error(&files.key, "a private key", source))?;
        let not_after = chain.first().and_then(|certificate| not_after(certificate));
        let not_after = not_after.ok_or_else(|| TlsError::Validity(files.certificate.clone()))?;
        let client_ca = self.client_ca.as_deref().zip(files.client_ca.as_deref());
        let clients = client_ca.map(|(contents, path)| client_verifier(contents, path, files)).transpose()?;
        let unusable = |source| TlsError::Certificate {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Loaded { config, not_after })
    }
}

fn client_verifier(
    contents: &[u8],
    path: &Path,
    files: &TlsFiles,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |reason: String| TlsError::ClientCa { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for authority in certificates(contents, path)? {
        roots.add(authority).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if files.requires_client_certificate { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| unusable(error.to_string()))
}

/// Returns the certificates of a file, at least one.
fn certificates(contents: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let invalid = |source| pem_error(path, "a certificate", source);
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents).collect();
    let found = found.map_err(invalid)?;
    if found.is_empty() { Err(invalid(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn pem_error(path: &Path, what: &'static str, source: pem::Error) -> TlsError {
    TlsError::Pem { path: path.to_owned(), what, source }
}
