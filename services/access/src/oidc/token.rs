//! The parts of a token whose signature has not been verified.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::error::OidcError;
use super::strict;

/// Allowed algorithms by name. All are asymmetric: with a symmetric one, the public key would be the secret.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Parameters of a header that bring their own key, change what is signed, or must be understood.
const REFUSED: [&str; 6] = ["crit", "b64", "jku", "jwk", "x5u", "x5c"];

/// Types of an ID token or an access token. They are compared without regard to case.
const TYPES: [&str; 4] = ["JWT", "at+jwt", "application/jwt", "application/at+jwt"];

/// Returns the allowed algorithm with this name.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    ALGORITHMS.into_iter().find(|(allowed, _)| *allowed == name).map(|(_, algorithm)| algorithm)
}

/// A token whose form is correct. Its claims are those of an unknown sender until [`Key`](super::jwks::Key) has
/// verified the signature.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    /// Algorithm that the token names.
    pub(super) algorithm: Algorithm,
    /// Id of the key that the token names.
    pub(super) key_id: Option<Box<str>>,
    /// Signed text: the header, a dot and the claims, as they were sent.
    pub(super) signed: &'t str,
    /// Signature in base64url.
    pub(super) signature: &'t str,
    /// Claims.
    pub(super) claims: Map<String, Value>,
}

impl<'t> Unverified<'t> {
    /// Parses a token.
    pub(super) fn parse(token: &'t str) -> Result<Self, OidcError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(OidcError::NotAToken)?;
        let (header, claims) = signed.split_once('.').ok_or(OidcError::NotAToken)?;
        if claims.contains('.') {
            return Err(OidcError::NotAToken);
        }
        let object = |part| strict::decode(part).and_then(|part| strict::object(&part));
        let (algorithm, key_id) = check_header(&object(header).ok_or(OidcError::NotAToken)?)?;
        let claims = object(claims).ok_or(OidcError::NotAToken)?;
        if strict::decode(signature).is_none_or(|signature| signature.is_empty()) {
            return Err(OidcError::NotAToken);
        }
        Ok(Self { algorithm, key_id, signed, signature, claims })
    }
}

/// Checks a header. Returns the algorithm and the id of the key.
fn check_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<Box<str>>), OidcError> {
    if let Some(refused) = REFUSED.into_iter().find(|name| header.contains_key(*name)) {
        return Err(OidcError::Header(refused));
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) if TYPES.iter().any(|allowed| allowed.eq_ignore_ascii_case(kind)) => {}
        Some(_) => return Err(OidcError::Header("typ")),
    }
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.as_str().into()),
        Some(_) => return Err(OidcError::Header("kid")),
    };
    let name = header.get("alg").and_then(Value::as_str).ok_or(OidcError::Algorithm)?;
    Ok((algorithm(name).ok_or(OidcError::Algorithm)?, key_id))
}
