//! Authentication of deliveries: HMAC-SHA-256 over the bytes of the body, Standard Webhooks, and tokens.
//!
//! Every comparison with a secret, or with what is computed from one, takes the same time for all inputs of a length.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::request::Request;
use super::secret::Secret;

/// Maximum difference between the time of a signature and now, in both directions.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Prefix of a signing token of Standard Webhooks.
const SIGNING_PREFIX: &[u8] = b"whsec_";

/// Reason why a delivery is not authentic. Repeats neither the secret nor what the sender should have sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unauthentic {
    /// The header that authenticates the delivery is missing, or repeated with different values.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The header has another form than it should.
    #[error("the header {header} is malformed; expected {expected}")]
    Malformed {
        /// The name of the header.
        header: &'static str,
        /// The expected form.
        expected: &'static str,
    },
    /// No secret of the webhook gives the signature.
    #[error("the signature in {0} is wrong: compare the secret of the sender with that of this webhook")]
    WrongSignature(&'static str),
    /// The token is not a secret of the webhook.
    #[error("the token in {0} is wrong: compare the secret of the sender with that of this webhook")]
    WrongToken(&'static str),
    /// The signature was made too long ago, or in the future.
    #[error("the signature is {seconds} s away from this service's clock; at most 300 s are allowed")]
    Expired {
        /// Age of the signature in seconds; negative for one in the future.
        seconds: i64,
    },
    /// The webhook has no secret: its settings translate only.
    #[error("this webhook has no secret")]
    NoSecret,
}

/// Verifies a header `NAME: sha256=…` with the HMAC-SHA-256 of the body.
pub(super) fn verify_hmac(
    header: &'static str,
    secrets: &[Secret],
    request: &Request<'_>,
) -> Result<(), Unauthentic> {
    let value = request.header(header).ok_or(Unauthentic::Missing(header))?;
    let malformed = Unauthentic::Malformed { header, expected: "sha256= and 64 hexadecimal digits" };
    let digits = value.strip_prefix("sha256=").ok_or_else(|| malformed.clone())?;
    let signature = hex::decode(digits).map_err(|_| malformed.clone())?;
    if signature.len() != 32 {
        return Err(malformed);
    }
    let is_signed = secrets.iter().any(|secret| is_signature(secret.bytes(), &[request.body()], &signature));
    if is_signed { Ok(()) } else { Err(Unauthentic::WrongSignature(header)) }
}

/// Verifies `Authorization: Bearer …`.
pub(super) fn verify_bearer(secrets: &[Secret], request: &Request<'_>) -> Result<(), Unauthentic> {
    const HEADER: &str = "Authorization";
    let value = request.header(HEADER).ok_or(Unauthentic::Missing(HEADER))?;
    let malformed = Unauthentic::Malformed { header: HEADER, expected: "Bearer and the token" };
    let (scheme, token) = value.split_once(' ').ok_or_else(|| malformed.clone())?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed);
    }
    if is_token(secrets, token.trim()) { Ok(()) } else { Err(Unauthentic::WrongToken(HEADER)) }
}

/// Verifies GitLab's secret token or signature. A signing token never counts as a secret token, so that a request
/// without a signature is not accepted in place of a signed one.
pub(super) fn verify_gitlab(
    secrets: &[Secret],
    request: &Request<'_>,
    now: DateTime<Utc>,
) -> Result<(), Unauthentic> {
    const HEADER: &str = "X-Gitlab-Token";
    let (signing, tokens): (Vec<_>, Vec<_>) =
        secrets.iter().cloned().partition(|secret| secret.bytes().starts_with(SIGNING_PREFIX));
    if !signing.is_empty() && (tokens.is_empty() || request.header("webhook-signature").is_some()) {
        return verify_standard(&signing, request, now);
    }
    let token = request.header(HEADER).ok_or(Unauthentic::Missing(HEADER))?;
    if is_token(&tokens, token) { Ok(()) } else { Err(Unauthentic::WrongToken(HEADER)) }
}

/// Verifies the signature of Standard Webhooks.
pub(super) fn verify_standard(
    secrets: &[Secret],
    request: &Request<'_>,
    now: DateTime<Utc>,
) -> Result<(), Unauthentic> {
    const ID: &str = "webhook-id";
    const TIMESTAMP: &str = "webhook-timestamp";
    const SIGNATURE: &str = "webhook-signature";
    let [id, timestamp, signatures] = [ID, TIMESTAMP, SIGNATURE].map(|name| request.header(name).ok_or(name));
    let missing = Unauthentic::Missing;
    let (id, timestamp, signatures) =
        (id.map_err(missing)?, timestamp.map_err(missing)?, signatures.map_err(missing)?);
    let signed_at = timestamp.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let signed_at =
        signed_at.ok_or(Unauthentic::Malformed { header: TIMESTAMP, expected: "seconds since 1970" })?;
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", request.body()];
    let candidates = signatures.split_whitespace().filter_map(|entry| entry.strip_prefix("v1,"));
    let candidates: Vec<_> = candidates.filter_map(|text| STANDARD.decode(text).ok()).collect();
    if candidates.is_empty() {
        return Err(Unauthentic::Malformed { header: SIGNATURE, expected: "v1, and Base64" });
    }
    let mut keys = secrets.iter().filter_map(|secret| signing_key(secret, true).flatten());
    let is_signed = keys.any(|key| candidates.iter().any(|it| is_signature(&key, &content, it)));
    if !is_signed {
        return Err(Unauthentic::WrongSignature(SIGNATURE));
    }
    let age = now - signed_at;
    if age.abs() > TOLERANCE { Err(Unauthentic::Expired { seconds: age.num_seconds() }) } else { Ok(()) }
}

/// Returns the key of a signing token, or `Some(None)` if it is malformed; `None` if the secret is no signing token. A
/// secret without the prefix is its own key where only signatures are accepted.
pub(super) fn signing_key(secret: &Secret, signatures_only: bool) -> Option<Option<Vec<u8>>> {
    match secret.bytes().strip_prefix(SIGNING_PREFIX) {
        Some(text) => {
            let key = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok();
            Some(key.filter(|key| key.len() >= Secret::MIN_BYTES))
        }
        None => signatures_only.then(|| Some(secret.bytes().to_vec())),
    }
}

fn is_signature(key: &[u8], content: &[&[u8]], signature: &[u8]) -> bool {
    // A key of HMAC may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    content.iter().for_each(|part| mac.update(part));
    mac.verify_slice(signature).is_ok()
}

fn is_token(secrets: &[Secret], token: &str) -> bool {
    secrets.iter().any(|secret| bool::from(secret.bytes().ct_eq(token.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::parse(text.as_bytes()).expect("a secret")).collect()
    }

    fn signature(key: &[u8], content: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
        mac.update(content);
        mac.finalize().into_bytes().to_vec()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_785_585_600, 0).expect("a time")
    }

    const HEADER: &str = "X-Hub-Signature-256";

    #[test]
    fn githubs_own_example_of_a_signature_is_verified() {
        let secrets = secrets(&["It's a Secret to Everybody"]);
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let request = Request::new([(HEADER, good)], b"Hello, World!");
        assert_eq!(verify_hmac(HEADER, &secrets, &request), Ok(()));
    }

    #[test]
    fn a_body_is_signed_with_one_of_two_secrets() {
        let both = secrets(&["the former secret", "the present secret"]);
        for key in ["the former secret", "the present secret"] {
            let value = format!("sha256={}", hex::encode(signature(key.as_bytes(), b"{}")));
            let request = Request::new([(HEADER, value.as_str())], b"{}");
            assert_eq!(verify_hmac(HEADER, &both, &request), Ok(()));
            let changed = Request::new([(HEADER, value.as_str())], b"{} ");
            assert_eq!(verify_hmac(HEADER, &both, &changed), Err(Unauthentic::WrongSignature(HEADER)));
        }
    }

    #[test]
    fn a_missing_or_malformed_signature_is_rejected() {
        let secrets = secrets(&["0123456789abcdef"]);
        let verify = |headers: &[(&str, &str)]| {
            verify_hmac(HEADER, &secrets, &Request::new(headers.iter().copied(), b"{}"))
        };
        assert_eq!(verify(&[]), Err(Unauthentic::Missing(HEADER)));
        assert_eq!(verify(&[("X-Hub-Signature", "sha1=00")]), Err(Unauthentic::Missing(HEADER)));
        for value in ["", "sha256=", "sha256=zz", "sha256=00", "sha1=00", "é"] {
            let error = verify(&[(HEADER, value)]).expect_err(value);
            assert!(matches!(error, Unauthentic::Malformed { .. }), "{value}: {error}");
        }
        assert_eq!(verify(&[(HEADER, "a"), (HEADER, "b")]), Err(Unauthentic::Missing(HEADER)));
    }

    #[test]
    fn a_bearer_token_must_be_equal() {
        let secrets = secrets(&["0123456789abcdef"]);
        let verify = |value| verify_bearer(&secrets, &Request::new([("authorization", value)], b""));
        assert_eq!(verify("Bearer 0123456789abcdef"), Ok(()));
        assert_eq!(verify("bearer  0123456789abcdef"), Ok(()));
        for value in ["Bearer 0123456789abcdeg", "Bearer 0123456789abcdef0", "Bearer "] {
            assert!(verify(value).is_err(), "{value}");
        }
        assert!(matches!(verify("Basic 0123456789abcdef"), Err(Unauthentic::Malformed { .. })));
    }

    fn standard<'a>(id: &'a str, at: &'a str, signature: &'a str) -> Request<'a> {
        Request::new(
            [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature)],
            b"{\"a\":1}",
        )
    }

    fn signed(key: &[u8], id: &str, at: &str) -> String {
        let content = [id.as_bytes(), b".", at.as_bytes(), b".", b"{\"a\":1}"].concat();
        format!("v1,{}", STANDARD.encode(signature(key, &content)))
    }

    #[test]
    fn a_standard_webhook_is_verified_with_its_id_and_time() {
        let token = format!("whsec_{}", STANDARD.encode([7; 32]));
        let secrets = secrets(&[&token]);
        let at = now().timestamp().to_string();
        let good = signed(&[7; 32], "msg_1", &at);
        let verify = |request: &Request<'_>| verify_standard(&secrets, request, now());
        assert_eq!(verify(&standard("msg_1", &at, &good)), Ok(()));
        let several = format!("v1a,xyz v1,AAAA {good}");
        assert_eq!(verify(&standard("msg_1", &at, &several)), Ok(()));
        for (id, at) in [("msg_2", at.as_str()), ("msg_1", "1785585601")] {
            assert!(
                matches!(verify(&standard(id, at, &good)), Err(Unauthentic::WrongSignature(_))),
                "{id} {at}"
            );
        }
        assert!(matches!(verify(&standard("msg_1", &at, "v2,AAAA")), Err(Unauthentic::Malformed { .. })));
        assert!(matches!(verify(&standard("msg_1", "soon", &good)), Err(Unauthentic::Malformed { .. })));
    }

    #[test]
    fn an_old_signature_is_rejected() {
        let secrets = secrets(&["0123456789abcdef"]);
        for (offset, is_accepted) in [(-301, false), (-300, true), (300, true), (301, false)] {
            let at = (now().timestamp() + offset).to_string();
            let good = signed(b"0123456789abcdef", "msg_1", &at);
            let result = verify_standard(&secrets, &standard("msg_1", &at, &good), now());
            assert_eq!(result.is_ok(), is_accepted, "{offset}: {result:?}");
        }
    }

    #[test]
    fn gitlab_is_authenticated_by_its_token_or_its_signature() {
        let signing = format!("whsec_{}", STANDARD.encode([7; 32]));
        let at = now().timestamp().to_string();
        let good = signed(&[7; 32], "msg_1", &at);
        let by_token = |value| Request::new([("X-Gitlab-Token", value)], b"{\"a\":1}");
        let verify = |texts: &[&str], request: &Request<'_>| verify_gitlab(&secrets(texts), request, now());
        assert_eq!(verify(&["0123456789abcdef"], &by_token("0123456789abcdef")), Ok(()));
        assert!(verify(&["0123456789abcdef"], &by_token("0123456789abcdeg")).is_err());
        assert_eq!(verify(&[&signing], &standard("msg_1", &at, &good)), Ok(()));
        let both = [signing.as_str(), "0123456789abcdef"];
        assert_eq!(verify(&both, &standard("msg_1", &at, &good)), Ok(()));
        assert_eq!(verify(&both, &by_token("0123456789abcdef")), Ok(()));
    }

    #[test]
    fn a_signing_token_is_never_accepted_as_a_plain_token() {
        let signing = format!("whsec_{}", STANDARD.encode([7; 32]));
        let request = Request::new([("X-Gitlab-Token", signing.as_str())], b"{}");
        for texts in [vec![signing.as_str()], vec![signing.as_str(), "0123456789abcdef"]] {
            assert!(verify_gitlab(&secrets(&texts), &request, now()).is_err());
        }
    }

    #[test]
    fn errors_do_not_reveal_the_secret() {
        let secrets = secrets(&["0123456789abcdef"]);
        let request = Request::new([("Authorization", "Bearer fedcba9876543210")], b"");
        let error = verify_bearer(&secrets, &request).expect_err("the wrong token").to_string();
        assert!(!error.contains("0123456789abcdef") && !error.contains("fedcba"), "{error}");
    }
}
