//! The OAuth 2.0 Device Authorization Grant (RFC 8628).

use std::time::Duration;

use anyhow::{Context as _, bail};
use ledger_domain::escape_line;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::credentials::{Issuer, Refusal, Tokens};

/// The type of grant.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Interval of requests for tokens if the issuer states none, and by which it grows if the issuer wants that, in seconds.
const INTERVAL: u32 = 5;
/// Bounds of what an issuer may state: the interval and the validity of a code, in seconds.
const MAX_INTERVAL: u32 = 60;
const MAX_VALIDITY: u32 = 3_600;

/// A login that a person confirms on another device.
pub(super) struct DeviceLogin<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) scope: &'a str,
    pub(super) audience: Option<&'a str>,
}

#[derive(Deserialize)]
struct Authorization {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u32,
    interval: Option<u32>,
}

impl DeviceLogin<'_> {
    /// Shows the page and the code, and waits until the person has confirmed.
    ///
    /// # Errors
    /// The person denies, or takes too long, or the issuer fails.
    pub(super) async fn tokens(
        &self,
        second: Duration,
        prompt: impl Fn(&str) + Sync,
    ) -> anyhow::Result<Tokens> {
        let issuer = self.issuer;
        let Some(endpoint) = &issuer.device_endpoint else {
            bail!("issuer {} does not support logins from another device (RFC 8628)", issuer.url);
        };
        let audience = self.audience.map(|audience| ("audience", audience));
        let members: Vec<_> = [("scope", self.scope)].into_iter().chain(audience).collect();
        let authorization: Authorization = issuer.ask(endpoint, &members).await.context("cannot log in")?;
        let Authorization { verification_uri, verification_uri_complete, user_code, .. } = &authorization;
        prompt(&format!("open {verification_uri} in a browser and enter the code {user_code}"));
        if let Some(complete) = verification_uri_complete {
            prompt(&format!("or open {complete}, and compare the code"));
        }
        self.poll(&authorization, second).await
    }

    async fn poll(&self, authorization: &Authorization, second: Duration) -> anyhow::Result<Tokens> {
        let Authorization { device_code, expires_in, interval, .. } = authorization;
        let deadline = Instant::now() + second * (*expires_in).min(MAX_VALIDITY);
        let mut interval = interval.unwrap_or(INTERVAL).clamp(1, MAX_INTERVAL);
        let form = [("grant_type", GRANT_TYPE), ("device_code", device_code)];
        loop {
            sleep(second * interval).await;
            if Instant::now() >= deadline {
                bail!("the code has expired; run `release-ledger login` again");
            }
            let refusal = match self.issuer.ask(&self.issuer.token_endpoint, &form).await {
                Ok(tokens) => return Ok(tokens),
                Err(refusal) => refusal,
            };
            match &refusal {
                Refusal::Code { code, description, .. } => match code.as_str() {
                    "authorization_pending" => {}
                    "slow_down" => interval += INTERVAL,
                    "access_denied" => bail!("the login was denied{}", escape_line(description)),
                    "expired_token" => bail!("the code has expired; run `release-ledger login` again"),
                    _ => return Err(refusal).context("cannot log in"),
                },
                // RFC 8628, section 3.5: back off after a failed connection.
                Refusal::Other(error) if error.is_temporary() => {
                    interval = (interval * 2).min(MAX_INTERVAL);
                }
                Refusal::Other(_) => return Err(refusal).context("cannot log in"),
            }
        }
    }
}
