//! Addresses to which deliveries may go.
//!
//! Who may create a subscription chooses where the service connects to. Without this guard, the service would reach
//! services for its own network only, such as the metadata of a cloud, in the name of a client. Names are resolved once
//! for each connection, every address is checked, and the connection goes to a checked one: a second look-up could give
//! another answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A network: an address, the length of the prefix that its addresses share, and the only port, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
    port: Option<u16>,
}

/// A text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no network; write 10.0.0.0/8, 10.1.2.3, 10.1.2.3:8443, fd00::/8 or [fd00::1]:8443, with zeros after the \
     prefix"
)]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        Self::parse(text).ok_or_else(|| InvalidNetwork(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.address) {
            (None, _) => write!(f, "{}/{}", self.address, self.prefix),
            (Some(port), IpAddr::V4(_)) => write!(f, "{}/{}:{port}", self.address, self.prefix),
            (Some(port), IpAddr::V6(_)) => write!(f, "[{}/{}]:{port}", self.address, self.prefix),
        }
    }
}

/// Returns the bits of an address, from the first one of a number of 128 bits.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Returns the mask of a prefix.
fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

/// Splits the port off a network, if it has one.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (network, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        // The address of IPv6 has several colons.
        None if text.matches(':').count() == 1 => text.split_once(':')?,
        None => return Some((text, None)),
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_number && *port > 0)?;
    Some((network, Some(port)))
}

impl Network {
    const fn new(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix, port: None }
    }

    /// Returns the only port to which connections are allowed; `None`: any.
    pub(crate) const fn port(self) -> Option<u16> {
        self.port
    }

    fn parse(text: &str) -> Option<Self> {
        let (text, port) = split_port(text)?;
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let length = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => length,
        };
        let is_network = prefix <= length && bits(address) & !mask(prefix) == 0;
        is_network.then_some(Self { address, prefix, port })
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && (bits(self.address) ^ bits(address)) & mask(self.prefix) == 0
    }
}

/// Networks of IPv4 that are not public: IANA's registry of special-purpose addresses, multicast and reserved addresses,
/// and the address at which Azure serves its virtual machines.
const SPECIAL_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Networks within the global unicast addresses of IPv6 that are not public: protocol assignments with Teredo,
/// documentation, 6to4, and documentation again.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Addresses of IPv4 that a gateway translates (NAT64).
const NAT64: Network = Network::new(IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), 96);
/// Global unicast addresses of IPv6.
const GLOBAL_V6: Network = Network::new(IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), 3);

/// Returns the IPv4 address that an IPv6 address stands for: one that is mapped, or translated by NAT64.
fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return IpAddr::V4(mapped);
    }
    if NAT64.contains(address) {
        let [.., a, b, c, d] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    address
}

/// Returns true for an address of the public internet.
fn is_public(address: IpAddr) -> bool {
    let within = |network: IpAddr, prefix: u8| Network::new(network, prefix).contains(address);
    match address {
        IpAddr::V4(_) => !SPECIAL_V4.iter().any(|(network, prefix)| within(IpAddr::V4(*network), *prefix)),
        IpAddr::V6(_) => {
            GLOBAL_V6.contains(address)
                && !SPECIAL_V6.iter().any(|(network, prefix)| within(IpAddr::V6(*network), *prefix))
        }
    }
}

/// Reason why a delivery must not go somewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The scheme is not encrypted, or another one.
    #[error("the scheme {0} is not allowed: use https, or set webhooks.allow_http")]
    Scheme(String),
    /// The URL has no host.
    #[error("the URL has no host")]
    Host,
    /// The name has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// The address is not public.
    #[error(
        "{host} has the address {address}, which is not public: if it is meant, add its network to \
         webhooks.allow_networks"
    )]
    Address {
        /// Host of the URL.
        host: String,
        /// Its address.
        address: IpAddr,
    },
}

/// Decides which addresses deliveries may go to.
#[derive(Debug, Clone)]
pub struct AddressGuard {
    allow_http: bool,
    allowed: Vec<Network>,
}

impl AddressGuard {
    /// Creates the guard of the connections to a port, or to all ports that no network has as its only one. It allows
    /// public addresses and those of some networks, over `https`, and over `http` if that is allowed.
    #[must_use]
    pub fn new(allow_http: bool, networks: &[Network], port: Option<u16>) -> Self {
        let is_for_port = |network: &&Network| network.port.is_none() || network.port == port;
        Self { allow_http, allowed: networks.iter().filter(is_for_port).copied().collect() }
    }

    /// Returns true for an address of the public internet, in any form: no network of the settings is needed for it.
    pub(crate) fn is_public(address: IpAddr) -> bool {
        is_public(canonical(address))
    }

    /// Checks a URL: its scheme, and its address if its host is one. A name is checked when it is resolved.
    ///
    /// # Errors
    /// Deliveries must not go there.
    pub fn check_url(&self, url: &Url) -> Result<(), Forbidden> {
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            other => return Err(Forbidden::Scheme(other.to_owned())),
        }
        let host = url.host_str().ok_or(Forbidden::Host)?;
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // The URL is parsed: an IPv4 address in any notation is in its usual one here.
        match literal.parse::<IpAddr>() {
            Ok(address) => self.check_address(host, address),
            Err(_) => Ok(()),
        }
    }

    /// Checks an address of a host.
    ///
    /// # Errors
    /// Deliveries must not go there.
    pub fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Forbidden> {
        let canonical = canonical(address);
        if is_public(canonical) || self.allowed.iter().any(|network| network.contains(canonical)) {
            return Ok(());
        }
        Err(Forbidden::Address { host: host.to_owned(), address })
    }

    /// Checks all addresses of a host. One that is not allowed forbids all: which of them a connection uses depends on
    /// which answers first.
    fn check_all(&self, host: &str, addresses: &[SocketAddr]) -> Result<(), Forbidden> {
        if addresses.is_empty() {
            return Err(Forbidden::NoAddress(host.to_owned()));
        }
        addresses.iter().try_for_each(|address| self.check_address(host, address.ip()))
    }
}

/// A name cannot be resolved.
#[derive(Debug, thiserror::Error)]
#[error("cannot look up the address")]
pub(crate) struct LookupError(#[source] std::io::Error);

/// Resolver of names that returns allowed addresses only.
pub(crate) struct GuardedResolver(pub(crate) Arc<AddressGuard>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let addresses = tokio::net::lookup_host((host, 0)).await.map_err(LookupError)?;
            let addresses: Vec<SocketAddr> = addresses.collect();
            guard.check_all(host, &addresses)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard_of_port(networks: &[&str], port: Option<u16>) -> AddressGuard {
        let networks = networks.iter().map(|text| text.parse().expect("a network"));
        AddressGuard::new(false, &networks.collect::<Vec<Network>>(), port)
    }

    fn guard(networks: &[&str]) -> AddressGuard {
        guard_of_port(networks, None)
    }

    fn is_allowed(guard: &AddressGuard, address: &str) -> bool {
        guard.check_address("host", address.parse().expect("an address")).is_ok()
    }

    const PUBLIC: [&str; 14] = [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ];

    const INTERNAL: [&str; 47] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.1.2.3",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ];

    #[test]
    fn only_public_addresses_are_allowed() {
        let guard = guard(&[]);
        for address in PUBLIC {
            assert!(is_allowed(&guard, address), "{address}");
        }
        for address in INTERNAL {
            assert!(!is_allowed(&guard, address), "{address}");
        }
    }

    #[test]
    fn networks_of_the_settings_are_allowed_in_every_form_of_their_addresses() {
        let guard = guard(&["10.1.0.0/16", "fd00::/8", "127.0.0.1"]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd12::1", "127.0.0.1"] {
            assert!(is_allowed(&guard, address), "{address}");
        }
        for address in ["10.2.0.1", "127.0.0.2", "fe80::1", "::1"] {
            assert!(!is_allowed(&guard, address), "{address}");
        }
    }

    #[test]
    fn a_network_with_a_port_is_allowed_for_that_port_only() {
        let networks = ["10.1.0.0/16:8443", "[fd00::1]:8443", "10.2.0.1"];
        let (listed, other) = (guard_of_port(&networks, Some(8443)), guard_of_port(&networks, None));
        for address in ["10.1.2.3", "fd00::1"] {
            assert!(is_allowed(&listed, address) && !is_allowed(&other, address), "{address}");
        }
        assert!(is_allowed(&listed, "10.2.0.1") && is_allowed(&other, "10.2.0.1"));
    }

    #[test]
    fn one_internal_address_of_a_name_forbids_all() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let guard = guard(&[]);
        assert_eq!(guard.check_all("a", &addresses(&["8.8.8.8:0", "1.1.1.1:0"])), Ok(()));
        let mixed = guard.check_all("a", &addresses(&["8.8.8.8:0", "10.0.0.1:0"]));
        let address = "10.0.0.1".parse().expect("an address");
        assert_eq!(mixed, Err(Forbidden::Address { host: "a".to_owned(), address }));
        assert_eq!(guard.check_all("a", &[]), Err(Forbidden::NoAddress("a".to_owned())));
    }

    #[test]
    fn an_address_in_a_url_is_checked_in_every_notation() {
        let check = |url: &str| guard(&[]).check_url(&Url::parse(url).expect("a URL"));
        for url in [
            "https://127.0.0.1/x",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://017700000001/",
            "https://127.1:8443/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(matches!(check(url), Err(Forbidden::Address { .. })), "{url}");
        }
        assert_eq!(check("https://hooks.example/"), Ok(()));
        assert_eq!(check("https://8.8.8.8/"), Ok(()));
        assert_eq!(check("http://8.8.8.8/"), Err(Forbidden::Scheme("http".to_owned())));
        let open = AddressGuard::new(true, &[], None);
        assert_eq!(open.check_url(&Url::parse("http://8.8.8.8/").expect("a URL")), Ok(()));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_an_internal_address_is_not_resolved() {
        let resolver = GuardedResolver(Arc::new(guard(&[])));
        let error = resolver.resolve("localhost".parse().expect("a name")).await.err().expect("an error");
        assert!(error.to_string().contains("which is not public"), "{error}");
        let resolver = GuardedResolver(Arc::new(guard(&["127.0.0.0/8", "::1"])));
        let resolved = resolver.resolve("localhost".parse().expect("a name")).await;
        assert!(resolved.is_ok_and(|addresses| addresses.count() > 0));
    }

    #[test]
    fn a_network_has_zeros_after_its_prefix() {
        let with_ports = ["10.0.0.0/8:443", "[fd00::/8]:65535"];
        let without = ["10.0.0.0/8", "0.0.0.0/0", "192.168.1.1/32", "fd00::/8", "::/0", "::1/128"];
        for good in without.into_iter().chain(with_ports) {
            assert_eq!(good.parse::<Network>().map(|network| network.to_string()), Ok(good.to_owned()));
        }
        for bad in ["10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:+1", "10.0.0.1:", "[fd00::1]", "[fd00::1]:x"] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork(bad.to_owned())));
        }
        for bad in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "fd00::/129", "ten/8", "/8"]
        {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork(bad.to_owned())));
        }
    }
}
