//! A sign-in that is in progress: the content of its cookie until the issuer responds.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger_access::oidc::Attempt;

use crate::page_paths;

/// A sign-in that is in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingSignIn {
    /// Issuer that was asked: the response of another one is rejected. It is not the number in the settings, since the
    /// process that receives the response may have other settings than the process that began the sign-in.
    pub(super) issuer: String,
    pub(super) attempt: Attempt,
    /// Path and query of the page to which the sign-in leads.
    pub(super) to: String,
}

impl PendingSignIn {
    /// Time limit of a sign-in, in seconds.
    pub(super) const SECONDS: i64 = 600;

    /// Returns the value of the cookie.
    pub(super) fn expose(&self) -> String {
        let [issuer, to] = [&self.issuer, &self.to].map(|text| URL_SAFE_NO_PAD.encode(text));
        format!("{issuer}.{to}.{}", self.attempt.expose())
    }

    /// Parses the value of a cookie; `None` if it has another form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let mut text = || String::from_utf8(URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok();
        let (issuer, to) = (text()?, text()?);
        let attempt = Attempt::parse(parts.next()?)?;
        Some(Self { issuer, attempt, to: page_paths::target(&to).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use ledger_domain::ShortText;

    use super::*;

    const ISSUER: &str = "https://login.example";

    #[test]
    fn a_sign_in_is_read_from_its_cookie() {
        let attempt = Attempt::generate().expect("random");
        let pending = PendingSignIn { issuer: ISSUER.to_owned(), attempt, to: "/t/default?at=-1".to_owned() };
        assert_eq!(PendingSignIn::parse(&pending.expose()), Some(pending));
    }

    #[test]
    fn a_cookie_of_another_form_is_no_sign_in() {
        let attempt = Attempt::generate().expect("random").expose();
        let with = |issuer: &str, to: &str| PendingSignIn::parse(&format!("{issuer}.{to}.{attempt}"));
        assert!(with("YQ", "Lw").is_some());
        for (issuer, to) in [("0", "Lw"), ("_w", "Lw"), ("YQ", "?"), ("YQ", "_w"), ("YQ.YQ", "Lw")] {
            assert_eq!(with(issuer, to), None, "{issuer} {to}");
        }
        assert_eq!(PendingSignIn::parse(""), None);
    }

    #[test]
    fn a_cookie_does_not_lead_to_another_site() {
        let attempt = Attempt::generate().expect("random");
        let pending = PendingSignIn { issuer: ISSUER.to_owned(), attempt, to: "//evil.example".to_owned() };
        assert_eq!(PendingSignIn::parse(&pending.expose()).expect("a sign-in").to, "/");
    }

    #[test]
    fn the_longest_target_of_the_longest_issuer_fits_into_a_cookie() {
        let attempt = Attempt::generate().expect("random");
        let issuer = "x".repeat(ShortText::LIMIT);
        let pending = PendingSignIn { issuer, attempt, to: format!("/{}", "x".repeat(1_999)) };
        // Browsers keep 4,096 bytes of a cookie's name and value.
        assert!(pending.expose().len() < 3_900, "{}", pending.expose().len());
        assert_eq!(PendingSignIn::parse(&pending.expose()), Some(pending));
    }
}
