//! Issuers with a private certificate authority. The key and the certificates in this folder are for tests only.

use std::path::PathBuf;
use std::sync::Arc;

use ledger_domain::PrincipalKind;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::{AUDIENCE, KEYS, good, now};
use crate::oidc::{IssuerSettings, KeySource, OidcError, SettingsError, Verifier};

const ISSUER: &str = "https://issuer.example";

/// Serves the keys over TLS. Returns the port.
async fn serve() -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("server.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("server.key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let Ok(mut connection) = acceptor.accept(connection).await else { continue };
            let keys = KEYS.set();
            let response = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{keys}",
                keys.len()
            );
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(response.as_bytes()).await;
            let _ = connection.shutdown().await;
        }
    });
    port
}

fn settings(host: &str, port: u16, ca_file: Option<PathBuf>) -> IssuerSettings {
    IssuerSettings {
        keys: KeySource::Url(format!("https://{host}:{port}/keys")),
        ca_file,
        ..IssuerSettings::generic(ISSUER, AUDIENCE, PrincipalKind::Workload)
    }
}

fn authority() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/oidc/tests/authority.pem")
}

#[tokio::test]
async fn an_issuer_with_a_private_authority_is_trusted_only_if_the_settings_name_it() {
    let port = serve().await;
    for (host, ca_file, expected) in [
        ("localhost", Some(authority()), Ok(())),
        ("127.0.0.1", Some(authority()), Ok(())),
        ("localhost", None, Err(OidcError::KeysUnavailable)),
    ] {
        let verifier = Verifier::new(vec![settings(host, port, ca_file)], now).expect("valid settings");
        assert_eq!(verifier.verify(&good(ISSUER)).await.map(|_| ()), expected, "{host}");
    }
}

#[test]
fn a_file_with_authorities_must_contain_some() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    let new = || Verifier::new(vec![settings("localhost", 1, Some(path.clone()))], now);
    assert!(matches!(new(), Err(SettingsError::CaFile { .. })));
    for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, text).expect("written");
        assert!(matches!(new(), Err(SettingsError::Invalid { field: "ca_file", .. })), "{text}");
    }
}
