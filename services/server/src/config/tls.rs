//! Settings of encryption between clients and the service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::value::Value;
use ledger_api::TlsFiles;

use super::{Error, Http};

/// Flags of encryption.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct TlsFlags {
    /// Certificate of the service (PEM), followed by those of its issuers
    #[arg(long, value_name = "FILE")]
    http_tls_certificate: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    http_tls_key: Option<PathBuf>,
    /// Authorities (PEM) of the certificates that clients may present
    #[arg(long, value_name = "FILE")]
    http_tls_client_ca: Option<PathBuf>,
    /// Whether every client must present a certificate
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    http_tls_require_client_certificate: Option<bool>,
    /// Whether a proxy encrypts the connections of clients
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    http_behind_proxy: Option<bool>,
}

impl TlsFlags {
    pub(super) fn behind_proxy(is_behind_proxy: bool) -> Self {
        Self { http_behind_proxy: Some(is_behind_proxy), ..Self::default() }
    }

    /// Returns the given flags as settings of `http`.
    pub(super) fn given(&self) -> [(&'static str, &'static str, Option<Value>); 5] {
        let path = |path: &Option<PathBuf>| {
            path.as_deref().map(|path: &Path| Value::from(path.to_string_lossy().into_owned()))
        };
        [
            ("http", "tls_certificate", path(&self.http_tls_certificate)),
            ("http", "tls_key", path(&self.http_tls_key)),
            ("http", "tls_client_ca", path(&self.http_tls_client_ca)),
            (
                "http",
                "tls_require_client_certificate",
                self.http_tls_require_client_certificate.map(Value::from),
            ),
            ("http", "behind_proxy", self.http_behind_proxy.map(Value::from)),
        ]
    }
}

impl Http {
    /// Returns the files of TLS, if the service encrypts the connections of clients.
    #[must_use]
    pub fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
            client_ca: self.tls_client_ca.clone(),
            requires_client_certificate: self.tls_require_client_certificate,
        })
    }

    /// Returns true if clients reach the service over TLS only, its own or that of a proxy.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.behind_proxy || self.tls().is_some()
    }

    /// Checks that the settings of TLS are complete, and that credentials do not cross a network in plain text.
    pub(super) fn check_encryption(&self) -> Result<(), Error> {
        let needs = |setting, needed| Err(Error::Incomplete { setting, needed });
        match (&self.tls_certificate, &self.tls_key) {
            (Some(_), None) => return needs("http.tls_certificate", "http.tls_key (--http-tls-key)"),
            (None, Some(_)) => return needs("http.tls_key", "http.tls_certificate (--http-tls-certificate)"),
            (None, None) if self.tls_client_ca.is_some() => {
                return needs("http.tls_client_ca", "http.tls_certificate (--http-tls-certificate)");
            }
            _ => {}
        }
        if self.tls_require_client_certificate && self.tls_client_ca.is_none() {
            return needs("http.tls_require_client_certificate", "http.tls_client_ca (--http-tls-client-ca)");
        }
        check_plain(self.listen, self.is_encrypted())
    }
}

/// Checks that a service without encryption listens on a loopback address.
///
/// # Errors
/// It listens on another address.
pub fn check_plain(listen: SocketAddr, is_encrypted: bool) -> Result<(), Error> {
    if is_encrypted || listen.ip().is_loopback() { Ok(()) } else { Err(Error::Plain(listen)) }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::super::{Config, Flags};
    use super::*;

    /// Reads the settings of a service with an administrator, from flags.
    fn read(flags: &[&str]) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let hash = format!("sha256:{}", "0".repeat(64));
        let administrator = format!(
            "[[access.administrators]]\nname = \"ada\"\nkind = \"person\"\ntoken = \"8c1f2e3d4a5b6978\"\n\
             hash = \"{hash}\"\n"
        );
        std::fs::write(file.path(), administrator).expect("written");
        let config = format!("--config={}", file.path().display());
        let all = ["serve", &config].into_iter().chain(flags.iter().copied());
        let matches = Flags::augment_args(clap::Command::new("serve")).try_get_matches_from(all);
        let flags = Flags::from_arg_matches(&matches.map_err(|error| error.to_string())?);
        Config::read_for_serving(&flags.expect("flags of serve")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_of_a_network_needs_encryption() {
        let error = read(&["--listen=0.0.0.0:8080"]).expect_err("rejected");

        for part in ["0.0.0.0:8080", "http.tls_certificate", "--http-tls-key", "--http-behind-proxy"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains('\n'), "{error}");
        assert!(read(&["--listen=127.0.0.1:8080"]).is_ok());
        assert!(read(&["--listen=[::1]:8080"]).is_ok());
    }

    #[test]
    fn a_certificate_or_a_proxy_is_encryption() {
        let with_tls = read(&["--listen=0.0.0.0:1", "--http-tls-certificate=/c", "--http-tls-key=/k"]);
        let http = with_tls.expect("accepted").http;
        assert!(http.is_encrypted());
        let files = http.tls().expect("files");
        assert_eq!((files.certificate, files.key), (PathBuf::from("/c"), PathBuf::from("/k")));
        assert_eq!((files.client_ca, files.requires_client_certificate), (None, false));

        for flag in ["--http-behind-proxy", "--http-behind-proxy=true"] {
            let http = read(&["--listen=[::]:1", flag]).expect("accepted").http;
            assert!(http.is_encrypted() && http.tls().is_none());
        }
        assert!(read(&["--listen=0.0.0.0:1", "--http-behind-proxy=false"]).is_err());
    }

    #[test]
    fn no_encryption_makes_a_service_without_authentication_acceptable() {
        let error = read(&["--listen=0.0.0.0:1", "--http-behind-proxy", "--access-authentication=off"]);

        assert!(error.expect_err("rejected").contains("access.authentication"));
    }

    #[test]
    fn incomplete_settings_name_what_is_missing() {
        let cases = [
            ("--http-tls-certificate=/c", "http.tls_key"),
            ("--http-tls-key=/k", "http.tls_certificate"),
            ("--http-tls-client-ca=/a", "http.tls_certificate"),
            ("--http-tls-require-client-certificate", "http.tls_client_ca"),
            ("--journal-client-certificate=/c", "journal.client_key"),
            ("--journal-client-key=/k", "journal.client_certificate"),
        ];
        for (flag, missing) in cases {
            let error = read(&[flag]).expect_err("rejected");
            assert!(error.contains(&format!("needs {missing}")), "{flag}: {error}");
        }
    }
}
