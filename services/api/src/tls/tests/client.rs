//! Certificates of a test, and a client of TLS that sends what it is given.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::WAIT_LIMIT;
use crate::tls::TlsFiles;

/// An authority that issues certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        // The name of an authority must not be that of another one: it selects the authority of a client.
        let name = format!("authority {:02x?}", &key.serialized_der()[40..48]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Issues a certificate for `localhost`, with a key of its own, until 2039-02-03.
    pub(super) fn issue(&self) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(2039, 2, 3);
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Returns a client that trusts this authority, without a certificate.
    pub(super) fn client(&self) -> Client {
        self.client_of(None)
    }

    /// Returns a client that trusts this authority, with a certificate.
    pub(super) fn client_with(&self, pair: &Pair) -> Client {
        self.client_of(Some(pair))
    }

    fn client_of(&self, pair: Option<&Pair>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Client(TlsConnector::from(Arc::new(config)))
    }
}

/// Folder of the files of a service.
pub(super) struct Folder(TempDir);

impl Folder {
    /// Creates the folder with a certificate of an authority.
    pub(super) fn new(authority: &Authority) -> Self {
        let folder = Self(TempDir::new().expect("a folder"));
        folder.write(&authority.issue());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.path("certificate.pem"),
            key: self.path("key.pem"),
            client_ca: None,
            requires_client_certificate: false,
        }
    }

    pub(super) fn files_with_client_ca(&self, authority: &Authority, is_required: bool) -> TlsFiles {
        let client_ca = self.path("clients.pem");
        std::fs::write(&client_ca, authority.0.pem()).expect("written");
        TlsFiles { client_ca: Some(client_ca), requires_client_certificate: is_required, ..self.files() }
    }

    pub(super) fn write(&self, pair: &Pair) {
        self.write_certificate(&pair.certificate);
        std::fs::write(self.path("key.pem"), &pair.key).expect("written");
    }

    pub(super) fn write_certificate(&self, text: &str) {
        std::fs::write(self.path("certificate.pem"), text).expect("written");
    }

    pub(super) fn remove_certificate(&self) {
        std::fs::remove_file(self.path("certificate.pem")).expect("removed");
    }
}

/// A client of TLS.
pub(super) struct Client(TlsConnector);

impl Client {
    pub(super) async fn connect(&self, address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let handshake = timeout(WAIT_LIMIT, self.0.connect(name, stream)).await;
        Ok(Connection(handshake.expect("the handshake ends")?))
    }
}

/// A connection after its handshake.
pub(super) struct Connection(TlsStream<TcpStream>);

impl Connection {
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }

    /// Returns the certificate of the service.
    pub(super) fn certificate(&self) -> Vec<u8> {
        let chain = self.0.get_ref().1.peer_certificates().expect("a certificate");
        chain[0].to_vec()
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("sent");
        self.0.flush().await.expect("sent");
    }

    /// Ends the client's side, with the message of TLS for it, or with TCP only.
    pub(super) async fn close_side(&mut self, says_so: bool) {
        let ended = if says_so { self.0.shutdown().await } else { self.0.get_mut().0.shutdown().await };
        ended.expect("ended");
    }

    pub(super) async fn get(&mut self, path: &str) -> Option<String> {
        self.try_get(path).await.ok()
    }

    pub(super) async fn try_get(&mut self, path: &str) -> Result<String> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.write_all(head.as_bytes()).await?;
        self.0.flush().await?;
        self.answer().await
    }

    pub(super) async fn post(&mut self, path: &str, body: &str) -> Option<String> {
        let length = body.len();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.answer().await.ok()
    }

    /// Receives an answer with a length, and returns its body. Returns an error if the service ends the connection
    /// before it, or if the status is not 200.
    pub(super) async fn answer(&mut self) -> Result<String> {
        timeout(WAIT_LIMIT, self.receive_answer()).await.expect("the service answers or closes")
    }

    async fn receive_answer(&mut self) -> Result<String> {
        let mut received = Vec::new();
        let end = loop {
            if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            if self.0.read_buf(&mut received).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(Error::other(head));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        while received.len() < end + length {
            if self.0.read_buf(&mut received).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8_lossy(&received[end..end + length]).into_owned())
    }
}
