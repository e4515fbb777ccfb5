//! Free ports for test servers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Ports below the system's ephemeral range (from 32768), from which any client could be given the port before the
/// server listens, and outside the ports that the program uses for its private servers.
const PORTS: Range<u16> = 10_000..20_000;

/// Returns a port of 127.0.0.1 on which no process listens at the moment.
///
/// # Panics
/// Panics if 1,000 random ports are all taken.
#[must_use]
pub fn free_port() -> u16 {
    let random = |_| RandomState::new().build_hasher().finish();
    let ports = (0..1_000).map(random).map(|random| {
        let count = u64::from(PORTS.end - PORTS.start);
        PORTS.start + u16::try_from(random % count).expect("fewer ports than that")
    });
    let mut free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("a free port")
}

/// Returns `count` different free ports.
#[must_use]
pub fn free_ports(count: usize) -> Vec<u16> {
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let port = free_port();
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}
