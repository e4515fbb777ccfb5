//! Settings of issuers.

use std::path::PathBuf;

use ledger_domain::{Principal, PrincipalKind, ShortText};
use reqwest::Url;

/// Source of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The discovery document of the issuer: its URL, followed by `/.well-known/openid-configuration`.
    Discovery,
    /// URL of a JSON Web Key Set.
    Url(String),
    /// File with a JSON Web Key Set. It is read again as often as a URL.
    File(PathBuf),
    /// Text of a JSON Web Key Set, which never changes.
    Fixed(String),
}

/// Settings of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The claim `iss`, compared byte by byte: a trailing slash differs.
    pub issuer: String,
    /// Accepted values of the claim `aud`; at least one.
    pub audiences: Vec<String>,
    /// Source of the keys.
    pub keys: KeySource,
    /// Type of the principals: [`PrincipalKind::Person`] or [`PrincipalKind::Workload`].
    pub kind: PrincipalKind,
    /// Claim that becomes the name of the principal. A `/` leads into an object.
    pub name_claim: String,
    /// Claims that the principal keeps. A `/` leads into an object: `kubernetes.io/namespace`.
    pub claims: Vec<String>,
    /// PEM file with certificate authorities that are trusted besides those of the system. It is read once.
    pub ca_file: Option<PathBuf>,
}

/// Claims of GitHub Actions that a principal keeps.
const GITHUB_CLAIMS: [&str; 12] = [
    "repository",
    "repository_id",
    "repository_owner_id",
    "workflow_ref",
    "job_workflow_ref",
    "environment",
    "ref",
    "sha",
    "run_id",
    "run_attempt",
    "actor",
    "event_name",
];
/// Claims of GitLab that a principal keeps.
const GITLAB_CLAIMS: [&str; 10] = [
    "project_id",
    "project_path",
    "namespace_id",
    "ref",
    "ref_type",
    "ref_protected",
    "environment",
    "pipeline_id",
    "job_id",
    "user_login",
];
/// Claims of Kubernetes that a principal keeps.
const KUBERNETES_CLAIMS: [&str; 2] = ["kubernetes.io/namespace", "kubernetes.io/serviceaccount/name"];

impl IssuerSettings {
    /// Returns the settings for GitHub Actions. The issuer of github.com is
    /// `https://token.actions.githubusercontent.com`.
    #[must_use]
    pub fn github(issuer: &str, audience: &str) -> Self {
        Self::workload(issuer, audience, &GITHUB_CLAIMS)
    }

    /// Returns the settings for the ID tokens of GitLab's jobs. The URL is that of the instance.
    #[must_use]
    pub fn gitlab(url: &str, audience: &str) -> Self {
        Self::workload(url, audience, &GITLAB_CLAIMS)
    }

    /// Returns the settings for the service accounts of a Kubernetes cluster.
    ///
    /// The cluster must let anonymous clients read its discovery document and its keys; otherwise set
    /// [`keys`](Self::keys) to a file. [`ca_file`](Self::ca_file) is usually needed.
    #[must_use]
    pub fn kubernetes(issuer: &str, audience: &str) -> Self {
        Self::workload(issuer, audience, &KUBERNETES_CLAIMS)
    }

    /// Returns the settings for any issuer: a person's name is the claim `preferred_username`, a workload's is `sub`.
    #[must_use]
    pub fn generic(issuer: &str, audience: &str, kind: PrincipalKind) -> Self {
        let name_claim = if kind == PrincipalKind::Person { "preferred_username" } else { "sub" };
        Self { kind, name_claim: name_claim.to_owned(), ..Self::workload(issuer, audience, &[]) }
    }

    fn workload(issuer: &str, audience: &str, claims: &[&str]) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audiences: vec![audience.to_owned()],
            keys: KeySource::Discovery,
            kind: PrincipalKind::Workload,
            name_claim: "sub".to_owned(),
            claims: claims.iter().map(|claim| (*claim).to_owned()).collect(),
            ca_file: None,
        }
    }

    /// Checks everything that needs no file and no network. Returns the issuer as a text of a principal.
    pub(super) fn check(&self) -> Result<ShortText, SettingsError> {
        let issuer = ShortText::parse(&self.issuer).map_err(|error| self.invalid("issuer", error))?;
        if Principal::RESERVED.contains(&issuer.as_str()) {
            return Err(self.invalid("issuer", "is a reserved name"));
        }
        if self.audiences.is_empty() || self.audiences.iter().any(|audience| audience.trim().is_empty()) {
            return Err(self.invalid("audience", "must not be empty"));
        }
        if self.kind == PrincipalKind::Local {
            return Err(self.invalid("kind", "must be person or workload"));
        }
        if self.name_claim.is_empty() || self.claims.iter().any(String::is_empty) {
            return Err(self.invalid("claims", "must not contain an empty name"));
        }
        self.url()?;
        Ok(issuer)
    }

    /// Returns the URL of the discovery document or of the keys; `None` if the keys are local.
    pub(super) fn url(&self) -> Result<Option<Url>, SettingsError> {
        let text = match &self.keys {
            KeySource::Discovery => {
                let issuer = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
                if issuer.contains(['?', '#']) {
                    return Err(self.invalid("issuer", "must not contain a query or a fragment"));
                }
                format!("{issuer}/.well-known/openid-configuration")
            }
            KeySource::Url(url) => url.clone(),
            KeySource::File(_) | KeySource::Fixed(_) => return Ok(None),
        };
        let url = Url::parse(&text).map_err(|error| self.invalid("keys", error))?;
        if !is_secure(&url) {
            let reason = "must be an https URL without credentials; http is allowed for loopback addresses";
            return Err(self.invalid("keys", reason));
        }
        Ok(Some(url))
    }

    pub(super) fn invalid(&self, field: &'static str, reason: impl ToString) -> SettingsError {
        SettingsError::Invalid { issuer: self.issuer.clone(), field, reason: reason.to_string() }
    }
}

/// Returns true for an https URL, and for an http URL of a loopback address; both without credentials.
pub(super) fn is_secure(url: &Url) -> bool {
    let is_allowed = match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    };
    is_allowed && url.username().is_empty() && url.password().is_none()
}

/// Returns true if the host of a URL is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The settings of an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A field is invalid.
    #[error("issuer {issuer}: {field} {reason}")]
    Invalid {
        /// Issuer.
        issuer: String,
        /// Field of [`IssuerSettings`].
        field: &'static str,
        /// Rule that the field breaks.
        reason: String,
    },
    /// A sign-in names an issuer without settings.
    #[error("issuer {0} is not configured; add it to access.issuers")]
    Unknown(String),
    /// Two settings have the same issuer.
    #[error("issuer {0} is configured twice; remove one of the entries")]
    Repeated(String),
    /// The file with certificate authorities cannot be read.
    #[error("issuer {issuer}: cannot read ca_file {}", path.display())]
    CaFile {
        /// Issuer.
        issuer: String,
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file with the secret of a client cannot be read.
    #[error("issuer {issuer}: cannot read client_secret_file {}", path.display())]
    SecretFile {
        /// Issuer.
        issuer: String,
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The HTTP client cannot be created.
    #[error("issuer {issuer}: cannot set up the HTTP client")]
    Http {
        /// Issuer.
        issuer: String,
        /// Cause.
        source: reqwest::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &IssuerSettings) -> &'static str {
        match settings.check().expect_err("refused") {
            SettingsError::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn presets_are_valid() {
        for settings in [
            IssuerSettings::github("https://token.actions.githubusercontent.com", "ledger"),
            IssuerSettings::gitlab("https://gitlab.example", "ledger"),
            IssuerSettings::kubernetes("https://kubernetes.default.svc", "ledger"),
            IssuerSettings::generic("https://login.example/realms/a/", "ledger", PrincipalKind::Person),
        ] {
            assert_eq!(settings.check().expect("valid").as_str(), settings.issuer);
        }
    }

    #[test]
    fn the_discovery_document_is_below_the_issuer_with_or_without_a_slash() {
        for issuer in ["https://a.example/realm", "https://a.example/realm/"] {
            let url = IssuerSettings::gitlab(issuer, "x").url().expect("valid").expect("a URL");
            assert_eq!(url.as_str(), "https://a.example/realm/.well-known/openid-configuration");
        }
    }

    #[test]
    fn keys_come_from_https_or_from_this_machine() {
        let with = |url: &str| IssuerSettings {
            keys: KeySource::Url(url.to_owned()),
            ..IssuerSettings::gitlab("https://a.example", "x")
        };
        for url in [
            "https://a.example/keys",
            "http://127.0.0.1:9/keys",
            "http://127.8.0.1/keys",
            "http://[::1]:9/keys",
            "http://localhost/keys",
        ] {
            assert!(with(url).check().is_ok(), "{url}");
        }
        for url in [
            "http://a.example/keys",
            "http://10.0.0.1/keys",
            "http://127.0.0.1.example/keys",
            "http://localhost.example/keys",
            "https://user:secret@a.example/keys",
            "http://user@localhost/keys",
            "file:///etc/keys",
            "data:application/json,{}",
            "keys",
            "",
        ] {
            assert_eq!(refused(&with(url)), "keys", "{url}");
        }
        for issuer in ["http://a.example", "ftp://a.example", "a.example"] {
            assert_eq!(refused(&IssuerSettings::gitlab(issuer, "x")), "keys", "{issuer}");
        }
    }

    #[test]
    fn settings_that_would_accept_too_much_are_refused() {
        let valid = || IssuerSettings::gitlab("https://a.example", "x");
        assert_eq!(refused(&IssuerSettings { audiences: Vec::new(), ..valid() }), "audience");
        assert_eq!(refused(&IssuerSettings::gitlab("https://a.example", " ")), "audience");
        assert_eq!(refused(&IssuerSettings { kind: PrincipalKind::Local, ..valid() }), "kind");
        assert_eq!(refused(&IssuerSettings { name_claim: String::new(), ..valid() }), "claims");
        let others = ["", " https://a.example", "https://a.example?b", "a\n"];
        for issuer in Principal::RESERVED.into_iter().chain(others) {
            let keys = KeySource::Discovery;
            assert_eq!(refused(&IssuerSettings { keys, ..IssuerSettings::gitlab(issuer, "x") }), "issuer");
        }
    }
}
