//! Tokens and grants: events of the tenant `_admin`.

use chrono::{DateTime, Utc};

use crate::access::{SecretHash, TokenId};
use crate::{PrincipalKind, ShortText};

/// Creation of an API token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCreation {
    /// Identifier of the token.
    pub token: TokenId,
    /// Type of its owner. Never [`PrincipalKind::Local`].
    pub kind: PrincipalKind,
    /// Name of its owner, who is the actor of what is sent with it.
    pub name: ShortText,
    /// Hash of the token.
    pub hash: SecretHash,
    /// Time at which it ends; `None`: it ends only when it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Replacement of the secret of an API token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRotation {
    /// Identifier of the token.
    pub token: TokenId,
    /// Hash of the token with the new secret.
    pub hash: SecretHash,
    /// Time until which the secret before is accepted, too.
    pub previous_until: DateTime<Utc>,
}
