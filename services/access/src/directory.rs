//! State of tokens, grants and tenants: a fold of the events of the tenant `_admin`, and of the settings.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use ledger_domain::access::{Grant, GrantId, Grantee, Pattern, SecretHash, TokenId, VerbSet};
use ledger_domain::event::{Payload, TokenCreation, TokenRotation};
use ledger_domain::{Principal, PrincipalKind, ShortText, TenantName};

use crate::token::ApiToken;

/// Reason for which a token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token has its id, or its secret is wrong.
    #[error("the token is unknown")]
    Unknown,
    /// It is past its end.
    #[error("the token expired at {0}")]
    Expired(DateTime<Utc>),
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// It has the secret of before a rotation, whose time is over.
    #[error("the token was replaced by another with the same id, and ended at {0}")]
    Replaced(DateTime<Utc>),
}

/// State of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenState {
    /// Type of its owner.
    pub kind: PrincipalKind,
    /// Name of its owner.
    pub name: ShortText,
    /// Time at which it ends, if it has one.
    pub expires_at: Option<DateTime<Utc>>,
    /// True if it was revoked.
    pub is_revoked: bool,
    /// True if it is one of the settings, which no event changes.
    pub is_of_settings: bool,
    hash: SecretHash,
    previous: Option<(SecretHash, DateTime<Utc>)>,
}

impl TokenState {
    /// Checks a secret. `has` returns true for the hash of the secret.
    fn check(&self, has: impl Fn(&SecretHash) -> bool, now: DateTime<Utc>) -> Result<(), TokenError> {
        let is_current = has(&self.hash);
        let previous_until = self.previous.filter(|(hash, _)| has(hash)).map(|(_, until)| until);
        match (is_current, previous_until) {
            (false, None) => Err(TokenError::Unknown),
            _ if self.is_revoked => Err(TokenError::Revoked),
            (false, Some(until)) if until <= now => Err(TokenError::Replaced(until)),
            _ => match self.expires_at {
                Some(end) if end <= now => Err(TokenError::Expired(end)),
                _ => Ok(()),
            },
        }
    }
}

/// State of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    /// It is one of the settings, which no event changes.
    OfSettings,
    /// It was created by an event.
    Created,
    /// It was created by an event, and retired by another.
    Retired,
}

impl TenantState {
    /// Returns true unless it was retired.
    #[must_use]
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Retired)
    }
}

/// Tokens, grants and tenants.
///
/// The result depends on the order of the events: the first creation of a token counts, and a revocation or a removal is
/// final, so that an id never changes its owner. A retired tenant is not created again, because grants may still name it.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    tokens: HashMap<TokenId, TokenState>,
    /// `None`: it was removed.
    grants: BTreeMap<GrantId, Option<Grant>>,
    tenants: BTreeMap<TenantName, TenantState>,
}

impl Directory {
    /// Adds an administrator of the settings: a token, and the grant of everything to it.
    pub fn add_administrator(
        &mut self,
        token: TokenId,
        hash: SecretHash,
        kind: PrincipalKind,
        name: ShortText,
    ) {
        let number = self.grants.len() + 1;
        let grant = Grant {
            id: settings_id(number),
            grantee: Grantee::Token(token.clone()),
            tenant: Pattern::any(),
            environments: vec![Pattern::any()],
            services: vec![Pattern::any()],
            verbs: vec![VerbSet::All],
        };
        let state = TokenState {
            kind,
            name,
            expires_at: None,
            is_revoked: false,
            is_of_settings: true,
            hash,
            previous: None,
        };
        self.tokens.insert(token, state);
        self.grants.insert(grant.id.clone(), Some(grant));
    }

    /// Adds a grant of the settings. Gives it an id of its own.
    pub fn add_grant(&mut self, grant: Grant) {
        let id = settings_id(self.grants.len() + 1);
        self.grants.insert(id.clone(), Some(Grant { id, ..grant }));
    }

    /// Adds a tenant of the settings.
    pub fn add_tenant(&mut self, tenant: TenantName) {
        self.tenants.insert(tenant, TenantState::OfSettings);
    }

    /// Applies an event of the tenant `_admin`. Returns the reason if it has no effect.
    ///
    /// # Errors
    /// What the event names is unknown, exists already, or has ended.
    pub fn apply(&mut self, payload: &Payload) -> Result<(), String> {
        match payload {
            Payload::TokenCreated(creation) => self.create(creation),
            Payload::TokenRotated(rotation) => self.rotate(rotation),
            Payload::TokenRevoked(token) => {
                self.changeable(token)?.is_revoked = true;
                Ok(())
            }
            Payload::GrantAdded(grant) => {
                if grant.id.as_str().starts_with(SETTINGS) {
                    return Err(format!("the id of a grant must not start with {SETTINGS}"));
                }
                if self.grants.contains_key(&grant.id) {
                    return Err(format!("a grant {} exists, or existed", grant.id));
                }
                self.grants.insert(grant.id.clone(), Some((**grant).clone()));
                Ok(())
            }
            Payload::GrantRemoved(id) => match self.grants.get_mut(id) {
                Some(grant) if !id.as_str().starts_with(SETTINGS) => {
                    *grant = None;
                    Ok(())
                }
                Some(_) => Err(format!("grant {id} is in the settings; remove it there")),
                None => Err(format!("no grant {id} exists")),
            },
            Payload::TenantCreated(tenant) => self.create_tenant(tenant),
            Payload::TenantRetired(tenant) => self.retire_tenant(tenant),
            other => Err(format!("{} is not about access", other.kind())),
        }
    }

    fn create(&mut self, creation: &TokenCreation) -> Result<(), String> {
        let TokenCreation { token, kind, name, hash, expires_at } = creation;
        if self.tokens.contains_key(token) {
            return Err(format!("a token {token} exists, or existed"));
        }
        let state = TokenState {
            kind: *kind,
            name: name.clone(),
            expires_at: *expires_at,
            is_revoked: false,
            is_of_settings: false,
            hash: *hash,
            previous: None,
        };
        self.tokens.insert(token.clone(), state);
        Ok(())
    }

    fn rotate(&mut self, rotation: &TokenRotation) -> Result<(), String> {
        let TokenRotation { token, hash, previous_until } = rotation;
        let state = self.changeable(token)?;
        if state.is_revoked {
            return Err(format!("token {token} was revoked"));
        }
        if state.hash == *hash {
            return Err(format!("token {token} has this secret already"));
        }
        state.previous = Some((state.hash, *previous_until));
        state.hash = *hash;
        Ok(())
    }

    fn create_tenant(&mut self, tenant: &TenantName) -> Result<(), String> {
        if tenant.as_str().len() > MAX_TENANT_NAME_BYTES {
            return Err(format!("the name of a tenant has at most {MAX_TENANT_NAME_BYTES} characters"));
        }
        match self.tenants.get(tenant) {
            None => {
                self.tenants.insert(tenant.clone(), TenantState::Created);
                Ok(())
            }
            Some(TenantState::OfSettings | TenantState::Created) => {
                Err(format!("a tenant {tenant} exists; choose another name"))
            }
            Some(TenantState::Retired) => Err(format!(
                "a tenant {tenant} existed; add it to the setting tenants to open its ledger again"
            )),
        }
    }

    fn retire_tenant(&mut self, tenant: &TenantName) -> Result<(), String> {
        match self.tenants.get_mut(tenant) {
            Some(state @ TenantState::Created) => {
                *state = TenantState::Retired;
                Ok(())
            }
            Some(TenantState::OfSettings) => {
                Err(format!("tenant {tenant} is in the settings; remove it there"))
            }
            Some(TenantState::Retired) => Err(format!("tenant {tenant} is retired already")),
            None => Err(format!("no tenant {tenant} exists; see `release-ledger tenant list`")),
        }
    }

    fn changeable(&mut self, token: &TokenId) -> Result<&mut TokenState, String> {
        match self.tokens.get_mut(token) {
            Some(state) if state.is_of_settings => {
                Err(format!("token {token} is in the settings; change it there"))
            }
            Some(state) => Ok(state),
            None => Err(format!("no token {token} exists")),
        }
    }

    /// Returns false if a principal is the owner of a token that was revoked or has expired.
    #[must_use]
    pub fn is_in_force(&self, principal: &Principal, now: DateTime<Utc>) -> bool {
        if principal.issuer.as_str() != Principal::TOKENS {
            return true;
        }
        let token = TokenId::parse(principal.subject.as_str()).ok().and_then(|id| self.tokens.get(&id));
        token.is_some_and(|token| !token.is_revoked && token.expires_at.is_none_or(|end| now < end))
    }

    /// Returns the principal of a token.
    ///
    /// # Errors
    /// The token is unknown, revoked, expired or replaced.
    pub fn authenticate(&self, token: &ApiToken, now: DateTime<Utc>) -> Result<Principal, TokenError> {
        self.owner(token.id(), |hash| token.has_hash(hash), now)
    }

    /// Returns the principal of a token whose secret has a hash: for a session that began with this secret, and must not
    /// outlive it.
    ///
    /// # Errors
    /// The token is unknown, revoked, expired or replaced.
    pub fn owner_by_hash(
        &self,
        token: &TokenId,
        secret: &SecretHash,
        now: DateTime<Utc>,
    ) -> Result<Principal, TokenError> {
        self.owner(token, |hash| hash == secret, now)
    }

    fn owner(
        &self,
        id: &TokenId,
        has: impl Fn(&SecretHash) -> bool,
        now: DateTime<Utc>,
    ) -> Result<Principal, TokenError> {
        let state = self.tokens.get(id).ok_or(TokenError::Unknown)?;
        state.check(has, now)?;
        let subject = ShortText::parse(id.as_str()).map_err(|_| TokenError::Unknown)?;
        Ok(Principal {
            kind: state.kind,
            issuer: ShortText::parse(Principal::TOKENS).map_err(|_| TokenError::Unknown)?,
            subject,
            name: state.name.clone(),
            claims: BTreeMap::new(),
        })
    }

    /// Returns the tokens by id.
    pub fn tokens(&self) -> impl Iterator<Item = (&TokenId, &TokenState)> {
        self.tokens.iter()
    }

    /// Returns the tenants by name, those that were retired included.
    pub fn tenants(&self) -> impl Iterator<Item = (&TenantName, TenantState)> {
        self.tenants.iter().map(|(name, state)| (name, *state))
    }

    /// Returns the grants that hold.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().flatten()
    }
}

/// Maximum length of the name of a tenant in bytes: it is a part of the names of its tables' schema.
const MAX_TENANT_NAME_BYTES: usize = 40;

/// Start of the ids of grants in the settings.
const SETTINGS: &str = "settings:";

fn settings_id(number: usize) -> GrantId {
    ShortText::parse(&format!("{SETTINGS}{number}")).expect("a word and a number are a valid text")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn text(text: &str) -> ShortText {
        ShortText::parse(text).expect("a text")
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
    }

    fn created(token: &ApiToken, expires_at: Option<DateTime<Utc>>) -> Payload {
        Payload::TokenCreated(TokenCreation {
            token: token.id().clone(),
            kind: PrincipalKind::Workload,
            name: text("ci"),
            hash: token.hash(),
            expires_at,
        })
    }

    fn rotated(token: &ApiToken, previous_until: DateTime<Utc>) -> Payload {
        Payload::TokenRotated(TokenRotation { token: token.id().clone(), hash: token.hash(), previous_until })
    }

    fn directory(events: &[Payload]) -> Directory {
        let mut directory = Directory::default();
        for event in events {
            directory.apply(event).expect("an effect");
        }
        directory
    }

    fn generate() -> ApiToken {
        ApiToken::generate().expect("random")
    }

    #[test]
    fn a_token_authenticates_its_owner_until_it_expires() {
        let (token, end) = (generate(), now() + TimeDelta::hours(1));
        let directory = directory(&[created(&token, Some(end))]);
        let principal = directory.authenticate(&token, now()).expect("accepted");
        assert_eq!((principal.name.as_str(), principal.subject.as_str()), ("ci", token.id().as_str()));
        assert_eq!(directory.authenticate(&token, end), Err(TokenError::Expired(end)));
    }

    #[test]
    fn another_secret_with_the_id_of_a_token_is_as_unknown_as_another_id() {
        let token = generate();
        let directory = directory(&[created(&token, None), Payload::TokenRevoked(token.id().clone())]);
        let guessed = ApiToken::generate_for(token.id().clone()).expect("random");
        for unknown in [guessed, generate()] {
            assert_eq!(directory.authenticate(&unknown, now()), Err(TokenError::Unknown));
        }
        assert_eq!(directory.authenticate(&token, now()), Err(TokenError::Revoked));
    }

    #[test]
    fn two_secrets_are_accepted_for_a_while_after_a_rotation() {
        let first = generate();
        let second = ApiToken::generate_for(first.id().clone()).expect("random");
        let until = now() + TimeDelta::hours(1);
        let directory = directory(&[created(&first, None), rotated(&second, until)]);
        for token in [&first, &second] {
            assert!(directory.authenticate(token, now()).is_ok());
        }
        assert_eq!(directory.authenticate(&first, until), Err(TokenError::Replaced(until)));
        assert!(directory.authenticate(&second, until).is_ok());
    }

    #[test]
    fn the_hash_of_a_secret_names_its_owner_as_long_as_the_secret_is_accepted() {
        let first = generate();
        let second = ApiToken::generate_for(first.id().clone()).expect("random");
        let until = now() + TimeDelta::hours(1);
        let mut directory = directory(&[created(&first, None), rotated(&second, until)]);
        let owner = |directory: &Directory, token: &ApiToken, at| {
            directory.owner_by_hash(token.id(), &token.hash(), at).map(|owner| owner.name.to_string())
        };

        assert_eq!(owner(&directory, &first, now()).as_deref(), Ok("ci"));
        assert_eq!(owner(&directory, &first, until), Err(TokenError::Replaced(until)));
        assert_eq!(owner(&directory, &second, until).as_deref(), Ok("ci"));
        assert_eq!(owner(&directory, &generate(), now()), Err(TokenError::Unknown));
        directory.apply(&Payload::TokenRevoked(first.id().clone())).expect("revoked");
        assert_eq!(owner(&directory, &second, until), Err(TokenError::Revoked));
    }

    #[test]
    fn an_id_never_changes_its_owner_and_a_revocation_is_final() {
        let token = generate();
        let mut directory = directory(&[created(&token, None)]);
        let thief = ApiToken::generate_for(token.id().clone()).expect("random");
        assert!(directory.apply(&created(&thief, None)).is_err());
        assert_eq!(directory.authenticate(&thief, now()), Err(TokenError::Unknown));

        directory.apply(&Payload::TokenRevoked(token.id().clone())).expect("revoked");
        for later in [created(&token, None), rotated(&thief, now() + TimeDelta::hours(1))] {
            assert!(directory.apply(&later).is_err());
        }
        assert_eq!(directory.authenticate(&token, now()), Err(TokenError::Revoked));
    }

    #[test]
    fn a_removed_grant_stays_removed_and_one_of_the_settings_is_removed_there_only() {
        let mut directory = Directory::default();
        let token = generate();
        directory.add_administrator(token.id().clone(), token.hash(), PrincipalKind::Local, text("root"));
        let given = directory.grants().next().expect("a grant").clone();
        let grant = Grant { id: text("deployers"), ..given.clone() };

        directory.apply(&Payload::GrantAdded(Box::new(grant.clone()))).expect("added");
        assert_eq!(directory.grants().count(), 2);
        assert!(directory.apply(&Payload::GrantAdded(Box::new(grant.clone()))).is_err());
        directory.apply(&Payload::GrantRemoved(grant.id.clone())).expect("removed");
        assert!(directory.apply(&Payload::GrantAdded(Box::new(grant))).is_err());
        assert!(directory.apply(&Payload::GrantRemoved(given.id.clone())).is_err());
        let reserved = Grant { id: text("settings:99"), ..given };
        assert!(directory.apply(&Payload::GrantAdded(Box::new(reserved))).is_err());
        assert!(directory.apply(&Payload::TokenRevoked(token.id().clone())).is_err());
        assert!(directory.apply(&rotated(&generate(), now())).is_err());
        assert!(directory.authenticate(&token, now()).is_ok(), "no event locks an administrator out");
        assert_eq!(directory.grants().count(), 1);
    }

    fn tenant(name: &str) -> TenantName {
        TenantName::parse(name).expect("a name")
    }

    #[test]
    fn a_tenant_is_created_once_and_a_retirement_is_final() {
        let (created, retired) =
            (Payload::TenantCreated(tenant("maps")), Payload::TenantRetired(tenant("maps")));
        let mut directory = directory(std::slice::from_ref(&created));
        assert_eq!(directory.apply(&created), Err("a tenant maps exists; choose another name".to_owned()));
        assert!(directory.tenants().all(|(_, state)| state.is_open()));

        directory.apply(&retired).expect("retired");

        assert_eq!(directory.apply(&retired), Err("tenant maps is retired already".to_owned()));
        assert!(directory.apply(&created).expect_err("used").starts_with("a tenant maps existed"));
        assert_eq!(directory.tenants().collect::<Vec<_>>(), [(&tenant("maps"), TenantState::Retired)]);
    }

    #[test]
    fn a_tenant_of_the_settings_is_changed_there_only() {
        let mut directory = Directory::default();
        directory.add_tenant(tenant("default"));

        assert!(directory.apply(&Payload::TenantCreated(tenant("default"))).is_err());
        assert!(directory.apply(&Payload::TenantRetired(tenant("default"))).is_err());
        assert!(directory.apply(&Payload::TenantRetired(tenant("unknown"))).is_err());

        assert_eq!(directory.tenants().collect::<Vec<_>>(), [(&tenant("default"), TenantState::OfSettings)]);
    }
}
