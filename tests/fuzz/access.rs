//! Tokens: the ledger's own, and those of issuers.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ledger_access::ApiToken;
use ledger_access::oidc::{IssuerSettings, KeySource, MAX_TOKEN_BYTES, Verifier};
use ledger_domain::PrincipalKind;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::edit;

const NOW: i64 = 1_785_700_000;
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "release-ledger";

/// Parses a token of the ledger. What is accepted is the text itself, and its secret is never shown.
pub(crate) fn api_token(choices: &mut Choices<'_>) {
    let body = format!("rl_{}_{}", "0123456789abcdef", "0123456789abcdef".repeat(4));
    let token = format!("{body}{:08x}", crc32fast::hash(body.as_bytes()));
    let text = edit::text(&[token, body], choices);
    if let Ok(token) = ApiToken::parse(&text) {
        assert_eq!(token.expose(), text);
        assert!(ApiToken::is_like(&text));
        assert!(token.has_hash(&token.hash()));
        assert!(!format!("{token:?}").contains(&text[20..]), "{token:?}");
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).expect("a time")
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with one key, and the verifier of its tokens.
struct Issuer {
    key: Ed25519KeyPair,
    verifier: Verifier,
    runtime: tokio::runtime::Runtime,
}

impl Issuer {
    fn new() -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let x = base64(key.public_key());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig", "x": x}]});
        let mut settings = IssuerSettings::github(ISSUER, AUDIENCE);
        settings.kind = PrincipalKind::Workload;
        settings.keys = KeySource::Fixed(keys.to_string());
        settings.claims.push("kubernetes.io/namespace".to_owned());
        let verifier = Verifier::new(vec![settings], now).expect("settings");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { key, verifier, runtime }
    }
}

thread_local! {
    static KNOWN: Issuer = Issuer::new();
}

/// Verifies tokens. Only one that the issuer signed is accepted, and of that only its claims.
pub(crate) fn issuer_token(choices: &mut Choices<'_>) {
    let header = edit::document(&[json!({"alg": "EdDSA", "kid": "a", "typ": "JWT"})], choices);
    let claims = edit::document(
        &[json!({
            "iss": ISSUER, "sub": "repo:shop/web", "aud": [AUDIENCE, "other"], "exp": NOW + 300, "nbf": NOW - 5,
            "iat": NOW - 5, "repository": "shop/web", "kubernetes.io": {"namespace": "shop"}, "run_id": 7
        })],
        choices,
    );
    let text = format!("{}.{}", base64(header), base64(&claims));
    KNOWN.with(|issuer| {
        let signature = issuer.key.sign(text.as_bytes());
        let signed = format!("{text}.{}", base64(signature));
        if let Ok(principal) = issuer.runtime.block_on(issuer.verifier.verify(&signed)) {
            assert!(signed.len() <= MAX_TOKEN_BYTES);
            let claims: Value = serde_json::from_slice(&claims).expect("accepted claims are JSON");
            assert_eq!(claims["iss"], ISSUER);
            assert_eq!(claims["sub"], principal.subject.as_str());
        }
        let changed = edit::text(&[&signed], choices);
        if changed != signed {
            let accepted = issuer.runtime.block_on(issuer.verifier.verify(&changed));
            assert!(accepted.is_err(), "accepted a changed token {changed}: {accepted:?}");
        }
    });
}
