//! The open connections: their number is bounded, and the one that has been idle longest makes room for a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{counter, gauge};
use tokio::sync::Notify;

use crate::connection::Connection;

/// Connections beyond the limit, which get answers about health only, so that probes do not fail while all others are
/// in use.
pub(crate) const RESERVED_CONNECTIONS: usize = 64;

/// Open connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    limit: usize,
    open: Mutex<Open>,
    /// Notified when a connection has left its place.
    left: Notify,
}

#[derive(Debug, Default)]
struct Open {
    by_id: HashMap<u64, Arc<Connection>>,
    next_id: u64,
}

/// Place of a connection among the open ones, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    id: u64,
    pub(crate) connection: Arc<Connection>,
    /// All connections within the limit are in use: answer questions about health only.
    pub(crate) is_beyond_limit: bool,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default(), left: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place for a new connection; `None` if even the reserved ones are taken. At the limit, the connection
    /// that has been idle longest closes for it. Connections that are closing leave within moments, so a new one waits
    /// for them rather than being refused: otherwise many connections at once would shut out a client although idle
    /// ones could make room.
    pub(crate) async fn admit(self: &Arc<Self>) -> Option<Place> {
        loop {
            let left = self.left.notified();
            match self.try_admit() {
                Admission::Admitted(place) => return Some(place),
                Admission::Refused => return None,
                Admission::WaitsForClosing => left.await,
            }
        }
    }

    fn try_admit(self: &Arc<Self>) -> Admission {
        let mut open = self.open();
        if open.by_id.len() >= self.limit + RESERVED_CONNECTIONS {
            if open.is_any_closing() || open.close_longest_idle() {
                return Admission::WaitsForClosing;
            }
            counter!("ledger_http_refused_total", "bound" => "connections").increment(1);
            return Admission::Refused;
        }
        let is_full = open.by_id.len() >= self.limit;
        let is_beyond_limit = is_full && !open.close_longest_idle();
        let connection = Connection::new();
        let id = open.next_id;
        open.next_id += 1;
        open.by_id.insert(id, Arc::clone(&connection));
        publish(&open);
        Admission::Admitted(Place { connections: Arc::clone(self), id, connection, is_beyond_limit })
    }
}

/// Result of an attempt to admit a connection.
enum Admission {
    Admitted(Place),
    /// All places are taken, and some of them by connections that are closing.
    WaitsForClosing,
    /// All places are in use.
    Refused,
}

impl Open {
    fn is_any_closing(&self) -> bool {
        self.by_id.values().any(|connection| connection.is_closing())
    }

    /// Closes the connection that has been without a request for the longest time. Returns false if there is none.
    fn close_longest_idle(&mut self) -> bool {
        let idle = self.by_id.values().filter_map(|connection| Some((connection.idle_since()?, connection)));
        match idle.min_by_key(|(since, _)| *since) {
            Some((_, connection)) => {
                connection.close();
                counter!("ledger_http_idle_closed_total").increment(1);
                true
            }
            None => false,
        }
    }
}

fn publish(open: &Open) {
    gauge!("ledger_http_connections").set(open.by_id.len() as f64);
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.by_id.remove(&self.id);
        publish(&open);
        drop(open);
        self.connections.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn the_connection_that_is_idle_longest_makes_room_for_a_new_one() {
        let connections = Connections::new(2);
        let busy = connections.admit().await.expect("a place");
        let idle = connections.admit().await.expect("a place");
        busy.connection.begin_request().await;

        let new = connections.admit().await.expect("a place");

        assert!(!new.is_beyond_limit);
        idle.connection.closed().await;
        assert_eq!(idle.connection.idle_since(), None);
        assert!(new.connection.idle_since().is_some());
    }

    #[tokio::test]
    async fn without_an_idle_connection_the_reserved_ones_answer_about_health() {
        let connections = Connections::new(1);
        let busy = connections.admit().await.expect("a place");
        busy.connection.begin_request().await;
        let mut beyond = Vec::new();
        for _ in 0..RESERVED_CONNECTIONS {
            let place = connections.admit().await.expect("a reserved place");
            place.connection.begin_request().await;
            beyond.push(place);
        }

        assert!(beyond.iter().all(|place| place.is_beyond_limit));
        assert!(connections.admit().await.is_none());
    }

    #[tokio::test]
    async fn a_new_connection_waits_for_those_that_are_closing_instead_of_being_refused() {
        let connections = Connections::new(1);
        let mut closing = Vec::new();
        for _ in 0..=RESERVED_CONNECTIONS {
            closing.push(connections.admit().await.expect("a place"));
        }
        let mut new = pin!(connections.admit());
        assert!(futures::poll!(new.as_mut()).is_pending());

        closing.remove(0);

        assert!(new.await.is_some_and(|place| !place.is_beyond_limit));
    }

    #[tokio::test]
    async fn a_connection_that_ends_leaves_its_place() {
        let connections = Connections::new(1);
        let first = connections.admit().await.expect("a place");
        first.connection.begin_request().await;
        drop(first);

        assert!(!connections.admit().await.expect("a place").is_beyond_limit);
    }
}
