//! Descriptors of the process: raises its limit of open files, and leaves enough for its own connections.

use ledger_api::open_connections;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Smallest number of connections of clients, however low the limit of open files is.
const MIN_CONNECTIONS: usize = 16;

/// Raises the soft limit of open files as far as `connections` of clients and `own` descriptors need. Returns the
/// number of connections for which the limit suffices, at most `connections`.
pub(crate) fn reserve(connections: usize, own: usize) -> usize {
    let needed = (open_connections(connections) + own) as u64;
    let limit = getrlimit(Resource::Nofile);
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let mut available = limit.current.unwrap_or(u64::MAX);
    if available < raised {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
            Ok(()) => available = raised,
            Err(error) => warn!(%error, limit = available, "cannot raise the limit of open files"),
        }
    }
    let suffices = connections_within(available, connections, own);
    if suffices < connections {
        warn!(
            limit = available,
            needed,
            connections = suffices,
            "the limit of open files is low; fewer connections are accepted"
        );
    }
    suffices
}

/// Returns the number of connections for which `available` descriptors suffice.
fn connections_within(available: u64, connections: usize, own: usize) -> usize {
    let available = usize::try_from(available).unwrap_or(usize::MAX);
    let suffices = available.saturating_sub(own + open_connections(0));
    suffices.max(MIN_CONNECTIONS).min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_those_that_own_and_reserved_descriptors_leave() {
        let reserved = open_connections(0);

        assert_eq!(connections_within(u64::MAX, 2_048, 100), 2_048);
        assert_eq!(connections_within(1_024, 2_048, 100), 1_024 - 100 - reserved);
        assert_eq!(connections_within(64, 2_048, 100), MIN_CONNECTIONS);
        assert_eq!(connections_within(64, 8, 100), 8);
    }

    #[test]
    fn the_soft_limit_is_raised_to_what_is_needed() {
        let own =
            getrlimit(Resource::Nofile).current.map_or(0, |current| usize::try_from(current).unwrap_or(0));

        let connections = reserve(16, own);

        assert_eq!(connections, 16);
        let needed = (open_connections(16) + own) as u64;
        let limit = getrlimit(Resource::Nofile);
        let reachable = limit.maximum.is_none_or(|maximum| maximum >= needed);
        assert!(!reachable || limit.current.is_none_or(|current| current >= needed));
    }
}
