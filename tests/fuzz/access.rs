//! Tokens: the ledger's own, and those of issuers, with their key sets.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ledger_access::oidc::{IssuerSettings, KeySource, MAX_TOKEN_BYTES, Verifier};
use ledger_access::{ApiToken, InvalidToken};
use ledger_domain::PrincipalKind;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::edit;

const NOW: i64 = 1_785_700_000;
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "release-ledger";

/// Digits of tokens.
const DIGITS: &[u8] = b"0123456789abcdef";

/// Returns a token of the ledger with its checksum.
fn with_checksum(body: &str) -> String {
    format!("{body}{:08x}", crc32fast::hash(body.as_bytes()))
}

/// Returns a token of the ledger, always the same.
pub(crate) fn api_token_text() -> String {
    with_checksum(&format!("rl_{}_{}", "0123456789abcdef", "0123456789abcdef".repeat(4)))
}

/// Parses a token of the ledger. What is accepted is the text itself, and its secret is never shown.
pub(crate) fn api_token(choices: &mut Choices<'_>) {
    let token = api_token_text();
    let body = token[..token.len() - 8].to_owned();
    let text = edit::text(&[token, body], choices);
    if let Ok(token) = ApiToken::parse(&text) {
        assert_eq!(token.expose(), text);
        assert!(ApiToken::is_like(&text));
        assert!(token.has_hash(&token.hash()));
        assert!(!format!("{token:?}").contains(&text[20..]), "{token:?}");
    }
}

/// Mistypes a token of the ledger: another character at one place, or two characters that have changed places. No such
/// text is a token, and the checksum finds what has the right form.
pub(crate) fn mistyped_api_token(choices: &mut Choices<'_>) {
    let digits: String = (0..80).map(|_| char::from(*choices.pick(DIGITS))).collect();
    let (id, secret) = digits.split_at(16);
    let token = with_checksum(&format!("rl_{id}_{secret}"));
    let parsed = ApiToken::parse(&token).expect("a token");
    assert_eq!((parsed.expose(), parsed.id().as_str()), (&*token, id));

    let mut wrong = token.clone().into_bytes();
    let at = choices.below(wrong.len());
    if choices.one_in(4) && at > 0 {
        wrong.swap(at - 1, at);
    } else if choices.one_in(4) {
        wrong[at] = choices.byte() & 0x7f;
    } else {
        wrong[at] = *choices.pick(DIGITS);
    }
    let wrong = String::from_utf8(wrong).expect("ASCII");
    if wrong == token {
        return;
    }
    let error = ApiToken::parse(&wrong).err();
    let digits = wrong.replacen("rl_", "", 1).replacen('_', "", 1);
    let has_form = wrong.starts_with("rl_")
        && wrong.as_bytes()[19] == b'_'
        && digits.bytes().all(|byte| DIGITS.contains(&byte));
    let expected = if has_form { InvalidToken::Checksum } else { InvalidToken::Form };
    assert_eq!(error, Some(expected), "{wrong} instead of {token}");
}

/// Time of the tests' clock.
pub(crate) fn now() -> DateTime<Utc> {
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

/// Returns the only key of the issuer.
fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key")
}

/// Returns the public key of the issuer.
fn jwk(key: &Ed25519KeyPair) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig", "x": base64(key.public_key())})
}

/// Returns the header of a good token.
fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "a", "typ": "JWT"})
}

/// Returns the claims of a good token.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "repo:shop/web", "aud": [AUDIENCE, "other"], "exp": NOW + 300, "nbf": NOW - 5,
        "iat": NOW - 5, "repository": "shop/web", "kubernetes.io": {"namespace": "shop"}, "run_id": 7
    })
}

/// Returns the part of a token that is signed.
fn unsigned(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    format!("{}.{}", base64(header), base64(claims))
}

/// Returns a good token of the issuer, always the same.
pub(crate) fn signed_token() -> String {
    let text = unsigned(header().to_string(), claims().to_string());
    format!("{text}.{}", base64(key().sign(text.as_bytes())))
}

/// Returns settings of the issuer with this key set.
fn settings(keys: String) -> IssuerSettings {
    let mut settings = IssuerSettings::github(ISSUER, AUDIENCE);
    settings.kind = PrincipalKind::Workload;
    settings.keys = KeySource::Fixed(keys);
    settings.claims.push("kubernetes.io/namespace".to_owned());
    settings
}

/// Returns the verifier of the issuer's tokens.
pub(crate) fn verifier() -> Verifier {
    let keys = json!({"keys": [jwk(&key())]});
    Verifier::new(vec![settings(keys.to_string())], now).expect("settings")
}

impl Issuer {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { key: key(), verifier: verifier(), runtime }
    }
}

thread_local! {
    static KNOWN: Issuer = Issuer::new();
}

/// Verifies tokens. Only one that the issuer signed is accepted, and of that only its claims.
pub(crate) fn issuer_token(choices: &mut Choices<'_>) {
    let header = edit::document(&[header()], choices);
    let claims = edit::document(&[claims()], choices);
    let text = unsigned(header, &claims);
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

/// Returns the tag of a text by an HMAC with this key.
fn tag(key: &[u8], text: &str) -> String {
    base64(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()))
}

/// Verifies tokens without a signature, or with an HMAC whose key is public: none is accepted.
pub(crate) fn unsigned_issuer_token(choices: &mut Choices<'_>) {
    let headers = [
        json!({"alg": "none"}),
        json!({"alg": "none", "kid": "a", "typ": "JWT"}),
        json!({"alg": "None", "kid": "a"}),
        json!({"alg": "HS256", "kid": "a", "typ": "JWT"}),
        json!({"alg": "HS256"}),
        header(),
    ];
    let text =
        unsigned(edit::json(&headers, choices).to_string(), edit::json(&[claims()], choices).to_string());
    KNOWN.with(|issuer| {
        let public = jwk(&issuer.key);
        let x = public["x"].as_str().unwrap_or_default();
        let signature = match choices.below(7) {
            0 => String::new(),
            1 => tag(issuer.key.public_key().as_ref(), &text),
            2 => tag(x.as_bytes(), &text),
            3 => tag(public.to_string().as_bytes(), &text),
            4 => tag(json!({"keys": [public]}).to_string().as_bytes(), &text),
            5 => tag(&[], &text),
            _ => base64(choices.rest()),
        };
        for token in [format!("{text}.{signature}"), text.clone(), format!("{text}..{signature}")] {
            let accepted = issuer.runtime.block_on(issuer.verifier.verify(&token));
            assert!(accepted.is_err(), "accepted an unsigned token {token}: {accepted:?}");
        }
    });
}

/// Parses key sets. No set makes the verifier accept a token by an HMAC, not even with a key that the set contains.
pub(crate) fn key_set(choices: &mut Choices<'_>) {
    let secret = base64([7_u8; 32]);
    let coordinate = base64([1_u8; 32]);
    let samples = [
        json!({"keys": [jwk(&key())]}),
        json!({"keys": [
            {"kty": "RSA", "kid": "a", "use": "sig", "n": base64([0x81_u8; 256]), "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "kid": "b", "key_ops": ["verify"], "x": coordinate, "y": coordinate},
            {"kty": "oct", "kid": "c", "alg": "HS256", "k": secret},
            jwk(&key()),
        ]}),
    ];
    let keys = edit::document(&samples, choices);
    let Ok(verifier) = Verifier::new(vec![settings(String::from_utf8_lossy(&keys).into_owned())], now) else {
        return;
    };
    let id = *choices.pick(&["a", "b", "c"]);
    let text = unsigned(json!({"alg": "HS256", "kid": id}).to_string(), claims().to_string());
    KNOWN.with(|issuer| {
        for key in [[7_u8; 32].as_slice(), secret.as_bytes(), issuer.key.public_key().as_ref()] {
            let accepted = issuer.runtime.block_on(verifier.verify(&format!("{text}.{}", tag(key, &text))));
            assert!(accepted.is_err(), "accepted an HMAC: {accepted:?}");
        }
        // Without a panic: the set may have lost the key.
        let verified = issuer.runtime.block_on(verifier.verify(&signed_token()));
        assert!(verified.is_ok() || String::from_utf8_lossy(&keys) != samples[0].to_string());
    });
}
