//! The identity that a CI or a cluster gives to its workloads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::error::CredentialsError;
use super::fetch::Fetcher;
use super::issuer::parse;
use super::token::{Token, sensitive};

/// The file of a service-account token that a cluster projects for the ledger.
pub(crate) const KUBERNETES_TOKEN: &str = "/var/run/secrets/release-ledger/token";
/// The variable in which a job of GitLab declares its ID token for the ledger.
const GITLAB_TOKEN: &str = "RELEASE_LEDGER_ID_TOKEN";

/// Source of the token of a workload.
#[derive(Debug, Clone)]
pub(super) enum Workload {
    /// GitHub Actions: a request for each token.
    GitHub(GitHub),
    /// A variable with the token.
    Variable(SecretString, &'static str),
    /// A file with the token, which the cluster replaces before it ends.
    File(PathBuf),
    /// The job has no identity, but should.
    Missing(CredentialsError),
}

/// The endpoint for tokens of a job of GitHub Actions.
#[derive(Clone)]
pub(super) struct GitHub {
    url: String,
    request_token: SecretString,
    audience: String,
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHub").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// Returns where this workload gets its token; none if it has no identity. The variable of GitLab and the file of
/// Kubernetes exist for the ledger only; GitHub needs the audience.
pub(super) fn detect(
    variables: &BTreeMap<String, String>,
    kubernetes_token: &Path,
    audience: Option<&str>,
) -> Option<Workload> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    if let Some(audience) = audience {
        let url = set("ACTIONS_ID_TOKEN_REQUEST_URL");
        if let (Some(url), Some(token)) = (url, set("ACTIONS_ID_TOKEN_REQUEST_TOKEN")) {
            return Some(Workload::GitHub(GitHub {
                url: url.clone(),
                request_token: SecretString::from(token.clone()),
                audience: audience.to_owned(),
            }));
        }
        if set("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
            return Some(Workload::Missing(CredentialsError::permanent(
                "this job of GitHub Actions has no identity: give it `permissions: id-token: write`, or set \
                 RELEASE_LEDGER_TOKEN",
            )));
        }
    }
    if let Some(token) = set(GITLAB_TOKEN) {
        return Some(Workload::Variable(SecretString::from(token.clone()), GITLAB_TOKEN));
    }
    kubernetes_token.exists().then(|| Workload::File(kubernetes_token.to_owned()))
}

impl GitHub {
    /// Requests a token.
    ///
    /// # Errors
    /// GitHub gives no token.
    pub(super) async fn token(&self) -> Result<Token, CredentialsError> {
        #[derive(Deserialize)]
        struct Body {
            value: String,
        }
        const SOURCE: &str = "the response of GitHub Actions";
        let url = Url::parse(&self.url);
        let mut url =
            url.map_err(|_| CredentialsError::permanent("invalid URL in ACTIONS_ID_TOKEN_REQUEST_URL"))?;
        url.query_pairs_mut().append_pair("audience", &self.audience);
        let authorization = sensitive(&format!("Bearer {}", self.request_token.expose_secret()))?;
        let answer = Fetcher::default().get(&url, Some(authorization)).await?;
        let body: Body = parse(&answer, &url)?;
        Token::parse(&body.value, SOURCE)
    }
}
