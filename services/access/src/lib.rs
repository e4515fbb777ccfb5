//! Authentication and authorisation: who may do what.
//!
//! [`decide`] is the one decision: a pure function of a principal, the grants and a [`Question`]. Nothing is allowed
//! without a grant. [`ApiToken`] is the form of the ledger's own tokens, of which only hashes are stored.
//! [`Directory`] is the state of tokens, grants and tenants, folded from the events of the tenant `_admin`. [`oidc`] verifies the
//! tokens of OpenID Connect issuers, and signs people in with them. [`SessionSecret`] is the secret in the cookie of a
//! session.

mod decision;
mod directory;
pub mod oidc;
mod session_secret;
mod token;

pub use decision::{Denial, Mismatch, Question, Scope, decide, explain};
pub use directory::{Directory, TenantState, TokenError, TokenState};
pub use session_secret::SessionSecret;
pub use token::{ApiToken, InvalidToken};
