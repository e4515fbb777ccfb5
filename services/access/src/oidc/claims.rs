//! Checks of verified claims, and the principal that they describe.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ledger_domain::{Principal, ShortText};
use serde_json::{Map, Value};

use super::error::OidcError;
use super::settings::IssuerSettings;

/// Allowed difference between the clocks of the issuer and of the service, in seconds.
pub(super) const CLOCK_TOLERANCE_SECONDS: u64 = 60;
/// Maximum time until a token expires, in seconds.
pub(super) const MAX_LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// Claims of a token.
type Claims = Map<String, Value>;

/// Returns a required claim that is a text.
pub(super) fn text<'c>(claims: &'c Claims, name: &str) -> Result<&'c str, OidcError> {
    let value = claims.get(name).ok_or_else(|| OidcError::MissingClaim(name.into()))?;
    value.as_str().ok_or_else(|| OidcError::InvalidClaim(name.into()))
}

/// Checks the times of a token.
pub(super) fn check_times(claims: &Claims, now: DateTime<Utc>) -> Result<(), OidcError> {
    // A clock before 1970 makes every token one of the future.
    let now = u64::try_from(now.timestamp()).unwrap_or_default();
    let expires = seconds(claims, "exp")?.ok_or_else(|| OidcError::MissingClaim("exp".into()))?;
    if expires.saturating_add(CLOCK_TOLERANCE_SECONDS) <= now {
        return Err(OidcError::Expired);
    }
    if expires > now + MAX_LIFETIME_SECONDS + CLOCK_TOLERANCE_SECONDS {
        return Err(OidcError::LongLived);
    }
    for name in ["nbf", "iat"] {
        if seconds(claims, name)?.is_some_and(|time| time > now + CLOCK_TOLERANCE_SECONDS) {
            return Err(OidcError::NotYetValid);
        }
    }
    Ok(())
}

/// Returns a time in whole seconds since 1970.
fn seconds(claims: &Claims, name: &str) -> Result<Option<u64>, OidcError> {
    let value = claims.get(name);
    value.map(|value| value.as_u64().ok_or_else(|| OidcError::InvalidClaim(name.into()))).transpose()
}

/// Checks that the token is for one of the audiences.
pub(super) fn check_audience(claims: &Claims, accepted: &[String]) -> Result<(), OidcError> {
    let invalid = || OidcError::InvalidClaim("aud".into());
    let is_accepted = match claims.get("aud") {
        None => return Err(OidcError::MissingClaim("aud".into())),
        Some(Value::String(audience)) => accepted.contains(audience),
        Some(Value::Array(audiences)) => {
            let audiences: Option<Vec<_>> = audiences.iter().map(Value::as_str).collect();
            audiences
                .ok_or_else(invalid)?
                .iter()
                .any(|audience| accepted.iter().any(|other| other == audience))
        }
        Some(_) => return Err(invalid()),
    };
    if is_accepted { Ok(()) } else { Err(OidcError::Audience) }
}

/// Checks that an ID token was issued to a client (OpenID Connect Core 1.0, section 3.1.3.7): one for several audiences
/// names the one that asked for it.
pub(super) fn check_client(claims: &Claims, client_id: &str) -> Result<(), OidcError> {
    check_audience(claims, &[client_id.to_owned()])?;
    let has_several =
        claims.get("aud").and_then(Value::as_array).is_some_and(|audiences| audiences.len() > 1);
    match claims.get("azp") {
        None if has_several => Err(OidcError::MissingClaim("azp".into())),
        None => Ok(()),
        Some(client) if client == client_id => Ok(()),
        Some(_) => Err(OidcError::InvalidClaim("azp".into())),
    }
}

/// Checks that an ID token is the answer to one request.
pub(super) fn check_nonce(claims: &Claims, nonce: &str) -> Result<(), OidcError> {
    if text(claims, "nonce")? == nonce { Ok(()) } else { Err(OidcError::InvalidClaim("nonce".into())) }
}

/// Returns the principal that verified claims describe.
///
/// A kept claim that is missing, or is not a valid text, is left out: a grant that needs it does not match.
pub(super) fn principal(
    claims: &Claims,
    settings: &IssuerSettings,
    issuer: &ShortText,
) -> Result<Principal, OidcError> {
    let invalid = |name: &str| OidcError::InvalidClaim(name.into());
    let subject = ShortText::parse(text(claims, "sub")?).map_err(|_| invalid("sub"))?;
    let name = &settings.name_claim;
    let value = find(claims, name).ok_or_else(|| OidcError::MissingClaim(name.as_str().into()))?;
    let name = short_text(value).ok_or_else(|| invalid(name))?;
    // Anyone can enter the address of another person at some issuers.
    if settings.name_claim == "email" && claims.get("email_verified").is_some_and(|value| value != true) {
        return Err(invalid("email_verified"));
    }
    let kept = settings.claims.iter().filter_map(|name| {
        let value = find(claims, name).and_then(short_text)?;
        Some((name.as_str().into(), value))
    });
    let claims: BTreeMap<Box<str>, ShortText> = kept.collect();
    Ok(Principal { kind: settings.kind, issuer: issuer.clone(), subject, name, claims })
}

/// Returns the claim with a name, or with a path of names. A name may contain `/`; the longest one is tried first.
fn find<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.rmatch_indices('/').find_map(|(at, _)| {
        let object = claims.get(&path[..at])?.as_object()?;
        find(object, &path[at + 1..])
    })
}

/// Returns a text, a number or a boolean as a text.
fn short_text(value: &Value) -> Option<ShortText> {
    match value {
        Value::String(text) => ShortText::parse(text).ok(),
        Value::Number(number) => ShortText::parse(&number.to_string()).ok(),
        Value::Bool(flag) => ShortText::parse(if *flag { "true" } else { "false" }).ok(),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use ledger_domain::PrincipalKind;
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        value.as_object().expect("an object").clone()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
    }

    #[test]
    fn times_are_accepted_up_to_the_tolerance_and_not_a_second_further() {
        let check = |name: &str, offset: i64| {
            let mut claims = claims(json!({"exp": 1_800_000_100}));
            claims.insert(name.to_owned(), json!(1_800_000_000 + offset));
            check_times(&claims, now())
        };
        for (name, last, first, error) in [
            ("exp", -59, -60, OidcError::Expired),
            ("exp", 86_460, 86_461, OidcError::LongLived),
            ("nbf", 60, 61, OidcError::NotYetValid),
            ("iat", 60, 61, OidcError::NotYetValid),
        ] {
            assert_eq!(check(name, last), Ok(()), "{name}");
            assert_eq!(check(name, first), Err(error), "{name}");
        }
    }

    #[test]
    fn an_id_token_is_for_the_client_that_asked_for_it() {
        let check = |value: Value| check_client(&claims(value), "ledger");
        for accepted in [
            json!({"aud": "ledger"}),
            json!({"aud": ["ledger"]}),
            json!({"aud": "ledger", "azp": "ledger"}),
            json!({"aud": ["other", "ledger"], "azp": "ledger"}),
        ] {
            assert_eq!(check(accepted.clone()), Ok(()), "{accepted}");
        }
        assert_eq!(check(json!({"aud": ["other", "ledger"]})), Err(OidcError::MissingClaim("azp".into())));
        assert_eq!(
            check(json!({"aud": "ledger", "azp": "other"})),
            Err(OidcError::InvalidClaim("azp".into()))
        );
        assert_eq!(check(json!({"aud": "other", "azp": "ledger"})), Err(OidcError::Audience));
    }

    #[test]
    fn an_id_token_without_the_nonce_of_its_request_is_refused() {
        assert_eq!(check_nonce(&claims(json!({"nonce": "a"})), "a"), Ok(()));
        assert_eq!(
            check_nonce(&claims(json!({"nonce": "b"})), "a"),
            Err(OidcError::InvalidClaim("nonce".into()))
        );
        assert_eq!(check_nonce(&claims(json!({})), "a"), Err(OidcError::MissingClaim("nonce".into())));
    }

    #[test]
    fn a_path_leads_into_objects_and_the_longest_name_is_tried_first() {
        let claims = claims(json!({
            "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "ci"}},
            "https://a.example/team": {"id": 7},
            "a": {"b/c": "long", "b": {"c": "short"}},
            "a/x": "flat",
        }));
        for (path, expected) in [
            ("kubernetes.io/namespace", Some("shop")),
            ("kubernetes.io/serviceaccount/name", Some("ci")),
            ("https://a.example/team/id", Some("7")),
            ("a/b/c", Some("long")),
            ("a/x", Some("flat")),
            ("kubernetes.io", None),
            ("kubernetes.io/serviceaccount", None),
            ("kubernetes.io/", None),
            ("kubernetes.io/namespace/x", None),
            ("/", None),
            ("", None),
        ] {
            let found = find(&claims, path).and_then(short_text);
            assert_eq!(found.as_ref().map(ShortText::as_str), expected, "{path}");
        }
    }

    #[test]
    fn kept_claims_become_texts_and_others_are_left_out() {
        let mut settings = IssuerSettings::generic("https://a.example", "x", PrincipalKind::Workload);
        let names =
            ["text", "number", "true", "null", "list", "object", "long", "control", "padded", "empty"];
        settings.claims = names.iter().map(|name| (*name).to_owned()).collect();
        let claims = claims(json!({
            "sub": "one", "text": "a", "number": -7, "true": true, "null": null, "list": ["a"], "object": {"a": 1},
            "long": "x".repeat(513), "control": "a\u{0}", "padded": " a", "empty": "", "other": "a",
        }));
        let issuer = ShortText::parse("https://a.example").expect("a text");
        let principal = principal(&claims, &settings, &issuer).expect("valid");
        let kept: Vec<_> = principal.claims.iter().map(|(name, value)| (&**name, value.as_str())).collect();
        assert_eq!(kept, [("number", "-7"), ("text", "a"), ("true", "true")]);
    }

    #[test]
    fn an_address_that_the_issuer_has_not_verified_is_no_name() {
        let mut settings = IssuerSettings::generic("https://a.example", "x", PrincipalKind::Person);
        settings.name_claim = "email".to_owned();
        let issuer = ShortText::parse("https://a.example").expect("a text");
        let name = |verified: Option<Value>| {
            let mut claims = claims(json!({"sub": "one", "email": "ada@a.example"}));
            claims.extend(verified.map(|verified| ("email_verified".to_owned(), verified)));
            principal(&claims, &settings, &issuer).map(|principal| principal.name.to_string())
        };
        assert_eq!(name(None).as_deref(), Ok("ada@a.example"));
        assert_eq!(name(Some(json!(true))).as_deref(), Ok("ada@a.example"));
        for other in [json!(false), json!("true"), json!(1)] {
            assert_eq!(name(Some(other)), Err(OidcError::InvalidClaim("email_verified".into())));
        }
    }
}
