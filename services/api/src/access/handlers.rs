//! Endpoints about access: who the client is, tokens, grants, and why something is allowed or not.
//!
//! Tokens and grants are changed by events of the tenant `_admin`, like everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use ledger_access::{Directory, Question, Scope, TenantState, explain};
use ledger_api_types::{
    ExplainRequest, ExplanationBody, GrantBody, GrantFindingBody, GranteeBody, GrantsBody, PrincipalBody,
    TenantBody, TenantsBody, TokenBody, TokensBody, WhoAmIBody,
};
use ledger_domain::access::{Grant, Grantee, VerbSet};
use ledger_domain::{
    EnvironmentName, Position, Principal, PrincipalKind, ServiceName, ShortText, TenantName,
};

use super::authorized::require_admin;
use super::{Authentication, Authenticator, Sent};
use crate::App;
use crate::body::{ValidJson, parsed_member};
use crate::parameters::{NoParameters, StrictQuery, with_position};
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;

pub(crate) fn principal_body(principal: &Principal) -> PrincipalBody {
    let claims = principal.claims.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    PrincipalBody {
        kind: principal.kind.name().to_owned(),
        name: principal.name.to_string(),
        issuer: principal.issuer.to_string(),
        subject: principal.subject.to_string(),
        claims: claims.collect(),
    }
}

fn grantee_body(grantee: &Grantee) -> GranteeBody {
    let empty = GranteeBody::default();
    match grantee {
        Grantee::Token(token) => GranteeBody { token: Some(token.to_string()), ..empty },
        Grantee::Subject { issuer, subject } => {
            GranteeBody { issuer: Some(issuer.to_string()), subject: Some(subject.to_string()), ..empty }
        }
        Grantee::Claims { issuer, claims } => GranteeBody {
            issuer: Some(issuer.to_string()),
            claims: claims.iter().map(|(name, pattern)| (name.to_string(), pattern.to_string())).collect(),
            ..empty
        },
    }
}

fn grant_body(grant: &Grant) -> GrantBody {
    let texts =
        |patterns: &[ledger_domain::access::Pattern]| patterns.iter().map(ToString::to_string).collect();
    GrantBody {
        grant: grant.id.to_string(),
        grantee: grantee_body(&grant.grantee),
        tenant: grant.tenant.to_string(),
        environments: texts(&grant.environments),
        services: texts(&grant.services),
        verbs: grant.verbs.iter().map(ToString::to_string).collect(),
    }
}

/// Returns the authenticator, and the directory with its position, for a sender who may administrate access.
pub(super) fn administered<'a>(
    app: &'a App,
    sent: &Sent,
) -> Result<(&'a Authenticator, Arc<Directory>, Position), Problem> {
    let Authentication::Required(authenticator) = &app.authentication else {
        return Err(Problem::new(
            Kind::AuthenticationOff,
            "the service does not authenticate its clients; see access.authentication in its settings",
        ));
    };
    require_admin(authenticator, sent)?;
    let (directory, position) = authenticator.directory();
    Ok((authenticator, directory, position))
}

/// Show who the client is
///
/// Returns the principal that the service takes the client for, and its grants.
#[utoipa::path(
    get,
    path = "/whoami",
    operation_id = "whoAmI",
    tag = "access",
    responses(
        (status = 200, description = "Principal and its grants", body = WhoAmIBody),
        ProblemResponses,
    )
)]
pub(crate) async fn who_am_i(
    State(app): State<Arc<App>>,
    Extension(Sent(sender)): Extension<Sent>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Json<WhoAmIBody> {
    let grants = match (&app.authentication, &sender) {
        (Authentication::Required(authenticator), Some(sender)) => {
            let (directory, _) = authenticator.directory();
            directory.grants().filter(|grant| grant.grantee.is(sender)).map(grant_body).collect()
        }
        _ => Vec::new(),
    };
    Json(WhoAmIBody { principal: sender.as_deref().map(principal_body), grants })
}

/// List API tokens
///
/// Lists the API tokens, by the name of their owner. Needs `admin` for the tenant `_admin`.
#[utoipa::path(
    get,
    path = "/access/tokens",
    operation_id = "listTokens",
    tag = "access",
    responses(
        (status = 200, description = "Tokens", body = TokensBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_tokens(
    State(app): State<Arc<App>>,
    Extension(sent): Extension<Sent>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    let (authenticator, directory, position) = administered(&app, &sent)?;
    let mut tokens: Vec<_> = directory
        .tokens()
        .map(|(id, token)| TokenBody {
            token: id.to_string(),
            kind: token.kind.name().to_owned(),
            name: token.name.to_string(),
            expires_at: token.expires_at,
            revoked: token.is_revoked,
            last_used_at: authenticator.last_use(id),
        })
        .collect();
    tokens.sort_by(|a, b| (&a.name, &a.token).cmp(&(&b.name, &b.token)));
    Ok(with_position(position, Json(TokensBody { position: position.get(), tokens })))
}

/// List grants
///
/// Lists the grants that hold, by id. Needs `admin` for the tenant `_admin`.
#[utoipa::path(
    get,
    path = "/access/grants",
    operation_id = "listGrants",
    tag = "access",
    responses(
        (status = 200, description = "Grants", body = GrantsBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_grants(
    State(app): State<Arc<App>>,
    Extension(sent): Extension<Sent>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    let (_, directory, position) = administered(&app, &sent)?;
    let body = GrantsBody { position: position.get(), grants: directory.grants().map(grant_body).collect() };
    Ok(with_position(position, Json(body)))
}

/// List tenants
///
/// Lists the tenants, by name. Needs `admin` for the tenant `_admin`.
#[utoipa::path(
    get,
    path = "/access/tenants",
    operation_id = "listTenants",
    tag = "access",
    responses(
        (status = 200, description = "Tenants", body = TenantsBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_tenants(
    State(app): State<Arc<App>>,
    Extension(sent): Extension<Sent>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    let (_, directory, position) = administered(&app, &sent)?;
    let ledgers = app.ledgers.all();
    let tenants = directory.tenants().map(|(name, state)| TenantBody {
        tenant: name.to_string(),
        status: match state {
            TenantState::OfSettings => "settings",
            TenantState::Created => "created",
            TenantState::Retired => "retired",
        }
        .to_owned(),
        is_open: ledgers.contains_key(name),
    });
    let body = TenantsBody { position: position.get(), tenants: tenants.collect() };
    Ok(with_position(position, Json(body)))
}

/// Explain access
///
/// Decides whether a principal may do something, and lists its grants with the reason for which each does not allow it.
/// Needs `admin` for the tenant `_admin`.
#[utoipa::path(
    post,
    path = "/access/explain",
    operation_id = "explainAccess",
    tag = "access",
    request_body = ExplainRequest,
    responses(
        (status = 200, description = "Decision", body = ExplanationBody),
        ProblemResponses,
    )
)]
pub(crate) async fn explain_access(
    State(app): State<Arc<App>>,
    Extension(sent): Extension<Sent>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
    ValidJson(request): ValidJson<ExplainRequest>,
) -> Result<Response, Problem> {
    let (_, directory, position) = administered(&app, &sent)?;
    Ok(with_position(position, Json(explanation(&directory, &request)?)))
}

fn explanation(directory: &Directory, request: &ExplainRequest) -> Result<ExplanationBody, Problem> {
    let principal = described(&request.principal)?;
    let VerbSet::One(verb) = parsed_member("/verb", VerbSet::parse(&request.verb))? else {
        return Err(Problem::member("/verb", "must be one verb, such as emit:deploy"));
    };
    let tenant = request.tenant.as_deref().map(|name| parsed_member("/tenant", TenantName::parse_any(name)));
    let tenant = tenant.transpose()?.unwrap_or_default();
    for (at, result) in [
        ("/environment", request.environment.as_deref().map(|name| EnvironmentName::parse(name).map(drop))),
        ("/service", request.service.as_deref().map(|name| ServiceName::parse(name).map(drop))),
    ] {
        result.map(|parsed| parsed_member(at, parsed)).transpose()?;
    }
    let question = Question {
        verb,
        tenant: &tenant,
        environment: request.environment.as_deref().map_or(Scope::All, Scope::Named),
        service: request.service.as_deref().map_or(Scope::All, Scope::Named),
    };
    let grants: Vec<_> = explain(directory.grants(), &principal, &question)
        .into_iter()
        .map(|(grant, mismatch)| GrantFindingBody {
            grant: grant.to_string(),
            allows: mismatch.is_none(),
            reason: mismatch.map(|mismatch| mismatch.to_string()),
        })
        .collect();
    Ok(ExplanationBody { allowed: grants.iter().any(|grant| grant.allows), grants })
}

/// Returns the principal that a request describes. Its type and name do not matter for grants.
fn described(grantee: &GranteeBody) -> Result<Principal, Problem> {
    let text = |name: &str, text: &str| parsed_member(&format!("/principal/{name}"), ShortText::parse(text));
    let GranteeBody { token, issuer, subject, claims } = grantee;
    let (issuer, subject) = match (token, issuer) {
        (Some(token), None) => (text("token", Principal::TOKENS)?, text("token", token)?),
        (None, Some(issuer)) => {
            (text("issuer", issuer)?, text("subject", subject.as_deref().unwrap_or("-"))?)
        }
        _ => return Err(Problem::member("/principal", "must have a token, or an issuer")),
    };
    let claims = claims.iter().map(|(name, value)| Ok((name.as_str().into(), text("claims", value)?)));
    Ok(Principal {
        kind: PrincipalKind::Workload,
        name: subject.clone(),
        issuer,
        subject,
        claims: claims.collect::<Result<BTreeMap<_, _>, Problem>>()?,
    })
}
