//! Credentials of requests: where they come from, and their renewal.
//!
//! Invariants: credentials are obtained before the first request, once per process, and again only if they have ended or
//! the service rejects them. Neither `Debug` nor an error contains them. They are not sent over plain HTTP to another
//! machine, unless the user allows it.

mod bounded_file;
mod error;
mod fetch;
mod issuer;
mod session;
mod token;
mod token_command;
mod token_file;
mod workload;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_access::ApiToken;
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

pub use self::error::CredentialsError;
pub(super) use self::fetch::{Fetcher, client_identity, http_client, root_cause};
pub(super) use self::issuer::{Issuer, Refusal, Tokens};
pub(super) use self::session::Session;
pub(super) use self::token::Token;
pub(super) use self::token_file::{Contents, TokenFile};

use self::token::sensitive;
use self::workload::Workload;
use super::address::{UrlCredentials, is_loopback, origin};
use super::contexts::TokenSource;
use crate::{clock, environment};

/// Environment of a command: the folder of its settings and the variables.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// The folder of the settings, or the reason why there is none.
    pub(super) config: Result<PathBuf, String>,
    pub(super) variables: BTreeMap<String, String>,
    /// The file that a cluster projects.
    pub(super) kubernetes_token: PathBuf,
}

impl Surroundings {
    /// Returns those of this process.
    pub(super) fn of_process() -> Self {
        Self {
            config: environment::config_dir().map_err(|error| error.to_string()),
            variables: environment::variables(),
            kubernetes_token: workload::KUBERNETES_TOKEN.into(),
        }
    }

    fn token_variable(&self) -> Option<&str> {
        self.variables.get("RELEASE_LEDGER_TOKEN").map(String::as_str).filter(|token| !token.is_empty())
    }
}

/// A context that the user selected, or that is of the given URL.
#[derive(Debug, Clone)]
pub(super) struct SelectedContext {
    pub(super) name: String,
    pub(super) url: Url,
    pub(super) token: Option<TokenSource>,
    pub(super) ca_file: Option<PathBuf>,
    /// False if the command uses another URL than that of the context.
    pub(super) is_of_service: bool,
}

/// Options about credentials, of the flags, the variables and the contexts.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// The URL of the service.
    pub(super) service: &'a Url,
    pub(super) token_file: Option<&'a Path>,
    pub(super) url_credentials: Option<UrlCredentials>,
    /// The context, if one is selected; an error if the contexts cannot be read.
    pub(super) context: Result<Option<SelectedContext>, String>,
    pub(super) audience: Option<&'a str>,
    pub(super) insecure_http: bool,
}

/// Chooses the credentials of a client again after the wait for a service that starts: its start may have created them.
#[derive(Clone)]
pub(super) struct Reread(Arc<dyn Fn() -> Option<Credentials> + Send + Sync>);

impl Reread {
    /// Creates it from a function that returns none if the first credentials still hold.
    pub(super) fn new(choose: impl Fn() -> Option<Credentials> + Send + Sync + 'static) -> Self {
        Self(Arc::new(choose))
    }

    /// Returns other credentials; none if the first ones still hold.
    pub(super) fn read(&self) -> Option<Credentials> {
        (self.0)()
    }
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

/// Source of credentials.
#[derive(Debug)]
enum Source {
    File(TokenFile),
    Fixed(SecretString, String),
    Basic(UrlCredentials),
    Command(Vec<String>, String),
    Workload(Workload),
    Invalid(CredentialsError),
}

/// The credentials of a client. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Credentials(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    source: Source,
    obtained: Mutex<Option<Obtained>>,
}

/// Credentials as sent, and the token in them, if it is one that a session contains.
#[derive(Debug, Clone)]
struct Obtained {
    header: HeaderValue,
    token: Option<Token>,
    expires_at: Option<DateTime<Utc>>,
}

impl Obtained {
    fn new(token: Token, expires_at: Option<DateTime<Utc>>) -> Result<Self, CredentialsError> {
        Ok(Self { header: token.header()?, token: Some(token), expires_at })
    }

    fn has_ended(&self) -> bool {
        let margin = TimeDelta::seconds(30);
        self.expires_at.is_some_and(|end| end - margin <= clock::now())
    }
}

impl Credentials {
    /// Chooses the credentials of a command: those of a file, of a variable, of the URL, of the context, or of the
    /// workload, whichever is given first.
    pub(super) fn choose(given: Given<'_>, surroundings: &Surroundings) -> Self {
        let Some(source) = source(&given, surroundings) else { return Self(None) };
        if given.insecure_http { Self::of(source) } else { Self::of(encrypted(given.service, source)) }
    }

    /// Returns the user and the password of a URL as credentials.
    pub(super) fn of_url(service: &Url, credentials: Option<UrlCredentials>) -> Self {
        match credentials {
            Some(credentials) => Self::of(encrypted(service, Source::Basic(credentials))),
            None => Self(None),
        }
    }

    /// Returns a token as credentials, also for plain HTTP.
    pub(super) fn of_token(token: &ApiToken) -> Self {
        Self::of(Source::Fixed(token.expose().into(), "the program".to_owned()))
    }

    fn of(source: Source) -> Self {
        Self(Some(Arc::new(Shared { source, obtained: Mutex::default() })))
    }

    /// Returns the `Authorization` header; none if there are no credentials.
    ///
    /// # Errors
    /// The credentials cannot be obtained, or must not be sent.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, CredentialsError> {
        let Some(shared) = &self.0 else { return Ok(None) };
        let mut obtained = shared.obtained.lock().await;
        if let Some(current) = obtained.as_ref().filter(|current| !current.has_ended()) {
            return Ok(Some(current.header.clone()));
        }
        let current = shared.source.obtain(None).await?;
        Ok(Some(obtained.insert(current).header.clone()))
    }

    /// Returns another header, after the service has rejected this one; none if there is no other.
    ///
    /// # Errors
    /// The credentials cannot be obtained.
    pub(super) async fn renew(
        &self,
        rejected: &HeaderValue,
    ) -> Result<Option<HeaderValue>, CredentialsError> {
        let Some(shared) = &self.0 else { return Ok(None) };
        let mut obtained = shared.obtained.lock().await;
        let before = obtained.clone().filter(|current| current.header == *rejected);
        let Some(before) = before else {
            return Ok(obtained.as_ref().map(|current| current.header.clone()));
        };
        if !shared.source.may_change() {
            return Ok(None);
        }
        let current = shared.source.obtain(before.token.as_ref()).await?;
        let header = Some(current.header.clone()).filter(|header| header != rejected);
        *obtained = Some(current);
        Ok(header)
    }
}

impl Source {
    /// Returns true if another attempt may give other credentials.
    const fn may_change(&self) -> bool {
        matches!(
            self,
            Self::File(_) | Self::Command(..) | Self::Workload(Workload::GitHub(_) | Workload::File(_))
        )
    }

    async fn obtain(&self, rejected: Option<&Token>) -> Result<Obtained, CredentialsError> {
        match self {
            Self::File(file) => {
                let (token, expires_at) = file.token(rejected.map(Token::expose)).await?;
                Obtained::new(token, expires_at)
            }
            Self::Fixed(text, source) => Obtained::new(Token::parse(text.expose_secret(), source)?, None),
            Self::Basic(UrlCredentials { user, password }) => {
                let password = password.as_deref().unwrap_or_default();
                if ApiToken::is_like(password) {
                    Token::parse(password, "the password of --url or RELEASE_LEDGER_URL")?;
                }
                let encoded = STANDARD.encode(format!("{user}:{password}"));
                let header = sensitive(&format!("Basic {encoded}"))?;
                Ok(Obtained { header, token: None, expires_at: None })
            }
            Self::Command(command, named_by) => {
                let token = token_command::run(command, named_by, token_command::LIMITS).await?;
                Obtained::new(token, None)
            }
            Self::Workload(Workload::GitHub(github)) => Obtained::new(github.token().await?, None),
            Self::Workload(Workload::Variable(text, name)) => {
                Obtained::new(Token::parse(text.expose_secret(), name)?, None)
            }
            Self::Workload(Workload::File(path)) => {
                let file = TokenFile::new(path, "projected by Kubernetes", None);
                Obtained::new(file.token(None).await?.0, None)
            }
            Self::Workload(Workload::Missing(error)) | Self::Invalid(error) => Err(error.clone()),
        }
    }
}

/// Returns the first source that is given.
fn source(given: &Given<'_>, surroundings: &Surroundings) -> Option<Source> {
    let context = given.context.as_ref().ok().and_then(Option::as_ref);
    let ca_file = context.and_then(|context| context.ca_file.as_deref());
    if let Some(path) = given.token_file {
        return Some(Source::File(TokenFile::new(
            path,
            "--token-file or RELEASE_LEDGER_TOKEN_FILE",
            ca_file,
        )));
    }
    if let Some(token) = surroundings.token_variable() {
        return Some(Source::Fixed(token.into(), "RELEASE_LEDGER_TOKEN".to_owned()));
    }
    if let Some(credentials) = &given.url_credentials {
        return Some(Source::Basic(credentials.clone()));
    }
    match &given.context {
        Err(reason) => return Some(Source::Invalid(CredentialsError::permanent(reason.clone()))),
        Ok(Some(context)) => {
            if let Some(token) = &context.token {
                return Some(source_of_context(context, token));
            }
        }
        Ok(None) => {}
    }
    workload::detect(&surroundings.variables, &surroundings.kubernetes_token, given.audience)
        .map(Source::Workload)
}

fn source_of_context(context: &SelectedContext, token: &TokenSource) -> Source {
    let SelectedContext { name, url, ca_file, is_of_service, .. } = context;
    if !is_of_service {
        return Source::Invalid(CredentialsError::permanent(format!(
            "the credentials of context {name} are for {url}, and are not sent to another URL; remove --url and \
             RELEASE_LEDGER_URL, or set --token-file or RELEASE_LEDGER_TOKEN"
        )));
    }
    let named_by = format!("context {name}");
    match token {
        TokenSource::File(path) => Source::File(TokenFile::new(path, named_by, ca_file.as_deref())),
        TokenSource::Command(command) => Source::Command(command.clone(), named_by),
    }
}

/// Returns the source, or its refusal if the service is another machine and the connection is not encrypted.
fn encrypted(service: &Url, source: Source) -> Source {
    if service.scheme() == "https" || is_loopback(service) {
        return source;
    }
    Source::Invalid(CredentialsError::permanent(format!(
        "refusing to send credentials to {} over plain http; use https, or allow it with --insecure-http or \
         RELEASE_LEDGER_INSECURE_HTTP=1",
        origin(service)
    )))
}
