//! OpenID Connect issuers: discovery, and requests for tokens.
//!
//! Invariant: an issuer's error code and description reach an error; tokens and codes do not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_domain::escape_line;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::CredentialsError;
use super::fetch::{Answer, Fetcher};
use crate::address::origin;

/// An issuer, and a client that is registered with it.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    /// The URL, without a slash at the end.
    pub(crate) url: String,
    pub(crate) client_id: String,
    pub(crate) token_endpoint: Url,
    pub(crate) device_endpoint: Option<Url>,
    fetcher: Fetcher,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
}

/// The tokens of a response.
#[derive(Deserialize)]
pub(crate) struct Tokens {
    pub(crate) id_token: Option<String>,
    pub(crate) access_token: Option<String>,
    pub(crate) refresh_token: Option<String>,
    expires_in: Option<u32>,
}

/// The issuer gives no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The issuer answers with an error of OAuth 2.0.
    #[error("{issuer} answered {code}{description}")]
    Code {
        /// The URL of the issuer.
        issuer: String,
        /// The error code, such as `access_denied`.
        code: String,
        /// The description, after a colon; empty if there is none.
        description: String,
    },
    /// No answer, or not one of an issuer.
    #[error(transparent)]
    Other(#[from] CredentialsError),
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    error_description: Option<String>,
}

impl Issuer {
    /// Finds the endpoints of an issuer.
    ///
    /// # Errors
    /// The issuer does not answer, or its document is not that of this issuer.
    pub(crate) async fn discover(
        fetcher: Fetcher,
        url: &str,
        client_id: &str,
    ) -> Result<Self, CredentialsError> {
        let url = url.trim_end_matches('/');
        let permanent = |reason: &str| CredentialsError::permanent(format!("issuer {url}: {reason}"));
        let document = Url::parse(&format!("{url}/.well-known/openid-configuration"))
            .map_err(|error| permanent(&error.to_string()))?;
        let found: Discovery = parse(&fetcher.get(&document, None).await?, &document)?;
        if found.issuer.trim_end_matches('/') != url {
            return Err(permanent(&format!("its discovery document is of {}", escape_line(&found.issuer))));
        }
        let endpoint = |url: &str| {
            Url::parse(url)
                .map_err(|error| permanent(&format!("an endpoint in its discovery document: {error}")))
        };
        Ok(Self {
            url: url.to_owned(),
            client_id: client_id.to_owned(),
            token_endpoint: endpoint(&found.token_endpoint)?,
            device_endpoint: found.device_authorization_endpoint.as_deref().map(endpoint).transpose()?,
            fetcher,
        })
    }

    /// Sends a form with the client's id to an endpoint.
    ///
    /// # Errors
    /// The issuer refuses, or does not answer.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: &Url,
        members: &[(&str, &str)],
    ) -> Result<T, Refusal> {
        let members = [members, &[("client_id", &*self.client_id)]].concat();
        let answer = self.fetcher.post_form(endpoint, &members).await?;
        if !answer.status.is_success()
            && let Ok(ErrorBody { error, error_description }) = serde_json::from_slice(&answer.body)
        {
            let description = error_description.filter(|text| !text.is_empty());
            let description = description.map(|text| format!(": {}", escape_line(&text)));
            return Err(Refusal::Code {
                issuer: self.url.clone(),
                code: escape_line(&error).into_owned(),
                description: description.unwrap_or_default(),
            });
        }
        Ok(parse(&answer, endpoint)?)
    }
}

impl Tokens {
    /// Returns the time at which a token of this response ends: that in the token, else that of the response.
    pub(crate) fn expiry(&self, token: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let stated = self.expires_in.map(|seconds| now + TimeDelta::seconds(i64::from(seconds)));
        expiry_of(token).or(stated)
    }
}

/// Returns the claim `exp` of a JSON Web Token, without verification; none for other tokens.
fn expiry_of(token: &str) -> Option<DateTime<Utc>> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&payload).ok()?;
    DateTime::from_timestamp(exp as i64, 0)
}

/// Parses a successful response. The error does not show it: it may contain tokens.
pub(super) fn parse<T: DeserializeOwned>(answer: &Answer, url: &Url) -> Result<T, CredentialsError> {
    let Answer { status, body } = answer;
    if !status.is_success() {
        let text = format!("{} answered {status} to a request for an identity", origin(url));
        let is_temporary = status.is_server_error() || status.as_u16() == 429;
        return Err(match is_temporary {
            true => CredentialsError::temporary(text),
            false => CredentialsError::permanent(text),
        });
    }
    serde_json::from_slice(body).map_err(|error| {
        let at = format!("line {} column {}", error.line(), error.column());
        let text = format!("unexpected response of {} to a request for an identity ({at})", origin(url));
        CredentialsError::permanent(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_its_own_claim_or_that_of_the_response() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let tokens =
            |expires_in| Tokens { id_token: None, access_token: None, refresh_token: None, expires_in };
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"exp":1800000060.5}"#));
        assert_eq!(tokens(Some(5)).expiry(&token, now), Some(now + TimeDelta::seconds(60)));
        assert_eq!(tokens(Some(5)).expiry("opaque", now), Some(now + TimeDelta::seconds(5)));
        assert_eq!(tokens(None).expiry("a.b.c", now), None);
    }
}
