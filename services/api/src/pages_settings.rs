//! Settings of the pages for browsers, with their sessions and sign-ins.

use ledger_access::oidc::SignIn;

use crate::access::sessions::Sessions;

/// The pages of a service that has them.
pub struct Pages {
    /// Origin of the service for browsers, such as `https://ledger.example`; `None`: no one signs in with an issuer.
    pub(crate) url: Option<String>,
    /// Sessions of browsers; `None` without authentication.
    pub(crate) sessions: Option<Sessions>,
    /// Issuers with which people sign in, in the order of the settings.
    pub(crate) sign_ins: Vec<SignIn>,
}

impl Pages {
    /// Creates the pages. `url` is the origin of the service for browsers.
    #[must_use]
    pub fn new(url: Option<String>, sessions: Option<Sessions>, sign_ins: Vec<SignIn>) -> Self {
        Self { url, sessions, sign_ins }
    }

    /// Path to which issuers send browsers back.
    pub const CALLBACK: &str = crate::page_paths::CALLBACK;

    /// Returns the sign-in with an issuer; `None` if people do not sign in with it.
    pub(crate) fn sign_in_with(&self, issuer: &str) -> Option<&SignIn> {
        self.sign_ins.iter().find(|sign_in| sign_in.issuer() == issuer)
    }

    /// Returns true if people sign in with this issuer.
    pub(crate) fn has_issuer(&self, issuer: &str) -> bool {
        self.sign_in_with(issuer).is_some()
    }
}
