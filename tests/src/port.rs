//! Ports for servers of tests.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Not of the system's ephemeral range (from 32768 on), from which any client may be given the port before its server
/// listens; nor of those that the program's own private servers take.
const PORTS: Range<u16> = 10_000..20_000;

/// A port of 127.0.0.1 on which nobody listens now.
///
/// # Panics
/// Many were tried, and none was free.
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

/// So many of them, no two the same.
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
