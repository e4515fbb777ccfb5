//! Finds out who sends a request: the owner of an API token, the subject of an OpenID Connect token, or the user that a
//! proxy names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderName, header};
use chrono::{DateTime, Utc};
use ledger_access::oidc::{OidcError, Verifier};
use ledger_access::{ApiToken, Denial, Directory, Question, TenantState, decide};
use ledger_domain::access::{SecretHash, TokenId};
use ledger_domain::{Position, Principal, PrincipalKind, ShortText, TenantName};
use ledger_journal::{Head, ReadError};
use metrics::counter;
use tokio::sync::watch;

use super::credentials::{token, unauthorized};
use super::sessions::Session;
use crate::problem::{Kind, Problem};

/// A proxy in front of the service that authenticates people.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Header with the API token of the proxy: it proves that a request comes from it.
    pub secret_header: HeaderName,
    /// Hash of that token.
    pub secret_hash: SecretHash,
    /// Header with the name of the user.
    pub user_header: HeaderName,
}

/// The directory that the requests of a process use, and its position.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) directory: Arc<Directory>,
    pub(super) position: Position,
    /// Creation time of the stream that it was read from.
    pub(super) created: Option<DateTime<Utc>>,
    /// True if the directory had all events when it was read first.
    pub(super) is_complete: bool,
}

/// Authenticates the senders of requests.
#[derive(Debug)]
pub struct Authenticator {
    known: RwLock<Known>,
    /// State before the first event: that of the settings.
    settings: Directory,
    verifier: Option<Verifier>,
    proxy: Option<ProxySettings>,
    clock: fn() -> DateTime<Utc>,
    last_uses: Mutex<HashMap<TokenId, DateTime<Utc>>>,
    /// Number of times that the directory was replaced.
    changes: watch::Sender<u64>,
    max_tenants: usize,
}

impl Authenticator {
    /// Creates an authenticator. `settings` has the tokens and grants of the settings.
    #[must_use]
    pub fn new(
        settings: Directory,
        verifier: Option<Verifier>,
        proxy: Option<ProxySettings>,
        clock: fn() -> DateTime<Utc>,
    ) -> Self {
        let known = Known { directory: Arc::new(settings.clone()), ..Known::default() };
        let (known, last_uses) = (RwLock::new(known), Mutex::default());
        let (changes, max_tenants) = (watch::Sender::new(0), usize::MAX);
        Self { known, settings, verifier, proxy, clock, last_uses, changes, max_tenants }
    }

    /// Limits the number of tenants, those of the settings included.
    #[must_use]
    pub fn with_max_tenants(self, max_tenants: usize) -> Self {
        Self { max_tenants, ..self }
    }

    /// Returns the number of tenants that the settings allow.
    pub(super) const fn max_tenants(&self) -> usize {
        self.max_tenants
    }

    /// Returns a receiver that is notified when tokens, grants and tenants have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns the tenants that were created by events and not retired; `None` until they have been read.
    #[must_use]
    pub fn created_tenants(&self) -> Option<BTreeSet<TenantName>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let created =
            |(name, state): (&TenantName, TenantState)| (state == TenantState::Created).then(|| name.clone());
        known.is_complete.then(|| known.directory.tenants().filter_map(created).collect())
    }

    /// Returns true if a tenant exists.
    pub(super) fn has_tenant(&self, tenant: &TenantName) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.directory.tenants().any(|(name, state)| name == tenant && state.is_open())
    }

    /// Returns the state before the first event.
    pub(super) const fn settings(&self) -> &Directory {
        &self.settings
    }

    /// Checks that the stream with this head is the one that the directory was read from, with all that was read. A stream
    /// that was replaced by another one, or by an older copy, could make revoked tokens valid again.
    pub(super) fn check_stream(&self, head: Head) -> Result<(), ReadError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_other = known.created.is_some_and(|created| created != head.created);
        if known.is_complete && (is_other || head.position < known.position) {
            let reason = "the stream of tokens and grants was replaced; restart the service to use it";
            return Err(ReadError(reason.to_owned()));
        }
        Ok(())
    }

    /// Replaces the directory.
    pub(super) fn set(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Returns the directory and its position.
    pub(crate) fn directory(&self) -> (Arc<Directory>, Position) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&known.directory), known.position)
    }

    fn complete_directory(&self) -> Result<Arc<Directory>, Problem> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_complete {
            Ok(Arc::clone(&known.directory))
        } else {
            Err(Problem::new(
                Kind::AccessUnavailable,
                "tokens and grants have not been read yet; retry later",
            ))
        }
    }

    /// Returns the time at which this process accepted a token last.
    pub(super) fn last_use(&self, token: &TokenId) -> Option<DateTime<Utc>> {
        self.last_uses.lock().unwrap_or_else(PoisonError::into_inner).get(token).copied()
    }

    /// Returns true if a request has credentials, right or wrong.
    pub(super) fn has_credentials(&self, headers: &HeaderMap) -> bool {
        let of_proxy = self.proxy.as_ref().is_some_and(|proxy| headers.contains_key(&proxy.secret_header));
        of_proxy || headers.contains_key(header::AUTHORIZATION)
    }

    /// Returns true if the credentials of a request are checked by one hash: those of a proxy, and API tokens.
    pub(super) fn is_cheap(&self, headers: &HeaderMap) -> bool {
        let of_proxy = self.proxy.as_ref().is_some_and(|proxy| headers.contains_key(&proxy.secret_header));
        of_proxy || token(headers).is_ok_and(|token| ApiToken::is_like(&token))
    }

    /// Returns the sender of a request.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let authenticated = match self.user_of_proxy(headers) {
            Some(user) => user,
            None => self.owner_of_token(&token(headers)?).await,
        };
        count_authentication(authenticated.is_ok());
        authenticated
    }

    /// Returns the user that the proxy names; `None` if the request does not come from the proxy.
    fn user_of_proxy(&self, headers: &HeaderMap) -> Option<Result<Principal, Problem>> {
        let proxy = self.proxy.as_ref()?;
        let mut secrets = headers.get_all(&proxy.secret_header).iter();
        let secret = secrets.next()?;
        let is_proxy = secrets.next().is_none()
            && secret.to_str().is_ok_and(|text| {
                ApiToken::parse(text).is_ok_and(|token| token.has_hash(&proxy.secret_hash))
            });
        if !is_proxy {
            return Some(Err(unauthorized("the credential of the proxy is wrong")));
        }
        let mut users = headers.get_all(&proxy.user_header).iter();
        let user =
            users.next().and_then(|user| user.to_str().ok()).and_then(|user| ShortText::parse(user).ok());
        Some(match (user, users.next()) {
            (Some(user), None) => Ok(Principal {
                kind: PrincipalKind::Person,
                issuer: ShortText::parse(Principal::PROXY).expect("a word is a valid text"),
                subject: user.clone(),
                name: user,
                claims: BTreeMap::new(),
            }),
            _ => Err(unauthorized("the proxy must name one user, on one line")),
        })
    }

    async fn owner_of_token(&self, text: &str) -> Result<Principal, Problem> {
        if ApiToken::is_like(text) {
            return Ok(self.owner_of_api_token(text)?.principal);
        }
        let Some(verifier) = &self.verifier else {
            return Err(unauthorized(
                "the token is not one of this ledger, and no other issuer is configured",
            ));
        };
        verifier.verify(text).await.map_err(|error| problem_of(&error))
    }

    fn owner_of_api_token(&self, text: &str) -> Result<Session, Problem> {
        let now = (self.clock)();
        let token = ApiToken::parse(text).map_err(|error| unauthorized(&error.to_string()))?;
        let directory = self.complete_directory()?;
        let principal =
            directory.authenticate(&token, now).map_err(|error| unauthorized(&error.to_string()))?;
        self.last_uses.lock().unwrap_or_else(PoisonError::into_inner).insert(token.id().clone(), now);
        Ok(Session { principal, token: Some(token.hash()) })
    }

    /// Returns the session of a person who signs in with an API token.
    pub(crate) fn sign_in_with_token(&self, text: &str) -> Result<Session, Problem> {
        let session = self.owner_of_api_token(text);
        count_authentication(session.is_ok());
        session
    }

    /// Returns the principal of a session now; `None` if it is not in force any more: the API token with which it began has
    /// ended, or, by `has_issuer`, no one signs in with its issuer any more.
    pub(super) fn owner_of_session(
        &self,
        session: Session,
        has_issuer: impl FnOnce(&str) -> bool,
    ) -> Result<Option<Principal>, Problem> {
        let Session { principal, token } = session;
        if principal.issuer.as_str() != Principal::TOKENS {
            return Ok(has_issuer(principal.issuer.as_str()).then_some(principal));
        }
        let (Some(hash), Ok(id)) = (token, TokenId::parse(principal.subject.as_str())) else {
            return Ok(None);
        };
        Ok(self.complete_directory()?.owner_by_hash(&id, &hash, (self.clock)()).ok())
    }

    /// Returns the verifier of the tokens of issuers; `None` without issuers.
    #[must_use]
    pub const fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    /// Decides whether a principal may do something.
    ///
    /// The outer error: the grants are not known.
    pub(super) fn decide(
        &self,
        principal: &Principal,
        question: &Question<'_>,
    ) -> Result<Result<(), Denial>, Problem> {
        let directory = self.complete_directory()?;
        // A request may last longer than the token with which it began.
        if !directory.is_in_force(principal, (self.clock)()) {
            return Err(unauthorized("the token has been revoked, or has expired"));
        }
        Ok(decide(directory.grants(), principal, question).map(|_| ()))
    }
}

/// Counts credentials that were checked.
pub(crate) fn count_authentication(are_accepted: bool) {
    let outcome = if are_accepted { "accepted" } else { "rejected" };
    counter!("ledger_authentications_total", "outcome" => outcome).increment(1);
}

fn problem_of(error: &OidcError) -> Problem {
    if error.is_temporary() {
        Problem::new(Kind::AccessUnavailable, error)
    } else {
        unauthorized(&error.to_string())
    }
}
