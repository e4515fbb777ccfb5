//! Tokens of OpenID Connect issuers.
//!
//! [`Verifier`] verifies a token of a configured issuer and returns its [`Principal`]: a workload of GitHub Actions,
//! GitLab or Kubernetes, or a person. It checks in this order: size, form, header, issuer, key, signature, times,
//! audience, other claims. Only asymmetric algorithms are allowed, and a key is used only for the algorithms of its type.
//! Keys come from the issuer's settings alone, never from a token. [`SignIn`] signs a person in with a browser.

mod attempt;
mod cache;
mod claims;
mod error;
mod fetch;
mod jwks;
mod settings;
mod sign_in;
mod strict;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ledger_domain::{Principal, ShortText};

pub use attempt::Attempt;
use cache::Cache;
pub use error::OidcError;
use fetch::Fetcher;
use jwks::KeySet;
pub use settings::{IssuerSettings, KeySource, SettingsError};
pub use sign_in::{AuthorizationResponse, ClientSettings, SignIn, SignInError};
use token::Unverified;

/// Maximum number of bytes of a token.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Verifies the tokens of configured issuers. Clones share the keys.
#[derive(Debug, Clone)]
pub struct Verifier {
    issuers: Arc<HashMap<String, Issuer>>,
    clock: fn() -> DateTime<Utc>,
}

#[derive(Debug)]
struct Issuer {
    settings: IssuerSettings,
    name: ShortText,
    keys: Cache,
}

impl Verifier {
    /// Creates a verifier. Keys are fetched when the first token of an issuer arrives. Without issuers, it refuses every
    /// token.
    ///
    /// # Errors
    /// The settings of an issuer break a rule, two have the same issuer, or a file with certificate authorities cannot be
    /// read.
    pub fn new(issuers: Vec<IssuerSettings>, clock: fn() -> DateTime<Utc>) -> Result<Self, SettingsError> {
        let mut by_name = HashMap::new();
        for settings in issuers {
            let name = settings.issuer.clone();
            if by_name.insert(name.clone(), Issuer::new(settings)?).is_some() {
                return Err(SettingsError::Repeated(name));
            }
        }
        Ok(Self { issuers: Arc::new(by_name), clock })
    }

    /// Verifies a token and returns its principal.
    ///
    /// It may wait for one fetch of the issuer's keys, at most 5 s. Call it in a Tokio runtime. It may be cancelled.
    ///
    /// # Errors
    /// The token is not accepted, or the keys are not available: see [`OidcError::is_temporary`].
    pub async fn verify(&self, token: &str) -> Result<Principal, OidcError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(OidcError::TooLarge);
        }
        let token = Unverified::parse(token)?;
        let issuer = self.issuers.get(claims::text(&token.claims, "iss")?).ok_or(OidcError::UnknownIssuer)?;
        issuer.keys.verify(&token).await?;
        claims::check_times(&token.claims, (self.clock)())?;
        claims::check_audience(&token.claims, &issuer.settings.audiences)?;
        claims::principal(&token.claims, &issuer.settings, &issuer.name)
    }
}

impl Issuer {
    fn new(settings: IssuerSettings) -> Result<Self, SettingsError> {
        let name = settings.check()?;
        let keys = match (Fetcher::new(&settings)?, &settings.keys) {
            (Some(fetcher), _) => Cache::fetched(&settings.issuer, fetcher),
            (None, KeySource::Fixed(text)) => {
                let keys = KeySet::parse(text.as_bytes()).map_err(|error| settings.invalid("keys", error))?;
                if keys.is_empty() {
                    return Err(settings.invalid("keys", "contain no usable key"));
                }
                Cache::fixed(&settings.issuer, keys)
            }
            (None, _) => return Err(settings.invalid("keys", "have no source")),
        };
        Ok(Self { settings, name, keys })
    }
}
