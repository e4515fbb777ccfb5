//! Signatures of Standard Webhooks for the webhooks that the ledger sends: the inverse of their verification.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::authenticity::signing_key;
use super::secret::Secret;

/// A secret that signs: `whsec_` and a key of at least 24 bytes in Base64. No message and no log can print it.
#[derive(Clone)]
pub struct SigningSecret(Box<[u8]>);

/// A text is not a signing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a signing secret is whsec_ and at least {} random bytes in Base64: whsec_$(openssl rand -base64 32)",
    SigningSecret::MIN_BYTES
)]
pub struct SigningSecretError;

impl SigningSecret {
    /// Minimum length of the key in bytes, as Standard Webhooks demands.
    pub const MIN_BYTES: usize = 24;

    /// Creates a secret from the content of its file. One line end after it is not part of the secret.
    ///
    /// # Errors
    /// The content has another form, or its key is too short.
    pub fn parse(content: &[u8]) -> Result<Self, SigningSecretError> {
        let secret = Secret::parse(content).map_err(|_| SigningSecretError)?;
        let key = signing_key(&secret, false).flatten().filter(|key| key.len() >= Self::MIN_BYTES);
        key.map(|key| Self(key.into())).ok_or(SigningSecretError)
    }

    fn signature(&self, content: &[&[u8]]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of HMAC may have any length");
        content.iter().for_each(|part| mac.update(part));
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// Returns the value of the header `webhook-signature`: a signature with each secret, so that a receiver may know either
/// of two while one replaces the other. `timestamp` is in seconds since 1970, and has a header of its own.
#[must_use]
pub fn sign(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    let signatures: Vec<String> = secrets.iter().map(|secret| secret.signature(&content)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::hooks::authenticity::verify_standard;
    use crate::hooks::request::Request;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::parse(text.as_bytes()).expect("a signing secret")
    }

    #[test]
    fn the_example_of_standard_webhooks_has_its_signature() {
        let signature = sign(&[secret(SECRET)], ID, 1_614_265_330, BODY);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_receiver_with_either_of_two_secrets_verifies_the_signature() {
        let signature = sign(&[secret(SECRET), secret(OTHER)], ID, 1_614_265_330, BODY);
        let now = DateTime::from_timestamp(1_614_265_330, 0).expect("a time");
        for known in [SECRET, OTHER] {
            let known = [Secret::parse(known.as_bytes()).expect("a secret")];
            let headers = [
                ("webhook-id", ID),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", signature.as_str()),
            ];
            assert_eq!(verify_standard(&known, &Request::new(headers, BODY), now), Ok(()));
            let changed = Request::new(headers, b"{}");
            assert!(verify_standard(&known, &changed, now).is_err());
        }
    }

    #[test]
    fn a_secret_of_another_form_is_rejected_and_never_printed() {
        for text in
            ["", "whsec_", "0123456789abcdef0123456789abcdef", "whsec_AAAA", "whsec_!!!!", "WHSEC_AAAA"]
        {
            assert_eq!(SigningSecret::parse(text.as_bytes()).err(), Some(SigningSecretError), "{text}");
        }
        assert!(SigningSecret::parse(format!("{SECRET}\n").as_bytes()).is_ok());
        assert_eq!(format!("{:?}", secret(SECRET)), "SigningSecret(…)");
    }
}
