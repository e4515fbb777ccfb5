//! Tokens that are accepted, and their principals.

use std::collections::BTreeMap;

use ledger_domain::{Principal, PrincipalKind};
use serde_json::{Value, json};

use super::support::{AUDIENCE, Issuer, KEYS, NOW, Pair, claims, good, header, now, set, verifier};
use crate::oidc::{IssuerSettings, KeySource, OidcError, SettingsError, Verifier};

const ISSUER: &str = "https://issuer.example";

fn fixed() -> Verifier {
    verifier(ISSUER, KeySource::Fixed(KEYS.set()))
}

fn kept(principal: &Principal) -> BTreeMap<&str, &str> {
    principal.claims.iter().map(|(name, value)| (&**name, value.as_str())).collect()
}

#[tokio::test]
async fn each_algorithm_is_verified_with_a_key_of_its_type() {
    let verifier = fixed();
    for (algorithm, pair, key) in [
        ("RS256", &KEYS.rsa, "rsa"),
        ("RS384", &KEYS.rsa, "rsa"),
        ("RS512", &KEYS.rsa, "rsa"),
        ("PS256", &KEYS.rsa, "rsa"),
        ("PS384", &KEYS.rsa, "rsa"),
        ("PS512", &KEYS.rsa, "rsa"),
        ("RS256", &KEYS.rsa, "rsa256"),
        ("ES256", &KEYS.ec, "ec"),
        ("ES384", &KEYS.ec384, "ec384"),
        ("EdDSA", &KEYS.ed, "ed"),
    ] {
        let token = pair.token(algorithm, header(algorithm, key).to_string(), claims(ISSUER).to_string());
        let principal = verifier.verify(&token).await.expect(algorithm);
        assert_eq!(principal.kind, PrincipalKind::Workload);
        assert_eq!(principal.issuer.as_str(), ISSUER);
        assert_eq!((principal.subject.as_str(), principal.name.as_str()), ("repo:shop/web", "repo:shop/web"));
        assert_eq!(kept(&principal), BTreeMap::from([("repository", "shop/web")]));
    }
}

#[tokio::test]
async fn a_token_of_a_real_issuer_is_verified_with_the_keys_of_its_discovery_document() {
    let issuer = Issuer::start().await;
    let verifier = issuer.verifier();
    for _ in 0..3 {
        assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
    }
    assert_eq!(issuer.fetches(), 1);
}

/// A signature that was verified is not verified again: every other check is.
#[tokio::test]
async fn a_token_that_was_accepted_makes_no_other_acceptable() {
    let verifier = fixed();
    let token = |claims: Value| KEYS.ec.token("ES256", header("ES256", "ec").to_string(), claims.to_string());
    let good = token(claims(ISSUER));
    for _ in 0..2 {
        assert!(verifier.verify(&good).await.is_ok());
    }

    let mut admin = claims(ISSUER);
    admin["sub"] = json!("repo:shop/admin");
    let (admin, (_, signature)) = (token(admin), good.rsplit_once('.').expect("a signature"));
    let (forged, _) = admin.rsplit_once('.').expect("a signature");
    assert_eq!(verifier.verify(&format!("{forged}.{signature}")).await, Err(OidcError::Signature));
    assert!(verifier.verify(&good).await.is_ok());
}

#[tokio::test]
async fn optional_parts_may_be_absent_and_others_are_ignored() {
    let verifier = verifier(ISSUER, KeySource::Fixed(set(&[KEYS.ec.jwk("ec"), KEYS.rsa.jwk("rsa")])));
    let sign =
        |header: &Value, claims: &Value| KEYS.ec.token("ES256", header.to_string(), claims.to_string());
    for header in [
        json!({"alg": "ES256"}),
        json!({"alg": "ES256", "kid": "ec"}),
        json!({"alg": "ES256", "typ": "jwt"}),
        json!({"alg": "ES256", "typ": "at+jwt"}),
        json!({"alg": "ES256", "typ": "application/at+jwt"}),
        json!({"alg": "ES256", "x5t": "a", "x5t#S256": "b", "other": [1]}),
    ] {
        assert!(verifier.verify(&sign(&header, &claims(ISSUER))).await.is_ok(), "{header}");
    }
    let good = header("ES256", "ec");
    let minimal = json!({"iss": ISSUER, "sub": "a", "aud": AUDIENCE, "exp": NOW + 1});
    assert!(verifier.verify(&sign(&good, &minimal)).await.is_ok());
    for (name, value) in [
        ("aud", json!(["other", AUDIENCE])),
        ("exp", json!(NOW - 59)),
        ("exp", json!(NOW + 86_400)),
        ("nbf", json!(NOW + 60)),
        ("iat", json!(NOW + 60)),
        ("iat", json!(0)),
        ("repository", json!({"a": 1})),
        ("other", json!({"a": [1.5, null, {}]})),
    ] {
        let mut claims = claims(ISSUER);
        claims[name] = value.clone();
        assert!(verifier.verify(&sign(&good, &claims)).await.is_ok(), "{name} {value}");
    }
}

/// Verifies claims with the settings of a preset.
async fn with_preset(mut settings: IssuerSettings, claims: Value) -> Result<Principal, OidcError> {
    settings.keys = KeySource::Fixed(KEYS.set());
    let mut all = json!({"iss": settings.issuer, "aud": AUDIENCE, "exp": NOW + 300, "iat": NOW, "nbf": NOW});
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    let token = KEYS.rsa.token("RS256", header("RS256", "rsa").to_string(), all.to_string());
    Verifier::new(vec![settings], now).expect("valid settings").verify(&token).await
}

/// Issuer of GitHub Actions on github.com.
const GITHUB: &str = "https://token.actions.githubusercontent.com";

#[tokio::test]
async fn a_workflow_of_github_keeps_the_claims_that_grants_need() {
    let claims = json!({
        "sub": "repo:shop/web:environment:production", "repository": "shop/web", "repository_id": "74",
        "repository_owner": "shop", "repository_owner_id": "65", "run_id": "158", "run_attempt": "2", "actor": "ada",
        "actor_id": "12", "event_name": "push", "ref": "refs/heads/main", "sha": "abc", "environment": "production",
        "workflow_ref": "shop/web/.github/workflows/ci.yml@refs/heads/main",
        "job_workflow_ref": "shop/ci/.github/workflows/deploy.yml@refs/tags/v1",
    });
    let principal = with_preset(IssuerSettings::github(GITHUB, AUDIENCE), claims).await.expect("accepted");
    assert_eq!(principal.kind, PrincipalKind::Workload);
    assert_eq!(principal.name.as_str(), "repo:shop/web:environment:production");
    let kept = kept(&principal);
    assert_eq!(kept.len(), 12);
    assert_eq!((kept["repository_id"], kept["run_attempt"], kept["actor"]), ("74", "2", "ada"));
    assert_eq!(kept["job_workflow_ref"], "shop/ci/.github/workflows/deploy.yml@refs/tags/v1");
}

#[tokio::test]
async fn a_job_of_gitlab_keeps_the_claims_that_grants_need() {
    let claims = json!({
        "sub": "project_path:shop/web:ref_type:branch:ref:main", "project_id": "22", "project_path": "shop/web",
        "namespace_id": 7, "ref": "main", "ref_type": "branch", "ref_protected": true, "pipeline_id": "1",
        "job_id": "2", "user_login": "ada", "user_identities": [{"provider": "x"}],
    });
    let settings = IssuerSettings::gitlab("https://gitlab.example", AUDIENCE);
    let principal = with_preset(settings, claims).await.expect("accepted");
    let kept = kept(&principal);
    assert_eq!((kept["namespace_id"], kept["ref_protected"]), ("7", "true"));
    assert_eq!(kept.len(), 9, "environment is absent");
}

#[tokio::test]
async fn a_service_account_of_kubernetes_keeps_its_namespace_and_name() {
    let claims = json!({
        "sub": "system:serviceaccount:shop:ci", "aud": [AUDIENCE],
        "kubernetes.io": {"namespace": "shop", "pod": {"name": "ci-1"}, "serviceaccount": {"name": "ci", "uid": "9"}},
    });
    let settings = IssuerSettings::kubernetes("https://kubernetes.default.svc.cluster.local", AUDIENCE);
    let principal = with_preset(settings, claims).await.expect("accepted");
    assert_eq!(principal.name.as_str(), "system:serviceaccount:shop:ci");
    let expected = [("kubernetes.io/namespace", "shop"), ("kubernetes.io/serviceaccount/name", "ci")];
    assert_eq!(kept(&principal), BTreeMap::from(expected));
}

#[tokio::test]
async fn a_person_has_the_name_that_the_issuer_states() {
    let settings = || IssuerSettings::generic("https://login.example/", AUDIENCE, PrincipalKind::Person);
    let principal =
        with_preset(settings(), json!({"sub": "8f", "preferred_username": "ada"})).await.expect("accepted");
    assert_eq!(principal.kind, PrincipalKind::Person);
    assert_eq!((principal.subject.as_str(), principal.name.as_str()), ("8f", "ada"));
    let name = || Box::from("preferred_username");
    assert_eq!(with_preset(settings(), json!({"sub": "8f"})).await, Err(OidcError::MissingClaim(name())));
    let invisible = json!({"sub": "8f", "preferred_username": "a\u{202e}da"});
    assert_eq!(with_preset(settings(), invisible).await, Err(OidcError::InvalidClaim(name())));
}

#[tokio::test]
async fn a_token_is_verified_with_the_keys_of_its_own_issuer() {
    let other = Pair::ec(false);
    let issuer = |url: &str, keys: String| IssuerSettings {
        keys: KeySource::Fixed(keys),
        ..IssuerSettings::generic(url, AUDIENCE, PrincipalKind::Workload)
    };
    let settings = || vec![issuer(ISSUER, KEYS.set()), issuer("https://b.example", set(&[other.jwk("ec")]))];
    let verifier = Verifier::new(settings(), now).expect("valid settings");
    let token = |pair: &Pair, url: &str| {
        pair.token("ES256", header("ES256", "ec").to_string(), claims(url).to_string())
    };
    assert!(verifier.verify(&token(&KEYS.ec, ISSUER)).await.is_ok());
    assert!(verifier.verify(&token(&other, "https://b.example")).await.is_ok());
    assert_eq!(verifier.verify(&token(&other, ISSUER)).await, Err(OidcError::Signature));
    assert_eq!(verifier.verify(&token(&KEYS.ec, "https://b.example")).await, Err(OidcError::Signature));

    let twice = [settings(), settings()].concat();
    assert!(matches!(Verifier::new(twice, now), Err(SettingsError::Repeated(_))));
    for text in ["", "{}", r#"{"keys":[]}"#] {
        assert!(Verifier::new(vec![issuer(ISSUER, text.to_owned())], now).is_err(), "{text}");
    }
}
