//! Reasons why a token is refused.

/// A token is not accepted. The messages contain nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// The text is longer than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    #[error("the token is too large; at most 16 KiB are allowed")]
    TooLarge,
    /// The text is not a signed JSON Web Token in its compact form.
    #[error("the text is not a signed JSON Web Token")]
    NotAToken,
    /// A parameter of the header is not allowed, or has a value that is not.
    #[error("the header parameter {0} of the token is not allowed or invalid")]
    Header(&'static str),
    /// The algorithm is not allowed, or the key is for another one.
    #[error("the signature algorithm of the token is not allowed, or does not fit the key")]
    Algorithm,
    /// No settings exist for the issuer.
    #[error("the issuer of the token is not configured; add it to access.issuers")]
    UnknownIssuer,
    /// The issuer has no such key, or the token names none although the issuer has several.
    #[error("the issuer does not publish the key of the token")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the token is invalid")]
    Signature,
    /// The token is for another audience.
    #[error("the token is for another audience; request one for the audience in the settings of its issuer")]
    Audience,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is not valid yet, or was issued in the future.
    #[error("the token is not valid yet, or was issued in the future; check the clocks")]
    NotYetValid,
    /// The token expires too late.
    #[error("the token expires more than 24 hours from now; request one with a shorter lifetime")]
    LongLived,
    /// A required claim is missing.
    #[error("the token has no claim {0}")]
    MissingClaim(Box<str>),
    /// A required claim has another type, or a value that is not allowed.
    #[error("the claim {0} of the token is invalid")]
    InvalidClaim(Box<str>),
    /// The keys of the issuer could not be fetched. Temporary.
    #[error("the keys of the issuer are not available; retry later")]
    KeysUnavailable,
}

impl OidcError {
    /// Returns true if the same token may be accepted later: answer 503 with `Retry-After`, otherwise 401.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::KeysUnavailable)
    }
}
