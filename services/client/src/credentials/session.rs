//! Sessions: what `login` stores in a token file, and their renewal.
//!
//! Invariant: one process at a time renews a session, because an issuer may accept each refresh token once only.

use std::fmt;
use std::fs::TryLockError;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::bounded_file::MAX_TOKEN_FILE_BYTES;
use super::error::CredentialsError;
use super::fetch::Fetcher;
use super::issuer::{Issuer, Refusal, Tokens};
use crate::clock;
use crate::contexts::TOKENS_LOCK;
use crate::output::print_notice;
use crate::private_folder::PrivateFolder;

/// Time before the end of a token at which it is replaced: requests take time, and clocks differ.
const MARGIN: TimeDelta = TimeDelta::seconds(30);
/// Time limit for waiting until another process has renewed the session.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);
/// Interval for trying the lock; there is no notification.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The tokens of a person, from an issuer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// The token to send.
    pub(crate) token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    /// True if the token is the access token of the issuer, and not the ID token.
    #[serde(default)]
    pub(crate) use_access_token: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, client_id, expires_at, .. } = self;
        f.debug_struct("Session")
            .field("issuer", issuer)
            .field("client_id", client_id)
            .field("expires_at", expires_at)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Creates a session of the tokens that an issuer gave.
    ///
    /// # Errors
    /// The token to send is missing.
    pub(crate) fn new(
        issuer: &Issuer,
        tokens: Tokens,
        use_access_token: bool,
    ) -> Result<Self, CredentialsError> {
        let (token, missing) = match use_access_token {
            true => (&tokens.access_token, "no access token"),
            false => (&tokens.id_token, "no ID token; try `release-ledger login` with --use-access-token"),
        };
        let Some(token) = token.clone() else {
            return Err(CredentialsError::permanent(format!("{} gave {missing}", issuer.url)));
        };
        Ok(Self {
            expires_at: tokens.expiry(&token, clock::now()),
            token,
            refresh_token: tokens.refresh_token,
            issuer: issuer.url.clone(),
            client_id: issuer.client_id.clone(),
            use_access_token,
        })
    }

    /// Returns true if a text is meant as a session.
    pub(super) fn is_like(text: &str) -> bool {
        text.trim_start().starts_with('{')
    }

    /// Parses a session. The error does not show the text.
    pub(super) fn parse(text: &str, source: &str) -> Result<Self, CredentialsError> {
        serde_json::from_str(text).map_err(|_| {
            CredentialsError::permanent(format!("invalid session in {source}; run `release-ledger login`"))
        })
    }

    /// Returns the text of the token file.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and times are valid JSON")
    }

    /// Returns true if the token has ended, or is about to.
    pub(crate) fn has_ended(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| end - MARGIN <= now)
    }

    async fn renewed(&self, fetcher: Fetcher, source: &str) -> Result<Self, CredentialsError> {
        let again = || format!("the session in {source} has ended; run `release-ledger login` again");
        let Some(refresh_token) = &self.refresh_token else {
            return Err(CredentialsError::permanent(again()));
        };
        let issuer = Issuer::discover(fetcher, &self.issuer, &self.client_id).await?;
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let tokens: Tokens = match issuer.ask(&issuer.token_endpoint, &form).await {
            Ok(tokens) => tokens,
            Err(Refusal::Other(error)) => return Err(error),
            Err(refusal @ Refusal::Code { .. }) => {
                return Err(CredentialsError::permanent(format!("{}: {refusal}", again())));
            }
        };
        let mut renewed = Self::new(&issuer, tokens, self.use_access_token)?;
        if renewed.refresh_token.is_none() {
            renewed.refresh_token = self.refresh_token.clone();
        }
        Ok(renewed)
    }
}

/// Renews the session in a token file, unless another process has done so: `ended` is the token that must be replaced.
///
/// # Errors
/// The file cannot be used, or the issuer gives no new token.
pub(super) async fn renew(
    path: &Path,
    ended: &str,
    fetcher: Fetcher,
    source: &str,
) -> Result<Session, CredentialsError> {
    let failed = |error: &dyn std::fmt::Display| {
        CredentialsError::permanent(format!("cannot renew the session in {source}: {error}"))
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(failed(&"it is no file"));
    };
    let folder = PrivateFolder::open(parent).map_err(|error| failed(&error))?;
    let folder = folder.ok_or_else(|| failed(&"its folder does not exist"))?;
    let lock = folder.open_or_create_file(TOKENS_LOCK).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_POLL_INTERVAL).await,
            Err(TryLockError::WouldBlock) => {
                let text = format!("another process has been renewing the session in {source} for too long");
                return Err(CredentialsError::temporary(text));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
    }
    let text = folder.read_text(name, MAX_TOKEN_FILE_BYTES).map_err(|error| failed(&error))?;
    let stored = Session::parse(&text, source)?;
    if stored.token != ended && !stored.has_ended(clock::now()) {
        return Ok(stored);
    }
    let renewed = stored.renewed(fetcher, source).await?;
    if let Err(error) = folder.replace(name, &renewed.to_json()) {
        print_notice(&format!("cannot store the renewed session in {source}: {error}"));
    }
    Ok(renewed)
}
