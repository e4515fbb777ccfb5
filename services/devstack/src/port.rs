//! Free ports for private servers.

use std::net::{Ipv4Addr, TcpListener};

use super::Error;
use super::secret::random;

/// Maximum number of starts on different ports, in case another process takes a chosen port first.
pub(super) const MAX_ATTEMPTS: u32 = 5;

/// Range of server ports, below the ephemeral range of the system (from 32768). With an ephemeral server port, a client
/// that reconnects while the server is down can get the same port as its local port, connect to itself, and block the
/// server's restart.
const FIRST_PORT: u16 = 20_000;
const PORT_COUNT: u16 = 12_000;
/// Number of random ports to try.
const MAX_TRIES: u32 = 200;

/// Returns a port that is currently free. Another process may take it before the caller does.
///
/// # Errors
/// Every port that was tried is in use.
pub(super) fn find_free() -> Result<u16, Error> {
    for _ in 0..MAX_TRIES {
        let port = FIRST_PORT + u16::from_le_bytes(random()?) % PORT_COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::NoPort)
}
