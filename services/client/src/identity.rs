//! Random identities of events that the command line creates, and of processes. The only random module.

use uuid::Uuid;

/// The source of events for which none is given.
pub const SOURCE: &str = "release-ledger-cli";

/// Returns a new, unique event id. It is not derived from the event: two reports of the same deploy are two
/// events.
#[expect(clippy::disallowed_methods, reason = "the only source of event ids")]
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// Returns a new, unique id of this process.
#[expect(clippy::disallowed_methods, reason = "the only source of process ids")]
pub fn process() -> Uuid {
    Uuid::now_v7()
}
