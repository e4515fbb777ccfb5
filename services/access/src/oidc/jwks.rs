//! Public keys of an issuer: JSON Web Key Sets.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::error::OidcError;
use super::{strict, token};

/// Maximum number of keys in a set.
pub(super) const MAX_KEYS: usize = 100;
/// Minimum number of bits of an RSA modulus.
const MIN_RSA_BITS: usize = 2048;
/// Maximum number of bits of an RSA modulus: a longer one takes too long to verify.
const MAX_RSA_BITS: usize = 8192;
/// Maximum number of bytes of an RSA exponent.
const MAX_RSA_EXPONENT_BYTES: usize = 4;

/// Algorithms of the keys of type RSA.
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Algorithms of the keys on the curve P-256.
const P256: &[Algorithm] = &[Algorithm::ES256];
/// Algorithms of the keys on the curve P-384.
const P384: &[Algorithm] = &[Algorithm::ES384];
/// Algorithms of the keys on the curve Ed25519.
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// A public key.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<Box<str>>,
    /// Algorithms that the type of the key, and its parameter `alg`, allow.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// Reads a key; `None` if it is not usable for signatures of tokens.
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let number = |name: &str| text(name).and_then(strict::decode);
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") || !allows_verify(jwk) {
            return None;
        }
        // A published private key is known to everyone.
        if jwk.contains_key("d") || jwk.contains_key("k") {
            return None;
        }
        let (fitting, key) = match (text("kty")?, text("crv")) {
            ("RSA", _) => (RSA, rsa(&number("n")?, &number("e")?)?),
            ("EC", Some("P-256")) => (P256, point(&number("x")?, &number("y")?, 32)?),
            ("EC", Some("P-384")) => (P384, point(&number("x")?, &number("y")?, 48)?),
            ("OKP", Some("Ed25519")) => {
                let x = number("x").filter(|x| x.len() == 32)?;
                (ED25519, DecodingKey::from_ed_der(&x))
            }
            _ => return None,
        };
        let algorithms = match jwk.get("alg") {
            None => fitting.to_vec(),
            Some(name) => vec![token::algorithm(name.as_str()?).filter(|only| fitting.contains(only))?],
        };
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.into()),
        };
        Some(Self { id, algorithms, key })
    }

    /// Returns true if the key is for an algorithm.
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Verifies a signature, which is in base64url.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        signed: &str,
        signature: &str,
    ) -> Result<(), OidcError> {
        if !self.fits(algorithm) {
            return Err(OidcError::Algorithm);
        }
        match jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.key, algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(OidcError::Signature),
        }
    }
}

/// Returns true if a key may verify signatures.
fn allows_verify(jwk: &Map<String, Value>) -> bool {
    match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    }
}

/// Returns a key of type RSA; `None` if it is too weak or too long.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<DecodingKey> {
    let modulus = without_zeros(modulus);
    let exponent = without_zeros(exponent);
    let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
    let is_exponent = match exponent {
        [] | [1] => false,
        _ => exponent.len() <= MAX_RSA_EXPONENT_BYTES && exponent.last()? % 2 == 1,
    };
    let is_usable = (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) && modulus.last()? % 2 == 1 && is_exponent;
    is_usable.then(|| DecodingKey::from_rsa_raw_components(modulus, exponent))
}

/// Some issuers write the leading zero of a signed number.
fn without_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    &number[start..]
}

/// Returns a key on an elliptic curve with coordinates of `length` bytes. The verification refuses a point that is
/// not on the curve.
fn point(x: &[u8], y: &[u8], length: usize) -> Option<DecodingKey> {
    let is_point = x.len() == length && y.len() == length;
    is_point.then(|| DecodingKey::from_ec_der(&[&[4], x, y].concat()))
}

/// A text is not a JSON Web Key Set, or has too many keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a JSON Web Key Set of at most {} keys", MAX_KEYS)]
pub(super) struct NotAKeySet;

/// The usable keys of an issuer.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Key>);

/// Result of the search for a key.
#[derive(Debug)]
pub(super) enum Search<'k> {
    /// The key.
    Found(&'k Key),
    /// The set has the id, but the key is for other algorithms.
    WrongAlgorithm,
    /// The token names no key, and several are possible.
    Ambiguous,
    /// The set has no such key.
    Absent,
}

impl KeySet {
    /// Parses a set and leaves out the keys that are not usable.
    pub(super) fn parse(text: &[u8]) -> Result<Self, NotAKeySet> {
        let set = strict::object(text).ok_or(NotAKeySet)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(NotAKeySet)?;
        if keys.len() > MAX_KEYS {
            return Err(NotAKeySet);
        }
        Ok(Self(keys.iter().filter_map(Value::as_object).filter_map(Key::read).collect()))
    }

    /// Returns true if no key is usable.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of usable keys.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the key of a token. A token without an id has one only if a single key fits its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Search<'_> {
        let Some(id) = id else {
            let mut fitting = self.0.iter().filter(|key| key.fits(algorithm));
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Search::Found(key),
                (None, _) => Search::Absent,
                (Some(_), Some(_)) => Search::Ambiguous,
            };
        };
        let mut named = self.0.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
        if named.peek().is_none() {
            return Search::Absent;
        }
        named.find(|key| key.fits(algorithm)).map_or(Search::WrongAlgorithm, Search::Found)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    fn number(bytes: usize, first: u8) -> String {
        let mut number = vec![0xff; bytes];
        number[0] = first;
        URL_SAFE_NO_PAD.encode(number)
    }

    fn rsa_key() -> Value {
        json!({"kty": "RSA", "kid": "a", "n": number(256, 0x80), "e": "AQAB"})
    }

    fn ec(curve: &str, x: usize, y: usize) -> Value {
        json!({"kty": "EC", "crv": curve, "x": number(x, 1), "y": number(y, 1)})
    }

    fn usable(keys: &[Value]) -> usize {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).expect("a set").len()
    }

    fn changed(member: &str, value: Value) -> Value {
        let mut key = rsa_key();
        key[member] = value;
        key
    }

    #[test]
    fn keys_for_signatures_are_usable() {
        let ec = |curve: &str, bytes: usize| ec(curve, bytes, bytes);
        for key in [
            rsa_key(),
            changed("use", json!("sig")),
            changed("alg", json!("PS384")),
            changed("key_ops", json!(["verify"])),
            changed("n", json!(number(257, 0))),
            changed("n", json!(number(1024, 0xff))),
            changed("e", json!("Aw")),
            ec("P-256", 32),
            ec("P-384", 48),
            json!({"kty": "OKP", "crv": "Ed25519", "x": number(32, 1)}),
        ] {
            assert_eq!(usable(std::slice::from_ref(&key)), 1, "{key}");
        }
    }

    #[test]
    fn other_keys_are_left_out() {
        for key in [
            changed("use", json!("enc")),
            changed("use", json!(1)),
            changed("alg", json!("ES256")),
            changed("alg", json!("HS256")),
            changed("alg", json!("RSA-OAEP")),
            changed("alg", json!("rs256")),
            changed("alg", json!(null)),
            changed("key_ops", json!(["encrypt"])),
            changed("key_ops", json!("verify")),
            changed("kid", json!(7)),
            changed("kty", json!("rsa")),
            changed("kty", json!("oct")),
            changed("n", json!(number(255, 0xff))),
            changed("n", json!(number(256, 0x7f))),
            changed("n", json!(number(1025, 1))),
            changed("n", json!("")),
            changed("n", json!(7)),
            changed("e", json!("AQ")),
            changed("e", json!("AA")),
            changed("e", json!("")),
            changed("e", json!("AQAA")),
            changed("e", json!("AQAAAAE")),
            changed("d", json!("AQ")),
            json!({"kty": "oct", "k": number(32, 1)}),
            ec("P-256", 31, 32),
            ec("P-256", 32, 33),
            ec("P-384", 32, 32),
            ec("P-521", 66, 66),
            ec("secp256k1", 32, 32),
            json!({"kty": "OKP", "crv": "Ed448", "x": number(57, 1)}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": number(31, 1)}),
            json!({"kty": "OKP", "crv": "X25519", "x": number(32, 1)}),
            json!("a"),
            json!({}),
        ] {
            assert_eq!(usable(std::slice::from_ref(&key)), 0, "{key}");
        }
    }

    #[test]
    fn a_set_has_at_most_a_hundred_keys() {
        assert_eq!(usable(&vec![rsa_key(); MAX_KEYS]), MAX_KEYS);
        let many = json!({"keys": vec![rsa_key(); MAX_KEYS + 1]}).to_string();
        for text in [many.as_str(), "", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(KeySet::parse(text.as_bytes()).map(|set| set.len()), Err(NotAKeySet), "{text:.40}");
        }
        assert_eq!(usable(&[]), 0);
    }

    #[test]
    fn a_token_without_a_key_id_needs_a_single_key_of_its_algorithm() {
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": number(32, 1)});
        let set =
            |keys: &[Value]| KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).expect("a set");
        let one = set(&[rsa_key(), ed.clone()]);
        assert!(matches!(one.find(None, Algorithm::RS256), Search::Found(_)));
        assert!(matches!(one.find(None, Algorithm::ES256), Search::Absent));
        let two = set(&[rsa_key(), changed("kid", json!("b"))]);
        assert!(matches!(two.find(None, Algorithm::RS256), Search::Ambiguous));
        assert!(matches!(two.find(Some("b"), Algorithm::RS256), Search::Found(_)));
        assert!(matches!(two.find(Some("b"), Algorithm::EdDSA), Search::WrongAlgorithm));
        assert!(matches!(two.find(Some(""), Algorithm::RS256), Search::Absent));
        let same_id = set(&[rsa_key(), ed]);
        assert!(matches!(same_id.find(Some("a"), Algorithm::EdDSA), Search::Found(_)));
    }
}
