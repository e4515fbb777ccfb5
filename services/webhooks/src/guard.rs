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

/// A network: an address and the length of the prefix that its addresses share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write 10.0.0.0/8, 10.1.2.3 or fd00::/8, with zeros after the prefix")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        Self::parse(text).ok_or_else(|| InvalidNetwork(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
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

impl Network {
    fn parse(text: &str) -> Option<Self> {
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
        is_network.then_some(Self { address, prefix })
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
const NAT64: Network =
    Network { address: IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), prefix: 96 };
/// Global unicast addresses of IPv6.
const GLOBAL_V6: Network =
    Network { address: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), prefix: 3 };

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
    let within = |network: IpAddr, prefix: u8| Network { address: network, prefix }.contains(address);
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
    /// Creates a guard that allows public addresses and those of some networks, over `https`, and over `http` if that is
    /// allowed.
    #[must_use]
    pub const fn new(allow_http: bool, allowed: Vec<Network>) -> Self {
        Self { allow_http, allowed }
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
        let is_allowed = |network: &Network| network.contains(address) || network.contains(canonical);
        if is_public(canonical) || self.allowed.iter().any(is_allowed) {
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

/// Resolver of names that returns allowed addresses only.
pub(crate) struct GuardedResolver(pub(crate) Arc<AddressGuard>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            guard.check_all(host, &addresses)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(networks: &[&str]) -> AddressGuard {
        let networks = networks.iter().map(|text| text.parse().expect("a network"));
        AddressGuard::new(false, networks.collect())
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
        let open = AddressGuard::new(true, Vec::new());
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
        for good in ["10.0.0.0/8", "0.0.0.0/0", "192.168.1.1/32", "fd00::/8", "::/0", "::1/128"] {
            assert_eq!(good.parse::<Network>().map(|network| network.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "fd00::/129", "ten/8", "/8"]
        {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork(bad.to_owned())));
        }
    }
}
