//! Tokens of OpenID Connect issuers.
