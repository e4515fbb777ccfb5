//! Reasons why the settings of a webhook are invalid.

/// Reason why the settings of a webhook are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// There is no secret, or there are more than two.
    #[error("a webhook has one secret, or two while they are rotated; this one has {0}")]
    SecretCount(usize),
    /// A signing token is not `whsec_` and Base64.
    #[error("a signing token is whsec_ followed by Base64 of at least 16 bytes")]
    SigningToken,
    /// The way of authentication is that of another tool.
    #[error("{kind} has its own authentication; remove authentication")]
    Authentication {
        /// The kind of the webhook.
        kind: &'static str,
    },
    /// A setting has no effect on webhooks of the kind.
    #[error("{setting} has no effect on the kind {kind}; it belongs to {owners}: remove it")]
    WithoutEffect {
        /// The setting.
        setting: &'static str,
        /// The kind of the webhook.
        kind: &'static str,
        /// The kinds on which it has an effect, for people.
        owners: String,
    },
    /// A webhook of the kind `generic` has no mapping.
    #[error("the kind generic requires mapping")]
    MissingMapping,
    /// The mapping is invalid.
    #[error("mapping: {0}")]
    Rule(String),
    /// A check is invalid.
    #[error("checks[{index}]: {detail}")]
    Check {
        /// Number of the check, from 0.
        index: usize,
        /// The fault.
        detail: String,
    },
    /// A name of the ledger is invalid.
    #[error("{member}: {detail}")]
    Name {
        /// The member of the settings.
        member: String,
        /// The fault.
        detail: String,
    },
}
