//! Ports for private servers.

use std::net::{Ipv4Addr, TcpListener};

use super::Error;
use super::secret::random;

/// How often a server is started on another port when it loses its own to someone else.
pub(super) const ATTEMPTS: u32 = 5;

/// Ports are taken from here and not from the system, which would give one of its ephemeral range
/// (from 32768 on): there, a client that reconnects while the server is down can be given the very
/// port as its own, connect to itself, and keep the server from coming back.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port on which nobody listens now. Whoever uses it must be ready to lose it.
///
/// # Errors
/// None of many tried is free.
pub(super) fn free() -> Result<u16, Error> {
    for _ in 0..200 {
        let port = FIRST + u16::from_le_bytes(random()?) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::NoPort)
}
