//! Settings of the pages for browsers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use chrono::{DateTime, TimeDelta, Utc};
use figment::value::{Dict, Value};
use ledger_access::oidc::SettingsError;
use ledger_api::{Authentication, Pages, Sessions};
use ledger_client::Url;
use ledger_domain::TenantName;
use ledger_projections::Projections;
use serde::{Deserialize, Deserializer};

use super::{Config, Error, Role};

/// Settings of the pages for browsers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageSettings {
    pub(crate) enabled: bool,
    /// Origin of the address for browsers.
    #[serde(default, deserialize_with = "origin")]
    url: Option<String>,
    session_hours: NonZeroU16,
}

fn origin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let invalid = || {
        let reason = "must be https://HOST[:PORT], or http:// with a loopback address, without a path";
        serde::de::Error::custom(format!("{text:?} {reason}"))
    };
    parse_origin(&text).map(Some).ok_or_else(invalid)
}

/// Returns the origin of an address; `None` if the address has a path or other parts, or if browsers would send cookies to
/// it in plain text.
fn parse_origin(text: &str) -> Option<String> {
    let url: Url = text.parse().ok()?;
    let host = url.host_str()?;
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_local =
        host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    let has_user = !url.username().is_empty() || url.password().is_some();
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && !has_user;
    (is_secure && is_bare).then(|| url.origin().ascii_serialization())
}

impl Config {
    /// Checks that `pages.url`, to which issuers send browsers back, is set if people sign in with an issuer.
    pub(super) fn check_pages(&self) -> Result<(), Error> {
        if self.pages.enabled && self.access.has_sign_in() && self.pages.url.is_none() {
            let (setting, needed) = ("access.issuers.sign_in", "pages.url (--pages-url)");
            return Err(Error::Incomplete { setting, needed });
        }
        Ok(())
    }

    /// Returns the pages; `None` if the process has none. Their sessions are in the database of the tenant `_admin` among
    /// `primaries`.
    ///
    /// # Errors
    /// The settings of a sign-in cannot be used.
    pub fn pages(
        &self,
        authentication: &Authentication,
        primaries: &BTreeMap<TenantName, Projections>,
        clock: fn() -> DateTime<Utc>,
    ) -> Result<Option<Pages>, SettingsError> {
        if !self.pages.enabled || !self.roles.contains(&Role::Http) {
            return Ok(None);
        }
        let url = self.pages.url.clone();
        let verifier = match authentication {
            Authentication::Required(authenticator) => authenticator.verifier(),
            Authentication::Off => None,
        };
        let sign_ins = match (verifier, &url) {
            (Some(verifier), Some(url)) => {
                self.access.sign_ins(verifier, &format!("{url}{}", Pages::CALLBACK))?
            }
            _ => Vec::new(),
        };
        let lifetime = TimeDelta::hours(self.pages.session_hours.get().into());
        let sessions = primaries.get(&TenantName::admin());
        let sessions = sessions.map(|projections| Sessions::new(projections, lifetime, clock));
        Ok(Some(Pages::new(url, sessions, sign_ins)))
    }
}

/// Every setting of the pages as a command-line flag.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct PageFlags {
    /// Whether the service has pages for browsers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pages_enabled: Option<bool>,
    /// Address of the service for browsers, without a path
    #[arg(long, value_name = "URL")]
    pages_url: Option<String>,
    /// Lifetime of the session of a browser, in hours
    #[arg(long, value_name = "N")]
    pages_session_hours: Option<u16>,
}

impl PageFlags {
    /// Returns the given flags as settings of the section `pages`; empty without any.
    pub(super) fn dict(&self) -> Dict {
        let given = [
            ("enabled", self.pages_enabled.map(Value::from)),
            ("url", self.pages_url.clone().map(Value::from)),
            ("session_hours", self.pages_session_hours.map(Value::from)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;

    fn read(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        Config::read(&Flags::of_file(Some(file.path().to_owned()))).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_for_browsers_is_an_origin_that_keeps_cookies_secret() {
        for (url, origin) in [
            ("https://ledger.example", "https://ledger.example"),
            ("https://Ledger.example:8443/", "https://ledger.example:8443"),
            ("https://ledger.example:443", "https://ledger.example"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://localhost", "http://localhost"),
        ] {
            assert_eq!(parse_origin(url).as_deref(), Some(origin), "{url}");
        }
        for wrong in [
            "",
            "ledger.example",
            "http://ledger.example",
            "http://localhost.example",
            "https://ledger.example/pages",
            "https://ledger.example/?a",
            "https://ledger.example/#a",
            "https://user@ledger.example",
            "ftp://localhost",
        ] {
            assert_eq!(parse_origin(wrong), None, "{wrong}");
        }
        let error = read("pages.url = \"http://ledger.example\"").expect_err("plain text");
        assert!(error.contains("http://ledger.example"), "{error}");
    }

    #[test]
    fn a_session_lasts_twelve_hours_unless_the_settings_say_otherwise() {
        assert_eq!(read("").expect("valid").pages.session_hours.get(), 12);
        assert_eq!(read("pages.session_hours = 1").expect("valid").pages.session_hours.get(), 1);
        assert!(read("pages.session_hours = 0").is_err());
    }

    #[test]
    fn a_sign_in_with_an_issuer_needs_the_address_for_browsers() {
        let issuer = "[[access.issuers]]\nissuer = \"https://login.example\"\naudience = \"ledger\"\n\
                      kind = \"person\"\nsign_in = { client_id = \"ledger\" }\n";
        let with = |pages: &str| read(&format!("{pages}\n{issuer}"));

        assert_eq!(with("").expect_err("no address"), "access.issuers.sign_in needs pages.url (--pages-url)");
        assert!(with("pages.url = \"https://ledger.example\"").is_ok());
        assert!(with("pages.enabled = false").is_ok());
    }

    /// Returns the number of issuers of people that the settings of a sign-in make.
    fn sign_ins(kind: &str, sign_in: &str) -> Result<usize, String> {
        let text = format!(
            "pages.url = \"https://ledger.example\"\n[[access.issuers]]\nissuer = \"http://127.0.0.1:1\"\n\
             audience = \"ledger\"\nkind = {kind:?}\nsign_in = {{ {sign_in} }}\n"
        );
        let config = read(&text)?;
        let clock = || DateTime::UNIX_EPOCH;
        let authentication = config.access.authentication(&config.tenants, clock);
        let authentication = authentication.map_err(|error| error.to_string())?;
        let Authentication::Required(authenticator) = &authentication else { return Ok(0) };
        let verifier = authenticator.verifier().expect("an issuer");
        let sign_ins = config.access.sign_ins(verifier, "https://ledger.example/signin/callback");
        sign_ins.map(|sign_ins| sign_ins.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_client_is_an_audience_of_an_issuer_of_people() {
        assert_eq!(sign_ins("person", "client_id = \"ledger\""), Ok(1));
        for (kind, sign_in, reason) in [
            ("workload", "client_id = \"ledger\"", "kind = \"person\""),
            ("person", "client_id = \"other\"", "client_id"),
            ("person", "client_id = \"ledger\", scope = \"profile\"", "openid"),
            ("person", "client_id = \"ledger\", client_secret_file = \"/no/such\"", "/no/such"),
            ("person", "client_id = \"ledger\", client_secret = \"hunter2\"", "client_secret"),
        ] {
            let error = sign_ins(kind, sign_in).expect_err(reason);
            assert!(error.contains(reason) && !error.contains("hunter2"), "{error}");
        }
    }
}
