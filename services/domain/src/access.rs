//! Tokens and grants as values: what events of the tenant `_admin` state. The crate `access` decides with them.

mod grant;
mod pattern;
mod token;
mod verb;

pub use grant::{Grant, GrantId, Grantee};
pub use pattern::{InvalidPattern, Pattern};
pub use token::{InvalidTokenPart, SecretHash, TokenId};
pub use verb::{UnknownVerb, Verb, VerbSet};
