//! Kafka: what the settings name is started with the service and stopped with it.
//!
//! Consumers run in processes with the role `http`, which record events, and followers in those with the role
//! `projector`, which apply the entries.

#[cfg(feature = "kafka")]
mod enabled;
// The tests of a build with Kafka compile the other one, too.
#[cfg(any(test, not(feature = "kafka")))]
mod missing;

use std::error::Error as StdError;

use tokio::task::JoinHandle;

#[cfg(feature = "kafka")]
pub(crate) use enabled::Kafka;
#[cfg(not(feature = "kafka"))]
pub(crate) use missing::Kafka;

/// Error in the settings of Kafka.
pub(crate) type Error = Box<dyn StdError + Send + Sync>;

/// Tasks that run until their token is cancelled.
#[derive(Default)]
pub(crate) struct Tasks {
    /// They hold handles of ingest.
    pub(crate) consumers: Vec<JoinHandle<()>>,
    /// They read the projections.
    pub(crate) followers: Vec<JoinHandle<()>>,
}
