//! Identities of events that the command line makes itself, and of processes: the one place that is random.

use uuid::Uuid;

/// The source of events that name none.
pub const SOURCE: &str = "release-ledger-cli";

/// An id that no other event has. Two reports of the same deploy are two events, so it is not
/// derived from what is reported.
#[expect(clippy::disallowed_methods, reason = "the one place that makes ids of events")]
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// A name of this process that no other has.
#[expect(clippy::disallowed_methods, reason = "the one place that is random")]
pub fn process() -> Uuid {
    Uuid::now_v7()
}
