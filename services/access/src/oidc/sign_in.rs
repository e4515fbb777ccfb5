//! Sign-in of people in a browser: the authorization code flow of OpenID Connect, with PKCE.
//!
//! [`SignIn::begin`] returns the address to which the browser is sent, and secrets that it keeps; [`SignIn::complete`]
//! takes the answer of the issuer with these secrets, and returns the person. Nothing is stored in between. The answer
//! must have the state of the browser, so that no one is signed in as another person, come from the issuer that was asked
//! (RFC 9207), and lead to an ID token of that issuer, for this client, with the nonce of the request.

use std::sync::Arc;
use std::time::Duration;

use ledger_domain::{Principal, PrincipalKind};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::attempt::Attempt;
use super::claims;
use super::error::OidcError;
use super::fetch::{FETCH_LIMIT, Failure, Http, endpoint};
use super::settings::{IssuerSettings, KeySource, SettingsError};
use super::strict;
use super::token::Unverified;
use super::{MAX_TOKEN_BYTES, Verifier};

/// Age at which the addresses of an issuer are read again.
const REFRESH_AGE: Duration = Duration::from_secs(10 * 60);
/// Age up to which these addresses are used while the issuer does not answer.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Time after a failed request for these addresses during which none is sent.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// Maximum number of codes of an issuer that are exchanged at the same time.
const MAX_EXCHANGES: usize = 16;
/// Maximum number of characters of an error of the issuer that is shown.
const MAX_REPORTED: usize = 300;

/// OAuth client of the service at an issuer.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Identifier of the client; one of the audiences of the issuer.
    pub client_id: String,
    /// Secret of the client; `None` for a public client.
    pub client_secret: Option<SecretString>,
    /// Scope of the requests: words with spaces between them, `openid` among them.
    pub scope: String,
    /// Address of the service to which the issuer sends browsers back.
    pub redirect_url: String,
}

/// Authorization response of an issuer: the query with which it sends a browser back.
#[derive(Deserialize)]
pub struct AuthorizationResponse {
    /// Code, to be exchanged for an ID token.
    pub code: Option<String>,
    /// State of the request.
    pub state: Option<String>,
    /// Issuer (RFC 9207).
    pub iss: Option<String>,
    /// Code of a failure, such as `access_denied`.
    pub error: Option<String>,
    /// Description of the failure.
    pub error_description: Option<String>,
}

impl AuthorizationResponse {
    /// Returns true if this is the response to the sign-in with these secrets, right or wrong.
    #[must_use]
    pub fn belongs_to(&self, attempt: &Attempt) -> bool {
        self.state.as_deref().is_some_and(|state| attempt.has_state(state))
    }
}

/// A sign-in failed. The messages are for the person who signs in, and contain no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// The issuer does not answer, or not as the standard demands. Temporary.
    #[error(
        "the issuer does not answer as expected; try again, and see the log of the service if that fails too"
    )]
    Unavailable,
    /// Too many sign-ins are in progress. Temporary.
    #[error("too many sign-ins are in progress; try again in a moment")]
    Busy,
    /// The system has no random numbers. Temporary.
    #[error("the service has no random numbers; try again")]
    NoRandomNumbers,
    /// The answer belongs to another sign-in.
    #[error("the answer of the issuer does not belong to this sign-in; begin again")]
    OtherSignIn,
    /// The answer comes from another issuer, or does not state where it comes from.
    #[error("the answer comes from another issuer than the one that was asked; begin again")]
    OtherIssuer,
    /// The issuer reports a failure.
    #[error("the issuer reports: {0}")]
    Reported(String),
    /// The answer has no code.
    #[error("the answer of the issuer has no code; begin again")]
    NoCode,
    /// The ID token is not accepted.
    #[error("the ID token of the issuer is not accepted: {0}")]
    Token(#[from] OidcError),
}

impl SignInError {
    /// Returns true if a further attempt may succeed, since nothing is wrong with the answer.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable | Self::Busy | Self::NoRandomNumbers => true,
            Self::Token(error) => error.is_temporary(),
            Self::OtherSignIn | Self::OtherIssuer | Self::Reported(_) | Self::NoCode => false,
        }
    }
}

/// Signs people in with one issuer.
#[derive(Debug)]
pub struct SignIn {
    verifier: Verifier,
    issuer: String,
    /// Address of the discovery document.
    discovery_url: Url,
    http: Arc<Http>,
    client: ClientSettings,
    known: Arc<Mutex<Known>>,
    exchanges: Semaphore,
}

/// Addresses of an issuer.
#[derive(Debug)]
struct Endpoints {
    authorization: Url,
    token: Url,
    /// True if every authorization response of the issuer has `iss`.
    sends_iss: bool,
    /// True if the issuer accepts the secret of a client only as a field of the form.
    secret_in_form_only: bool,
}

#[derive(Debug, Default)]
struct Known {
    endpoints: Option<(Instant, Arc<Endpoints>)>,
    /// Earliest time of the next request for them.
    retry_at: Option<Instant>,
}

impl Verifier {
    /// Returns the sign-in with one of the issuers. Connects to nothing.
    ///
    /// # Errors
    /// The issuer is unknown, is not one of people, or the client is not one of its audiences.
    pub fn sign_in(&self, issuer: &str, client: ClientSettings) -> Result<SignIn, SettingsError> {
        let found = self.issuers.get(issuer).ok_or_else(|| SettingsError::Unknown(issuer.to_owned()))?;
        let settings = &found.settings;
        check_client(settings, &client)?;
        let by_discovery = IssuerSettings { keys: KeySource::Discovery, ..settings.clone() };
        let discovery_url =
            by_discovery.url()?.ok_or_else(|| settings.invalid("sign_in", "needs the URL of an issuer"))?;
        Ok(SignIn {
            verifier: self.clone(),
            issuer: issuer.to_owned(),
            http: Arc::new(Http::new(settings, discovery_url.scheme() == "http")?),
            discovery_url,
            client,
            known: Arc::default(),
            exchanges: Semaphore::new(MAX_EXCHANGES),
        })
    }
}

fn check_client(settings: &IssuerSettings, client: &ClientSettings) -> Result<(), SettingsError> {
    let invalid = |reason: &str| Err(settings.invalid("sign_in", reason));
    if settings.kind != PrincipalKind::Person {
        return invalid("needs kind = \"person\": pipelines send their tokens");
    }
    if !settings.audiences.contains(&client.client_id) {
        return invalid(
            "needs a client_id that is the audience of the issuer: ID tokens are for their client",
        );
    }
    if !client.scope.split_ascii_whitespace().any(|word| word == "openid") {
        return invalid("needs openid in its scope");
    }
    Ok(())
}

impl SignIn {
    /// Returns the issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the address of the issuer at which a person signs in, with the secrets that the browser keeps until then. It
    /// may wait for the issuer, at most 5 s.
    ///
    /// # Errors
    /// The addresses of the issuer are not known.
    pub async fn begin(&self) -> Result<(String, Attempt), SignInError> {
        let endpoints = self.endpoints().await?;
        let attempt = Attempt::generate().map_err(|_| SignInError::NoRandomNumbers)?;
        let mut url = endpoints.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client.client_id)
            .append_pair("redirect_uri", &self.client.redirect_url)
            .append_pair("scope", &self.client.scope)
            .append_pair("state", attempt.state())
            .append_pair("nonce", attempt.nonce())
            .append_pair("code_challenge", &attempt.challenge())
            .append_pair("code_challenge_method", "S256");
        Ok((url.into(), attempt))
    }

    /// Takes the answer of the issuer, and returns the person. It may wait for the issuer, at most 5 s for each of its
    /// addresses, the exchange and its keys. An attempt is for one answer: the caller must not use it again.
    ///
    /// # Errors
    /// The answer is not accepted, or the issuer does not answer.
    pub async fn complete(
        &self,
        attempt: &Attempt,
        answer: &AuthorizationResponse,
    ) -> Result<Principal, SignInError> {
        if !answer.belongs_to(attempt) {
            return Err(SignInError::OtherSignIn);
        }
        if answer.iss.as_deref().is_some_and(|issuer| issuer != self.issuer) {
            return Err(SignInError::OtherIssuer);
        }
        if let Some(error) = &answer.error {
            return Err(SignInError::Reported(reported(error, answer.error_description.as_deref())));
        }
        let endpoints = self.endpoints().await?;
        if endpoints.sends_iss && answer.iss.is_none() {
            return Err(SignInError::OtherIssuer);
        }
        let code = answer.code.as_deref().filter(|code| !code.is_empty()).ok_or(SignInError::NoCode)?;
        let token = self.exchange(&endpoints, code, attempt).await?;
        Ok(self.verify(&token, attempt).await?)
    }

    /// Exchanges a code for an ID token.
    async fn exchange(
        &self,
        endpoints: &Endpoints,
        code: &str,
        attempt: &Attempt,
    ) -> Result<String, SignInError> {
        let _permit = self.exchanges.try_acquire().map_err(|_| SignInError::Busy)?;
        let client_id = self.client.client_id.as_str();
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", self.client.redirect_url.as_str()),
            ("code_verifier", attempt.verifier()),
            ("client_id", client_id),
        ];
        let mut credentials = None;
        if let Some(secret) = &self.client.client_secret {
            if endpoints.secret_in_form_only {
                fields.push(("client_secret", secret.expose_secret()));
            } else {
                // RFC 6749, section 2.3.1: both are encoded like the fields of a form.
                credentials = Some((self.encode_word(client_id), self.encode_word(secret.expose_secret())));
            }
        }
        let request = self.http.post(&endpoints.token, self.encode(&fields), credentials);
        let (status, body) = match timeout(FETCH_LIMIT, request).await.unwrap_or(Err(Failure::Timeout)) {
            Ok(answer) => answer,
            Err(error) => return Err(self.unavailable(&error)),
        };
        let Some(body) = strict::object(&body) else {
            return Err(self.unavailable(&Failure::Status(status)));
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        match (status, text("id_token"), text("error")) {
            (StatusCode::OK, Some(token), _) => Ok(token.to_owned()),
            (_, _, Some(error)) => {
                warn!(issuer = self.issuer, error = reported(error, None), "the issuer refused a code");
                Err(SignInError::Reported(reported(error, text("error_description"))))
            }
            _ => Err(self.unavailable(&Failure::Status(status))),
        }
    }

    /// Verifies an ID token. Only this issuer, this client and this request count.
    async fn verify(&self, token: &str, attempt: &Attempt) -> Result<Principal, OidcError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(OidcError::TooLarge);
        }
        let token = Unverified::parse(token)?;
        if claims::text(&token.claims, "iss")? != self.issuer {
            return Err(OidcError::InvalidClaim("iss".into()));
        }
        let issuer = self.verifier.issuers.get(&self.issuer).ok_or(OidcError::UnknownIssuer)?;
        issuer.keys.verify(&token).await?;
        claims::check_times(&token.claims, (self.verifier.clock)())?;
        claims::check_client(&token.claims, &self.client.client_id)?;
        claims::check_nonce(&token.claims, attempt.nonce())?;
        claims::principal(&token.claims, &issuer.settings, &issuer.name)
    }

    /// Encodes the fields of a form.
    fn encode(&self, fields: &[(&str, &str)]) -> String {
        let mut url = self.discovery_url.clone();
        url.set_query(None);
        url.query_pairs_mut().extend_pairs(fields);
        url.query().unwrap_or_default().to_owned()
    }

    /// Encodes a text like a field of a form.
    fn encode_word(&self, text: &str) -> String {
        let mut url = self.discovery_url.clone();
        url.set_query(None);
        url.query_pairs_mut().append_key_only(text);
        url.query().unwrap_or_default().to_owned()
    }

    /// Returns the addresses of the issuer. One request at a time asks for them; after a failed one, others fail at once
    /// for a while.
    async fn endpoints(&self) -> Result<Arc<Endpoints>, SignInError> {
        let known = Arc::clone(&self.known).lock_owned().await;
        let now = Instant::now();
        let age = |read: Instant| now.saturating_duration_since(read);
        let usable = known.endpoints.clone().filter(|(read, _)| age(*read) < MAX_AGE);
        let is_fresh = usable.as_ref().is_some_and(|(read, _)| age(*read) < REFRESH_AGE);
        let is_due = !is_fresh && known.retry_at.is_none_or(|retry_at| now >= retry_at);
        let usable = usable.map(|(_, endpoints)| endpoints);
        let read = if is_due { self.read_endpoints(known).await } else { None };
        read.or(usable).ok_or(SignInError::Unavailable)
    }

    /// Asks the issuer for its addresses, and keeps them. It runs in its own task: a client that closes the connection
    /// must not stop what all others wait for.
    async fn read_endpoints(&self, mut known: OwnedMutexGuard<Known>) -> Option<Arc<Endpoints>> {
        let (http, url) = (Arc::clone(&self.http), self.discovery_url.clone());
        let issuer = self.issuer.clone();
        let reading = tokio::spawn(async move {
            let discovered = timeout(FETCH_LIMIT, discover(&http, &url, &issuer)).await;
            match discovered.unwrap_or(Err(Failure::Timeout)) {
                Ok(endpoints) => {
                    let endpoints = Arc::new(endpoints);
                    *known =
                        Known { endpoints: Some((Instant::now(), Arc::clone(&endpoints))), retry_at: None };
                    Some(endpoints)
                }
                Err(error) => {
                    known.retry_at = Some(Instant::now() + RETRY_DELAY);
                    unavailable(&issuer, &error);
                    None
                }
            }
        });
        reading.await.ok().flatten()
    }

    /// Logs a failure, whose cause is not shown.
    fn unavailable(&self, error: &Failure) -> SignInError {
        unavailable(&self.issuer, error)
    }
}

/// Requests the addresses of an issuer.
async fn discover(http: &Http, url: &Url, issuer: &str) -> Result<Endpoints, Failure> {
    let document = http.discover(url, issuer).await?;
    let endpoint = |name: &str| endpoint(&document, name, url);
    let mut authorization = endpoint("authorization_endpoint")
        .ok_or(Failure::Discovery("its authorization_endpoint is not an https URL"))?;
    authorization.set_fragment(None);
    Ok(Endpoints {
        authorization,
        token: endpoint("token_endpoint")
            .ok_or(Failure::Discovery("its token_endpoint is not an https URL"))?,
        sends_iss: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        secret_in_form_only: secret_in_form_only(&document),
    })
}

/// Logs a failure of an issuer, whose cause is not shown.
fn unavailable(issuer: &str, error: &Failure) -> SignInError {
    warn!(issuer, %error, "signing in with the issuer failed");
    SignInError::Unavailable
}

/// Returns true if an issuer states how clients authenticate, with `client_secret_post` and without
/// `client_secret_basic`, which is the default.
fn secret_in_form_only(document: &Map<String, Value>) -> bool {
    let methods = document.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
    methods.is_some_and(|methods| {
        methods.iter().any(|method| method == "client_secret_post")
            && !methods.iter().any(|method| method == "client_secret_basic")
    })
}

/// Returns the text of a failure that an issuer reports: bounded, and on one line.
fn reported(error: &str, description: Option<&str>) -> String {
    let text = match description {
        Some(description) => format!("{error}: {description}"),
        None => error.to_owned(),
    };
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_REPORTED).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_issuer_reports_is_one_bounded_line() {
        assert_eq!(reported("access_denied", Some("no\nway\u{7f}")), "access_denied: no way ");
        assert_eq!(reported(&"é".repeat(10_000), None).chars().count(), MAX_REPORTED);
    }

    #[test]
    fn a_secret_is_a_field_only_if_the_issuer_takes_no_other_way() {
        let with = |methods: Value| {
            let document = json!({"token_endpoint_auth_methods_supported": methods});
            secret_in_form_only(document.as_object().expect("an object"))
        };
        assert!(with(json!(["client_secret_post", "private_key_jwt"])));
        assert!(!with(json!(["client_secret_post", "client_secret_basic"])));
        assert!(!with(json!(["private_key_jwt"])));
        assert!(!secret_in_form_only(&Map::new()));
    }
}
