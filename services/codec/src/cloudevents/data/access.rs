//! Data of the events about tokens, grants and tenants.

use std::collections::BTreeMap;

use ledger_domain::access::{Grant, GrantId, Grantee, Pattern, SecretHash, TokenId, VerbSet};
use ledger_domain::event::{TokenCreation, TokenRotation};
use ledger_domain::{PrincipalKind, ShortText, TenantName};

use super::Decoded;
use crate::cloudevents::error::Reason;
use crate::cloudevents::fields::{Fields, Pointer, text};
use crate::ijson::Json;

/// Maximum number of patterns, claims or verbs in a list of a grant: each is compared for each request.
const LIST_LIMIT: usize = 100;

pub(super) fn token(fields: &Fields<'_, '_>) -> Decoded<TokenId> {
    fields.text("token", TokenId::parse)
}

pub(super) fn tenant(fields: &Fields<'_, '_>) -> Decoded<TenantName> {
    fields.text("tenant", TenantName::parse)
}

pub(super) fn token_creation(fields: &Fields<'_, '_>) -> Decoded<TokenCreation> {
    let kind = |word: &str| match PrincipalKind::named(word) {
        Some(kind @ (PrincipalKind::Person | PrincipalKind::Workload)) => Ok(kind),
        _ => Err("must be person or workload"),
    };
    Ok(TokenCreation {
        token: token(fields)?,
        kind: fields.text("kind", kind)?,
        name: fields.text("name", ShortText::parse)?,
        hash: fields.text("hash", SecretHash::parse)?,
        expires_at: fields.optional_time("expires_at")?,
    })
}

pub(super) fn token_rotation(fields: &Fields<'_, '_>) -> Decoded<TokenRotation> {
    Ok(TokenRotation {
        token: token(fields)?,
        hash: fields.text("hash", SecretHash::parse)?,
        previous_until: fields.text("previous_until", crate::cloudevents::fields::time)?,
    })
}

pub(super) fn grant_id(fields: &Fields<'_, '_>) -> Decoded<GrantId> {
    fields.text("grant", ShortText::stored)
}

pub(super) fn grant(fields: &Fields<'_, '_>) -> Decoded<Grant> {
    Ok(Grant {
        id: grant_id(fields)?,
        grantee: fields.required("grantee", grantee)?,
        tenant: fields.text("tenant", Pattern::parse)?,
        environments: list(fields, "environments", Pattern::parse)?,
        services: list(fields, "services", Pattern::parse)?,
        verbs: list(fields, "verbs", VerbSet::parse)?,
    })
}

fn list<T, E: std::fmt::Display>(
    fields: &Fields<'_, '_>,
    name: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Decoded<Vec<T>> {
    let items = fields.text_list(name, parse)?;
    if items.is_empty() || items.len() > LIST_LIMIT {
        return Err(fields.invalid(name, format!("must have 1 to {LIST_LIMIT} items")));
    }
    Ok(items)
}

fn grantee(json: &Json<'_>, at: Pointer<'_>) -> Decoded<Grantee> {
    let fields = Fields::new(json, at)?;
    let grantee = if fields.has("token") {
        Grantee::Token(token(&fields)?)
    } else {
        let issuer = fields.text("issuer", ShortText::parse)?;
        if fields.has("claims") {
            Grantee::Claims { issuer, claims: fields.required("claims", claims)? }
        } else {
            Grantee::Subject { issuer, subject: fields.text("subject", ShortText::parse)? }
        }
    };
    fields.finish()?;
    Ok(grantee)
}

fn claims(json: &Json<'_>, at: Pointer<'_>) -> Decoded<BTreeMap<Box<str>, Pattern>> {
    let Json::Object(claims) = json else {
        return Err(Reason::value(at.to_string(), format!("must be an object, not {}", json.type_phrase())));
    };
    let count = claims.entries().len();
    if count == 0 || count > LIST_LIMIT {
        return Err(Reason::value(at.to_string(), format!("must have 1 to {LIST_LIMIT} members")));
    }
    let claim = |(name, value): (&str, &Json<'_>)| {
        Ok((name.into(), text(value, Pointer::Member(&at, name), Pattern::parse)?))
    };
    claims.entries().map(claim).collect()
}
