//! The attribute `ledgerprincipal`: the authenticated sender of an event, which the service adds before it records it.
//!
//! Attributes of CloudEvents have no members, so the attribute is a string that holds a JSON object. No client may send
//! it.

use ledger_domain::{Principal, PrincipalKind, ShortText};

use super::error::Reason;
use super::fields::{Fields, Pointer};
use crate::ijson::{Json, Object};

/// Name of the attribute.
pub(super) const ATTRIBUTE: &str = "ledgerprincipal";

/// Returns the value of the attribute.
pub(super) fn encode(principal: &Principal) -> String {
    let text = |text: &'_ str| Json::String(text.to_owned().into());
    let claims = principal.claims.iter().map(|(name, value)| (name.to_string().into(), text(value.as_str())));
    let mut members = vec![
        ("kind".into(), text(principal.kind.name())),
        ("issuer".into(), text(principal.issuer.as_str())),
        ("subject".into(), text(principal.subject.as_str())),
        ("name".into(), text(principal.name.as_str())),
    ];
    if !principal.claims.is_empty() {
        let claims = Object::from_members(claims.collect()).unwrap_or_default();
        members.push(("claims".into(), Json::Object(claims)));
    }
    let json = Object::from_members(members).unwrap_or_default().canonical();
    String::from_utf8(json).unwrap_or_default()
}

/// Parses the value of the attribute in a stored entry. A newer service may add members, which are ignored.
pub(super) fn decode(text: &str) -> Result<Principal, Reason> {
    let at = Pointer::Member(&Pointer::Root, ATTRIBUTE);
    let json = Json::parse(text.as_bytes()).map_err(|error| Reason::value(at.to_string(), error))?;
    let fields = Fields::new(&json, at)?;
    let kind = fields.text("kind", |word| PrincipalKind::named(word).ok_or("is no kind of a principal"))?;
    let claims = fields.optional("claims", |value, at| match value {
        Json::Object(claims) => claims.entries().map(|(name, value)| claim(name, value, at)).collect(),
        other => {
            Err(Reason::value(at.to_string(), format!("must be an object, not {}", other.type_phrase())))
        }
    })?;
    Ok(Principal {
        kind,
        issuer: fields.text("issuer", ShortText::stored)?,
        subject: fields.text("subject", ShortText::stored)?,
        name: fields.text("name", ShortText::stored)?,
        claims: claims.unwrap_or_default(),
    })
}

type Claim = (Box<str>, ShortText);

fn claim(name: &str, value: &Json<'_>, at: Pointer<'_>) -> Result<Claim, Reason> {
    let value = super::fields::text(value, Pointer::Member(&at, name), ShortText::stored)?;
    Ok((name.into(), value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn text(text: &str) -> ShortText {
        ShortText::parse(text).expect("a text")
    }

    #[test]
    fn a_principal_survives_encode_and_decode() {
        for claims in [vec![], vec![("repository_id", "7"), ("ref", "refs/heads/\"main\"")]] {
            let principal = Principal {
                kind: PrincipalKind::Workload,
                issuer: text("https://ci.example"),
                subject: text("repo:org/app"),
                name: text("org/app"),
                claims: claims.into_iter().map(|(name, value)| (name.into(), text(value))).collect(),
            };
            assert_eq!(decode(&encode(&principal)), Ok(principal));
        }
    }

    #[test]
    fn members_of_newer_services_are_ignored_and_missing_ones_are_an_error() {
        let known = r#"{"kind":"person","issuer":"proxy","subject":"ada","name":"Ada","mfa":true}"#;
        assert_eq!(decode(known).map(|principal| principal.claims), Ok(BTreeMap::new()));
        for wrong in
            ["", "7", "{}", &known.replace("person", "robot"), &known.replace(r#""name":"Ada","#, "")]
        {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
