//! Principals, tokens and grants.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Authenticated sender of requests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PrincipalBody {
    /// Type: `person`, `workload` or `local`.
    pub kind: String,
    /// Name as an actor.
    pub name: String,
    /// URL of the issuer, `release-ledger` for an API token, or `proxy`.
    pub issuer: String,
    /// Identifier that the issuer gives to no other principal: the id of an API token, or the claim `sub`.
    pub subject: String,
    /// Selected claims of the issuer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// Holder of a grant: a token, or a subject or the claims of an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GranteeBody {
    /// Id of an API token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// URL of an issuer, or `proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Subject of the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Patterns of claims of the issuer; each has to match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// Grant: what a grantee may do, and where.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantBody {
    /// Id; `settings:<number>` for one of the settings.
    pub grant: String,
    /// Who has it.
    pub grantee: GranteeBody,
    /// Pattern of tenants.
    pub tenant: String,
    /// Patterns of environments.
    pub environments: Vec<String>,
    /// Patterns of services.
    pub services: Vec<String>,
    /// Verbs: such as `read` or `emit:deploy`; `emit` and `*` stand for several.
    pub verbs: Vec<String>,
}

/// Who the service takes the client for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WhoAmIBody {
    /// Principal; absent if the service does not authenticate its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalBody>,
    /// Grants of the principal.
    #[serde(default)]
    pub grants: Vec<GrantBody>,
}

/// API token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenBody {
    /// Id.
    pub token: String,
    /// Type of the owner: `person`, `workload` or `local`.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Time at which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// True if it was revoked.
    pub revoked: bool,
    /// Time at which this process of the service accepted it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<DateTime<Utc>>,
}

/// API tokens.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokensBody {
    /// Position of the tenant `_admin` that the answer reflects.
    pub position: u64,
    /// Tokens, by name.
    pub tokens: Vec<TokenBody>,
}

/// Grants.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantsBody {
    /// Position of the tenant `_admin` that the answer reflects.
    pub position: u64,
    /// Grants, by id.
    pub grants: Vec<GrantBody>,
}

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TenantBody {
    /// Name.
    pub tenant: String,
    /// `settings`: it is one of the settings; `created`; `retired`: its ledger is closed for good.
    pub status: String,
    /// True if the process that answers serves it now. It opens a new tenant within a moment.
    pub is_open: bool,
}

/// Tenants.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TenantsBody {
    /// Position of the tenant `_admin` that the answer reflects.
    pub position: u64,
    /// Tenants by name, those that were retired included.
    pub tenants: Vec<TenantBody>,
}

/// Question whether a principal may do something.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The principal: a token, or a subject or the claims of an issuer, without patterns.
    pub principal: GranteeBody,
    /// Verb.
    pub verb: String,
    /// Tenant; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Environment; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Service; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// Decision whether a principal may do something, with the grants that led to it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplanationBody {
    /// True if a grant allows it.
    pub allowed: bool,
    /// Grants of the principal.
    pub grants: Vec<GrantFindingBody>,
}

/// What a grant says of a question.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantFindingBody {
    /// Id of the grant.
    pub grant: String,
    /// True if it allows the action.
    pub allows: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
