//! Settings of access: who may use the service.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::HeaderName;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_access::Directory;
use ledger_access::oidc::{ClientSettings, IssuerSettings, KeySource, SettingsError, SignIn, Verifier};
use ledger_api::{Authentication, Authenticator, ProxySettings, ReadLog, ReadLogSettings};
use ledger_domain::access::{Grant, Grantee, Pattern, SecretHash, TokenId, VerbSet};
use ledger_domain::{PrincipalKind, ShortText, TenantName};
use ledger_projections::Projections;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::Error as _;

/// Settings of access.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Whether clients need credentials.
    pub authentication: AuthenticationMode,
    /// Maximum number of tenants, those of the settings included.
    pub max_tenants: NonZeroUsize,
    read_log_days: NonZeroU16,
    read_log_records: NonZeroU32,
    exports_need_grant: bool,
    #[serde(default)]
    administrators: Vec<Administrator>,
    #[serde(default)]
    grants: Vec<GrantSetting>,
    #[serde(default)]
    issuers: Vec<Issuer>,
    proxy: Option<Proxy>,
}

/// Issuer of OpenID Connect tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issuer {
    issuer: String,
    audience: String,
    #[serde(default)]
    preset: Preset,
    kind: Option<Parsed<PrincipalKind>>,
    name_claim: Option<String>,
    #[serde(default)]
    claims: Vec<String>,
    keys_url: Option<String>,
    keys_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    sign_in: Option<SignInSetting>,
}

/// OAuth client of the service at an issuer, for people who sign in with a browser.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignInSetting {
    client_id: String,
    client_secret_file: Option<PathBuf>,
    #[serde(default = "default_scope")]
    scope: String,
}

/// Default scope, with which ID tokens contain the name of the person.
fn default_scope() -> String {
    "openid profile".to_owned()
}

/// Product whose claims are known.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    #[default]
    Generic,
    Github,
    Gitlab,
    Kubernetes,
}

/// Whether clients need credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticationMode {
    /// Every request needs credentials, except those about health and documentation.
    Required,
    /// No request needs credentials: everyone who reaches the port may do everything.
    Off,
}

impl AuthenticationMode {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Off => "off",
        }
    }
}

/// Owner of an API token who may do everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Administrator {
    name: Parsed<ShortText>,
    kind: Parsed<PrincipalKind>,
    token: Parsed<TokenId>,
    hash: Parsed<SecretHash>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantSetting {
    grantee: GranteeSetting,
    tenant: Parsed<Pattern>,
    environments: Vec<Parsed<Pattern>>,
    services: Vec<Parsed<Pattern>>,
    verbs: Vec<Parsed<VerbSet>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "grantee must be { token = ID }, { issuer = URL, subject = TEXT } or { issuer = URL, claims = { NAME = \
                 PATTERN } }; an id has 16 hexadecimal digits"
)]
enum GranteeSetting {
    Token { token: Parsed<TokenId> },
    Subject { issuer: Parsed<ShortText>, subject: Parsed<ShortText> },
    Claims { issuer: Parsed<ShortText>, claims: BTreeMap<Box<str>, Parsed<Pattern>> },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proxy {
    secret_header: Parsed<HeaderName>,
    secret_hash: Parsed<SecretHash>,
    user_header: Parsed<HeaderName>,
}

/// A value that is parsed from text.
#[derive(Debug, Clone)]
struct Parsed<T>(T);

trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

impl<'de, T: FromText> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_text(&text).map(Self).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

macro_rules! from_text {
    ($($type:ty = $parse:expr;)+) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Result<Self, _> = $parse;
                parse(text).map_err(|error| error.to_string())
            }
        }
    )+};
}

from_text! {
    ShortText = ShortText::parse;
    TokenId = TokenId::parse;
    SecretHash = SecretHash::parse;
    Pattern = Pattern::parse;
    VerbSet = VerbSet::parse;
    HeaderName = |text| HeaderName::try_from(text);
    PrincipalKind = |text| PrincipalKind::named(text).ok_or("must be person or workload");
}

impl Access {
    /// Returns true if an administrator may state any actor.
    pub(super) fn has_local_user(&self) -> bool {
        self.administrators.iter().any(|administrator| administrator.kind.0 == PrincipalKind::Local)
    }

    /// Returns true if no client could be authenticated.
    pub(super) fn has_no_credentials(&self) -> bool {
        self.administrators.is_empty() && self.proxy.is_none() && self.issuers.is_empty()
    }

    /// Returns true if people sign in with an issuer.
    pub(super) fn has_sign_in(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.sign_in.is_some())
    }

    /// Returns the issuers with which people sign in, in the order of the settings.
    ///
    /// # Errors
    /// The settings of one cannot be used.
    pub(super) fn sign_ins(
        &self,
        verifier: &Verifier,
        redirect_url: &str,
    ) -> Result<Vec<SignIn>, SettingsError> {
        let sign_ins = self.issuers.iter().filter_map(|issuer| Some((issuer, issuer.sign_in.as_ref()?)));
        let sign_in = |(issuer, setting): (&Issuer, &SignInSetting)| {
            let secret = setting.client_secret_file.as_deref();
            let client = ClientSettings {
                client_id: setting.client_id.clone(),
                client_secret: secret.map(|path| issuer.read_secret(path)).transpose()?,
                scope: setting.scope.clone(),
                redirect_url: redirect_url.to_owned(),
            };
            verifier.sign_in(&issuer.issuer, client)
        };
        sign_ins.map(sign_in).collect()
    }

    /// Returns the log of the reads of the history, in the database of these projections on the primary. `None` without
    /// authentication: it would name no one.
    #[must_use]
    pub fn read_log(
        &self,
        primaries: &BTreeMap<TenantName, Projections>,
        clock: fn() -> DateTime<Utc>,
    ) -> Option<Arc<ReadLog>> {
        if self.authentication == AuthenticationMode::Off {
            return None;
        }
        let settings = ReadLogSettings {
            keep_for: TimeDelta::days(self.read_log_days.get().into()),
            max_records: self.read_log_records.get(),
            exports_need_grant: self.exports_need_grant,
        };
        let projections = primaries.get(&TenantName::admin())?;
        Some(Arc::new(ReadLog::new(projections, settings, clock)))
    }

    /// Returns how the service authenticates its clients. `tenants` are those of the settings.
    ///
    /// # Errors
    /// The settings of an issuer cannot be used.
    pub fn authentication(
        &self,
        tenants: &[TenantName],
        clock: fn() -> DateTime<Utc>,
    ) -> Result<Authentication, SettingsError> {
        if self.authentication == AuthenticationMode::Off {
            return Ok(Authentication::Off);
        }
        let mut directory = Directory::default();
        for Administrator { name, kind, token, hash } in &self.administrators {
            directory.add_administrator(token.0.clone(), hash.0, kind.0, name.0.clone());
        }
        for grant in &self.grants {
            directory.add_grant(grant.grant());
        }
        tenants.iter().for_each(|tenant| directory.add_tenant(tenant.clone()));
        let proxy = self.proxy.as_ref().map(|proxy| ProxySettings {
            secret_header: proxy.secret_header.0.clone(),
            secret_hash: proxy.secret_hash.0,
            user_header: proxy.user_header.0.clone(),
        });
        let verifier = match &*self.issuers {
            [] => None,
            issuers => Some(Verifier::new(issuers.iter().map(Issuer::settings).collect(), clock)?),
        };
        let authenticator = Authenticator::new(directory, verifier, proxy, clock);
        Ok(Authentication::Required(Arc::new(authenticator.with_max_tenants(self.max_tenants.get()))))
    }
}

impl Issuer {
    /// Reads the secret of the client. The file may end with a line feed.
    fn read_secret(&self, path: &Path) -> Result<SecretString, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::SecretFile {
            issuer: self.issuer.clone(),
            path: path.to_owned(),
            source,
        })?;
        Ok(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn settings(&self) -> IssuerSettings {
        let kind = self.kind.as_ref().map_or(PrincipalKind::Workload, |kind| kind.0);
        let mut settings = match self.preset {
            Preset::Generic => IssuerSettings::generic(&self.issuer, &self.audience, kind),
            Preset::Github => IssuerSettings::github(&self.issuer, &self.audience),
            Preset::Gitlab => IssuerSettings::gitlab(&self.issuer, &self.audience),
            Preset::Kubernetes => IssuerSettings::kubernetes(&self.issuer, &self.audience),
        };
        settings.name_claim = self.name_claim.clone().unwrap_or(settings.name_claim);
        settings.claims.extend(self.claims.iter().cloned());
        settings.keys = match (&self.keys_url, &self.keys_file) {
            (_, Some(file)) => KeySource::File(file.clone()),
            (Some(url), None) => KeySource::Url(url.clone()),
            (None, None) => KeySource::Discovery,
        };
        settings.ca_file = self.ca_file.clone();
        settings
    }
}

impl GrantSetting {
    fn grant(&self) -> Grant {
        let patterns =
            |patterns: &[Parsed<Pattern>]| patterns.iter().map(|pattern| pattern.0.clone()).collect();
        Grant {
            // The directory numbers the grants of the settings.
            id: ShortText::parse("settings").expect("a word is a valid text"),
            grantee: match &self.grantee {
                GranteeSetting::Token { token } => Grantee::Token(token.0.clone()),
                GranteeSetting::Subject { issuer, subject } => {
                    Grantee::Subject { issuer: issuer.0.clone(), subject: subject.0.clone() }
                }
                GranteeSetting::Claims { issuer, claims } => Grantee::Claims {
                    issuer: issuer.0.clone(),
                    claims: claims.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
                },
            },
            tenant: self.tenant.0.clone(),
            environments: patterns(&self.environments),
            services: patterns(&self.services),
            verbs: self.verbs.iter().map(|verb| verb.0).collect(),
        }
    }
}
