//! TLS of the listener. New files replace the certificate for new connections; open connections keep theirs.

mod files;
mod validity;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ledger_domain::error_chain;
use metrics::gauge;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use files::{Contents, Loaded};

/// Maximum number of bytes of a connection that are encrypted or wait for it. One record of TLS has up to 16 KiB.
const TLS_BUFFER_BYTES: usize = 16 << 10;

/// Files of TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of the service, followed by those of its issuers.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// Certificates of the authorities whose client certificates are accepted. If it is set, a client may present one.
    pub client_ca: Option<PathBuf>,
    /// True if a client must present a certificate.
    pub requires_client_certificate: bool,
}

/// Reason why the files of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file is no PEM, or has not what it must have.
    #[error("{path} has no valid PEM of {what}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Content that the file must have.
        what: &'static str,
        /// Cause.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate is invalid, or the key is not its key.
    #[error("cannot use the certificate {certificate} with the key {key}")]
    Certificate {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Cause.
        #[source]
        source: rustls::Error,
    },
    /// The period of validity of the certificate cannot be read.
    #[error("cannot read the period of validity of the certificate {0}")]
    Validity(PathBuf),
    /// The certificates of client authorities are invalid.
    #[error("cannot use the client authorities {path}: {reason}")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
}

/// TLS of a listener. Clones share the certificate.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// Digest of the contents that were last tried, or of the error that prevented it.
    tried: Mutex<u64>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files);
        let tried = Mutex::new(digest(&contents));
        let loaded = contents.and_then(|contents| contents.load(&files))?;
        let current = RwLock::new(publish(loaded));
        Ok(Self(Arc::new(Shared { files, current, tried })))
    }

    /// Reads the files again, and uses them for new connections. If they are unusable, the ones before stay in use.
    pub async fn reload(&self) {
        self.reload_in_background(true).await;
    }

    /// As [`Tls::reload`], but only if the files have changed since they were last tried.
    pub async fn reload_if_changed(&self) {
        self.reload_in_background(false).await;
    }

    async fn reload_in_background(&self, is_forced: bool) {
        let shared = Arc::clone(&self.0);
        if let Err(error) = spawn_blocking(move || shared.reload(is_forced)).await {
            warn!(%error, "reload of the TLS files failed");
        }
    }

    /// Performs the handshake of a connection.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let current = Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner));
        let limit = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        TlsAcceptor::from(current).accept_with(stream, limit).await
    }
}

impl Shared {
    fn reload(&self, is_forced: bool) {
        // Held to the end: of two reloads at a time, the later one would install older files.
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = Contents::read(&self.files);
        let digest = digest(&contents);
        if *tried == digest && !is_forced {
            return;
        }
        *tried = digest;
        match contents.and_then(|contents| contents.load(&self.files)) {
            Ok(loaded) => {
                let not_after = loaded.not_after;
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = publish(loaded);
                info!(%not_after, "reloaded the TLS files");
            }
            Err(error) => {
                gauge!("ledger_tls_reload_failed").set(1.0);
                let error = error_chain(&error);
                warn!(error, "cannot use the new TLS files; the previous certificate stays in use");
            }
        }
    }
}

/// Publishes the gauges of a certificate that is in use from now on.
fn publish(loaded: Loaded) -> Arc<ServerConfig> {
    gauge!("ledger_tls_reload_failed").set(0.0);
    gauge!("ledger_tls_not_after_seconds").set(loaded.not_after.timestamp() as f64);
    Arc::new(loaded.config)
}

fn digest(contents: &Result<Contents, TlsError>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match contents {
        Ok(contents) => contents.hash(&mut hasher),
        Err(error) => error_chain(error).hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
