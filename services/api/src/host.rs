//! The `Host` of a request (RFC 9112, section 3.2), and the hosts by which clients may reach the service.
//!
//! A page of another site can make a browser send requests to a service on the same machine or network if the name of
//! that site resolves to its address (DNS rebinding). The request then names the site as its host.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::problem::{Kind, Problem};

/// Hosts by which clients may reach the service; none: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<AllowedHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedHost {
    /// `localhost`, the names below it, and the loopback addresses.
    Loopback,
    /// Any IP address: a name is needed to mislead a browser.
    Addresses,
    /// This name in lower case.
    Name(String),
    /// This address.
    Address(IpAddr),
}

/// Error in an allowed host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidHost(String);

impl std::fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "invalid host {:?}: give a name or an address without a port, `loopback` or `addresses`",
            self.0
        )
    }
}

impl std::error::Error for InvalidHost {}

impl AllowedHosts {
    /// Parses hosts: names, addresses, `loopback` (`localhost`, the names below it, and the loopback addresses) and
    /// `addresses` (every IP address).
    ///
    /// # Errors
    /// Returns the first text that is no host.
    pub fn parse<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHost> {
        hosts.into_iter().map(AllowedHost::parse).collect::<Result<_, _>>().map(Self)
    }

    fn allow(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let address = address(host);
        self.0.is_empty() || self.0.iter().any(|allowed| allowed.allows(host, address))
    }
}

impl AllowedHost {
    fn parse(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        match text {
            "loopback" => return Ok(Self::Loopback),
            "addresses" => return Ok(Self::Addresses),
            _ => {}
        }
        if let Some(address) = address(text).or_else(|| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)) {
            return Ok(Self::Address(address));
        }
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_part) {
            return Err(invalid());
        }
        Ok(Self::Name(without_root(text).to_ascii_lowercase()))
    }

    fn allows(&self, host: &str, address: Option<IpAddr>) -> bool {
        let name = without_root(host);
        match self {
            Self::Loopback => match address {
                Some(address) => address.is_loopback(),
                None => {
                    name.eq_ignore_ascii_case("localhost")
                        || name.to_ascii_lowercase().ends_with(".localhost")
                }
            },
            Self::Addresses => address.is_some(),
            Self::Name(allowed) => name.eq_ignore_ascii_case(allowed),
            Self::Address(allowed) => address == Some(*allowed),
        }
    }
}

/// Returns the address that a host is, if it is one. IPv6 addresses are in brackets.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok().filter(IpAddr::is_ipv4),
    }
}

/// Returns a name without the dot of the root.
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Rejects requests without exactly one valid host, and those to a host that is not allowed.
pub(crate) async fn check_host(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match authority(request.version(), request.uri(), request.headers()) {
        Ok(Some(authority)) if !app.allowed_hosts.allow(&authority) => {
            let detail =
                format!("host {:?} is not allowed; see the setting http.allowed_hosts", authority.host());
            Problem::new(Kind::HostNotAllowed, detail).into_response()
        }
        Ok(_) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Returns the authority of the target of a request: that of its absolute form, or else its `Host`. HTTP/1.0 requests
/// may have none.
fn authority(version: Version, target: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let invalid = |detail: &str| Problem::parameter("Host", detail);
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let host = Authority::try_from(host.as_bytes()).ok().filter(is_host);
            Some(host.ok_or_else(|| invalid("must be a name or an address, with an optional port"))?)
        }
        (Some(_), Some(_)) => return Err(invalid("must not be repeated")),
        (None, _) if version == Version::HTTP_11 => return Err(invalid("is required")),
        (None, _) => None,
    };
    Ok(target.authority().cloned().or(host))
}

/// Returns true if an authority has a host, and no user.
fn is_host(authority: &Authority) -> bool {
    !authority.host().is_empty() && !authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allows(allowed: &[&str], host: &str) -> bool {
        let allowed = AllowedHosts::parse(allowed.iter().copied()).expect("valid hosts");
        allowed.allow(&host.parse().expect("an authority"))
    }

    #[test]
    fn without_a_list_any_host_is_allowed() {
        assert!(allows(&[], "ledger.example.com"));
    }

    #[test]
    fn loopback_names_and_addresses_are_one_entry() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "a.localhost",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:1",
        ] {
            assert!(allows(&["loopback"], host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[2001:db8::1]"]
        {
            assert!(!allows(&["loopback"], host), "{host}");
        }
    }

    #[test]
    fn a_name_is_compared_without_case_and_port() {
        assert!(allows(&["Ledger.example"], "ledger.EXAMPLE:443"));
        assert!(allows(&["ledger.example."], "ledger.example"));
        assert!(!allows(&["ledger.example"], "a.ledger.example"));
        assert!(!allows(&["ledger.example"], "ledger.example.evil"));
    }

    #[test]
    fn an_address_is_compared_by_value() {
        assert!(allows(&["::1"], "[0:0:0:0:0:0:0:1]:80"));
        assert!(allows(&["10.0.0.1"], "10.0.0.1:80"));
        assert!(!allows(&["10.0.0.1"], "10.0.0.2"));
        assert!(allows(&["addresses"], "[2001:db8::1]"));
        assert!(!allows(&["addresses"], "name"));
    }

    #[test]
    fn what_is_no_host_is_rejected() {
        for wrong in ["", "a:80", "http://a", "user@a", "a/b", "a b", "*"] {
            assert!(AllowedHosts::parse([wrong]).is_err(), "{wrong}");
        }
    }

    fn authority_of(version: Version, target: &str, hosts: &[&str]) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).expect("a value"));
        }
        let found = authority(version, &target.parse().expect("a target"), &headers);
        found.map(|found| found.map(|found| found.to_string())).map_err(|problem| problem.into_body().status)
    }

    #[test]
    fn a_request_has_exactly_one_valid_host() {
        let of = |hosts: &[&str]| authority_of(Version::HTTP_11, "/", hosts);

        assert_eq!(of(&["a:80"]), Ok(Some("a:80".to_owned())));
        for wrong in
            [&[][..], &["a", "a"], &["a", "b"], &[""], &["a b"], &["u@a"], &["a/b"], &["a, b"], &[":80"]]
        {
            assert_eq!(of(wrong), Err(400), "{wrong:?}");
        }
    }

    #[test]
    fn the_authority_of_an_absolute_target_takes_precedence_over_host() {
        assert_eq!(authority_of(Version::HTTP_11, "http://a/livez", &["b"]), Ok(Some("a".to_owned())));
        assert_eq!(authority_of(Version::HTTP_11, "http://a/livez", &[]), Err(400));
    }

    #[test]
    fn a_request_of_http_1_0_needs_no_host() {
        assert_eq!(authority_of(Version::HTTP_10, "/", &[]), Ok(None));
    }
}
