//! The address of a ledger: the URL of the service and the tenant, as flags, variables and contexts give them.
//!
//! Invariant: no error and no debug output contains a user name or a password of a URL. A URL that is rejected is not
//! shown at all: it is unknown which part of it is a password.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;

use ledger_domain::{NameError, TenantName};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

/// The address of the ledger that a flag or a variable gives is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The URL of the service.
    #[error("invalid --url or RELEASE_LEDGER_URL: {0}")]
    Url(Cow<'static, str>),
    /// A header.
    #[error("invalid --header: {0}")]
    Header(&'static str),
    /// The tenant.
    #[error("invalid --tenant or RELEASE_LEDGER_TENANT: {0}")]
    Tenant(NameError),
    /// The context that names the service cannot be used.
    #[error("{0}")]
    Context(String),
}

/// The URL of a service, or the reason why the given text is none. The command decides what an invalid one means.
#[derive(Debug, Clone)]
pub(super) struct GivenUrl(Result<ServiceUrl, AddressError>);

impl GivenUrl {
    pub(super) const fn of(service: ServiceUrl) -> Self {
        Self(Ok(service))
    }

    pub(super) fn parse(text: OsString) -> Self {
        let parsed =
            text.into_string().map_err(|_| Cow::from("must be UTF-8")).and_then(|text| parse_url(&text));
        Self(parsed.map_err(AddressError::Url))
    }

    pub(super) fn into_result(self) -> Result<ServiceUrl, AddressError> {
        self.0
    }
}

/// Parses the URL of a service. A host without a scheme is reached over https, or over http if it is this machine; the
/// path of the API at the end is left out. The errors of the URL parser are constants, and do not show the text.
pub(super) fn parse_url(text: &str) -> Result<ServiceUrl, Cow<'static, str>> {
    if text.is_empty() {
        return Err("it is empty; give the URL of the service, or leave it out".into());
    }
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ if is_host(text) => with_scheme(text)?,
        Ok(_) => return Err("must start with http:// or https://".into()),
        Err(error) => return Err(error.to_string().into()),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not contain ? or #; percent-encode them in a password".into());
    }
    if url.path().contains("/v1/tenants/") {
        return Err("must not contain the path of a tenant; remove it, and set --tenant".into());
    }
    Ok(ServiceUrl::new(without_api_path(url)))
}

/// Returns true for a host, with or without a port and a path. A text with credentials must have a scheme: that decides
/// if they may be sent.
fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('/') && !text.contains("://") && !text.contains('@')
}

/// Adds the scheme: https, so that nothing is sent to another machine unencrypted, or http for this machine.
fn with_scheme(host: &str) -> Result<Url, Cow<'static, str>> {
    let parse = |scheme: &str| -> Result<Url, Cow<'static, str>> {
        Url::parse(&format!("{scheme}://{host}")).map_err(|error| error.to_string().into())
    };
    let url = parse("https")?;
    if is_loopback(&url) { parse("http") } else { Ok(url) }
}

/// Removes the path of the API at the end: clients add it.
fn without_api_path(mut url: Url) -> Url {
    let prefix = url.path().trim_end_matches('/').strip_suffix("/v1").map(str::to_owned);
    if let Some(prefix) = prefix {
        url.set_path(&prefix);
    }
    url
}

/// The name of a tenant, or the reason why the given text is none.
#[derive(Debug, Clone)]
pub(super) struct GivenTenant(Result<TenantName, AddressError>);

impl GivenTenant {
    pub(super) fn parse(text: OsString) -> Self {
        Self(TenantName::parse_any(&text.to_string_lossy()).map_err(AddressError::Tenant))
    }

    pub(super) fn into_result(self) -> Result<TenantName, AddressError> {
        self.0
    }
}

/// Headers that this program sets.
const OWN_HEADERS: [&str; 8] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "if-match",
    "last-event-id",
    "transfer-encoding",
];

/// A header, or the reason why the given text is none. Its value may be a secret, and is not shown.
#[derive(Debug, Clone)]
pub(super) struct GivenHeader(Result<(HeaderName, HeaderValue), AddressError>);

impl GivenHeader {
    pub(super) fn parse(text: OsString) -> Self {
        let text = text.into_string().map_err(|_| "must be UTF-8");
        Self(text.and_then(|text| parse_header(&text)).map_err(AddressError::Header))
    }

    pub(super) fn into_result(self) -> Result<(HeaderName, HeaderValue), AddressError> {
        self.0
    }
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("must be NAME:VALUE")?;
    let name =
        HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "its name is not that of a header")?;
    if name == AUTHORIZATION {
        return Err("credentials are not given by a header; use --token-file or RELEASE_LEDGER_TOKEN");
    }
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err("this program sets that header");
    }
    let value = HeaderValue::from_str(value.trim());
    let mut value = value.map_err(|_| "its value contains a character that no header may contain")?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The URL of a service, with its credentials apart.
#[derive(Debug, Clone)]
pub(super) struct ServiceUrl {
    /// The URL without credentials.
    pub(super) url: Url,
    pub(super) credentials: Option<UrlCredentials>,
}

impl ServiceUrl {
    pub(super) fn new(url: Url) -> Self {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(url.username()), url.password().map(decoded));
        let has_credentials = !user.is_empty() || password.is_some();
        Self {
            credentials: has_credentials.then_some(UrlCredentials { user, password }),
            url: without_credentials(&url),
        }
    }
}

/// The user name and password of a URL, decoded.
#[derive(Clone)]
pub(super) struct UrlCredentials {
    pub(super) user: String,
    pub(super) password: Option<String>,
}

impl fmt::Debug for UrlCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UrlCredentials")
    }
}

/// Returns true if a URL leads to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// Returns the origin of a URL: the path does not help to find out why a host is unreachable.
pub(super) fn origin(url: &Url) -> Url {
    let mut url = without_credentials(url);
    url.set_path("/");
    url.set_query(None);
    url
}

/// Returns true if two URLs name the same service: the same path and the same origin, or the same port of this machine.
pub(super) fn is_same_service(one: &Url, other: &Url) -> bool {
    has_same_path(one, other) && (one.origin() == other.origin() || is_same_local_port(one, other))
}

/// Returns true if two URLs are the same, apart from a slash at the end: their hosts are not only other names of this
/// machine.
pub(super) fn is_same_url(one: &Url, other: &Url) -> bool {
    has_same_path(one, other) && one.origin() == other.origin()
}

fn has_same_path(one: &Url, other: &Url) -> bool {
    one.path().trim_end_matches('/') == other.path().trim_end_matches('/')
}

/// Returns true for the same port of this machine, under different names.
fn is_same_local_port(one: &Url, other: &Url) -> bool {
    let is_local = |url: &Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let port = |url: &Url| (url.scheme().to_owned(), url.port_or_known_default());
    is_local(one) && is_local(other) && port(one) == port(other)
}

/// Returns the URL without user and password.
pub(super) fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // A URL that cannot have credentials has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// Replaces what precedes the `@` in every URL of a text, such as a message that quotes a mistyped argument.
#[must_use]
pub(super) fn hide_credentials(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut hidden = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        let scheme = word.find("://").map(|colon| colon + "://".len());
        // A password may contain any character, also one that ends the authority for the URL parser.
        match (scheme, word.rfind('@')) {
            (Some(scheme), Some(at)) if scheme <= at => {
                hidden.extend([&word[..scheme], "***", &word[at..]]);
            }
            _ => hidden.push_str(word),
        }
    }
    Cow::Owned(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URLs with the password `s3cret`, each with another mistake.
    const INVALID: [&str; 11] = [
        "http://ci:s3cret@h/?x",
        "http://ci:s3cret@h/#x",
        "http://ci:s3cret@h:port/",
        "http://ci:s3cret@h:99999/",
        "http://ci:s3cret@[::1/",
        "http://ci:s3cret@[::g]/",
        "ftp://ci:s3cret@h/",
        "ci:s3cret@h",
        "//ci:s3cret@h/",
        "http://ci:s3cret/2@h/",
        "http://ci:s3cret@/",
    ];

    #[test]
    fn a_rejected_url_is_never_shown() {
        for text in INVALID {
            let given = GivenUrl::parse(text.into());
            let debug = format!("{given:?}");
            let error = given.into_result().expect_err(text);
            let shown = format!("{error} {error:?} {debug}");
            assert!(!shown.contains("s3cret") && !shown.contains("ci:"), "{shown}");
            assert!(error.to_string().starts_with("invalid --url or RELEASE_LEDGER_URL: "), "{error}");
        }
    }

    #[test]
    fn an_accepted_url_is_shown_without_its_credentials() {
        let given = GivenUrl::parse("https://ci:s3%40cret@example.com/ledger/".into());
        assert!(!format!("{given:?}").contains("s3"), "{given:?}");
        let service = given.into_result().expect("a URL");
        assert_eq!(service.url.as_str(), "https://example.com/ledger/");
        let credentials = service.credentials.expect("credentials");
        assert_eq!((&*credentials.user, credentials.password.as_deref()), ("ci", Some("s3@cret")));
    }

    #[test]
    fn a_url_may_lack_its_scheme_and_may_end_with_the_path_of_the_api() {
        for (text, expected) in [
            ("ledger.example", "https://ledger.example/"),
            ("ledger.example:8080", "https://ledger.example:8080/"),
            ("ledger.example/behind/proxy", "https://ledger.example/behind/proxy"),
            ("localhost:8080", "http://localhost:8080/"),
            ("127.0.0.1:8080/v1", "http://127.0.0.1:8080/"),
            ("[::1]:8080", "http://[::1]:8080/"),
            ("10.0.0.1:8080", "https://10.0.0.1:8080/"),
            ("https://ledger.example/v1", "https://ledger.example/"),
            ("https://ledger.example/behind/v1/", "https://ledger.example/behind"),
            ("https://ledger.example/v1/behind", "https://ledger.example/v1/behind"),
            ("http://ledger.example", "http://ledger.example/"),
        ] {
            assert_eq!(
                parse_url(text).map(|service| service.url.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
        for (text, expected) in [
            ("", "it is empty; give the URL of the service, or leave it out"),
            ("/ledger", "relative URL without a base"),
            ("ledger.example:port", "invalid port number"),
            ("ftp://ledger.example", "must start with http:// or https://"),
            ("ci@ledger.example", "relative URL without a base"),
            (
                "https://ledger.example/v1/tenants/shop",
                "must not contain the path of a tenant; remove it, and set --tenant",
            ),
        ] {
            assert_eq!(parse_url(text).map(|service| service.url), Err(expected.into()), "{text}");
        }
    }

    #[test]
    fn names_of_this_machine_with_the_same_port_are_the_same_service() {
        let same = |one: &str, other: &str| {
            let url = |text: &str| parse_url(text).expect("a URL").url;
            is_same_service(&url(one), &url(other))
        };
        for other in ["127.0.0.1:8080", "[::1]:8080/", "http://localhost:8080/v1"] {
            assert!(same("localhost:8080", other), "{other}");
        }
        assert!(same("http://localhost", "http://[::1]:80"));
        for other in ["localhost:8081", "https://localhost:8080", "localhost:8080/ledger", "127.0.0.2:8080"] {
            assert!(!same("localhost:8080", other), "{other}");
        }
        assert!(!same("http://ledger.example", "http://10.0.0.1"));
    }

    #[test]
    fn a_header_has_a_name_and_a_value_and_neither_output_shows_the_value() {
        let parse = |text: &str| GivenHeader::parse(text.into());
        let given = parse("X-Access: s3cret:1 ");
        assert!(!format!("{given:?}").contains("s3cret"), "{given:?}");
        let (name, value) = given.into_result().expect("a header");
        assert_eq!((name.as_str(), value.as_bytes()), ("x-access", &b"s3cret:1"[..]));
        for (text, expected) in [
            ("s3cret", "invalid --header: must be NAME:VALUE"),
            ("a b: s3cret", "invalid --header: its name is not that of a header"),
            ("x: s3cret\n1", "invalid --header: its value contains"),
            ("Content-Type: s3cret", "invalid --header: this program sets that header"),
            ("Authorization: s3cret", "invalid --header: credentials are not given by a header"),
        ] {
            let given = parse(text);
            assert!(!format!("{given:?}").contains("s3cret"), "{given:?}");
            let error = given.into_result().expect_err(text).to_string();
            assert!(error.starts_with(expected) && !error.contains("s3cret"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_url_or_tenant_that_is_not_utf_8_is_rejected_by_the_command_that_needs_it() {
        use std::os::unix::ffi::OsStringExt as _;
        let text = OsString::from_vec(b"http://ci:s3cret@\xff/".to_vec());
        let error = GivenUrl::parse(text.clone()).into_result().expect_err("not UTF-8");
        assert_eq!(error.to_string(), "invalid --url or RELEASE_LEDGER_URL: must be UTF-8");
        let error = GivenTenant::parse(text).into_result().expect_err("no name");
        assert!(error.to_string().starts_with("invalid --tenant or RELEASE_LEDGER_TENANT: "), "{error}");
    }

    #[test]
    fn the_credentials_of_every_url_in_a_text_are_hidden() {
        for url in INVALID.iter().filter(|url| url.contains("://")) {
            let text = format!("invalid value '{url}' for '<ENVIRONMENT>': see https://a/b and {url}");
            let hidden = hide_credentials(&text);
            assert!(!hidden.contains("s3cret") && hidden.contains("see https://a/b and"), "{hidden}");
        }
        assert_eq!(hide_credentials("nats://ledger:a@b@h:1, x@y"), "nats://***@h:1, x@y");
        for unchanged in ["web@eu at http://127.0.0.1:8080/v1\n", "a://", "ada@example.com"] {
            assert_eq!(hide_credentials(unchanged), unchanged);
        }
    }
}
