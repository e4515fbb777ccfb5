//! Address of the client at the other end of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of the client: an extension of every request that arrives over a socket. It may be that of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Peer {
    /// Returns the address by which clients are counted: of IPv6 the first 64 bits, since a client can have all those
    /// behind them.
    pub(crate) fn counted(self) -> IpAddr {
        match self.0.ip().to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address @ IpAddr::V4(_) => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let counted = |text: &str| Peer(text.parse().expect("an address")).counted();

        assert_eq!(counted("[2001:db8:1:2::1]:80"), counted("[2001:db8:1:2:ffff::2]:81"));
        assert_ne!(counted("[2001:db8:1:2::1]:80"), counted("[2001:db8:1:3::1]:80"));
        assert_eq!(counted("[::ffff:10.0.0.1]:80"), counted("10.0.0.1:81"));
        assert_ne!(counted("10.0.0.1:80"), counted("10.0.0.2:80"));
    }
}
