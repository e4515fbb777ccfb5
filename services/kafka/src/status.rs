//! Faults of the connections to Kafka, for the readiness of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum length of the description of a fault, in characters.
const MAX_DETAIL: usize = 300;

/// Cause of a fault. A part has at most one fault of each cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// No broker can be reached, or none accepts the credentials.
    Connection,
    /// A topic does not exist, or cannot be used.
    Topic,
    /// The group cannot be used.
    Group,
    /// The ledger does not record the messages at the moment.
    Ledger,
    /// The dead-letter topic or the output topic does not acknowledge.
    Delivery,
}

/// Descriptions of faults, by their parts, causes and partitions.
type Faults = BTreeMap<(Arc<str>, Cause, Option<Arc<str>>), String>;

/// Faults of the consumers and followers of a process, shared with what reports its readiness.
#[derive(Debug, Clone, Default)]
pub struct KafkaStatus(Arc<Mutex<Faults>>);

impl KafkaStatus {
    /// Returns the faults, each with the name of its section in the settings; `None` if there are none.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Partitions often have the same fault.
        let described: BTreeSet<String> =
            faults.iter().map(|((part, ..), detail)| format!("{part}: {detail}")).collect();
        (!described.is_empty()).then(|| Vec::from_iter(described).join("; "))
    }

    /// Returns the faults of a part.
    pub(crate) fn of_part(&self, part: &str) -> PartStatus {
        PartStatus { part: part.into(), partition: None, status: self.clone() }
    }
}

/// Faults of one consumer or follower.
#[derive(Debug, Clone)]
pub(crate) struct PartStatus {
    part: Arc<str>,
    /// Topic and number of the partition, if the faults are those of one.
    partition: Option<Arc<str>>,
    status: KafkaStatus,
}

impl PartStatus {
    /// Returns the name of the part: `kafka.in.NAME` or `kafka.out.NAME`.
    pub(crate) fn part(&self) -> &str {
        &self.part
    }

    /// Returns the faults of a partition.
    pub(crate) fn of_partition(&self, topic: &str, number: i32) -> Self {
        Self { partition: Some(format!("{topic}/{number}").into()), ..self.clone() }
    }

    fn key(&self, cause: Cause) -> (Arc<str>, Cause, Option<Arc<str>>) {
        (Arc::clone(&self.part), cause, self.partition.clone())
    }

    /// Records a fault, in place of the previous one with the same cause.
    pub(crate) fn set(&self, cause: Cause, detail: &str) {
        let detail = detail.chars().take(MAX_DETAIL).collect();
        let mut faults = self.status.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.insert(self.key(cause), detail);
    }

    /// Removes the fault with a cause, if any.
    pub(crate) fn clear(&self, cause: Cause) {
        let mut faults = self.status.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.remove(&self.key(cause));
    }

    /// Returns true if there is a fault with a cause.
    pub(crate) fn has(&self, cause: Cause) -> bool {
        let faults = self.status.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.contains_key(&self.key(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_reported_until_they_are_cleared() {
        let status = KafkaStatus::default();
        let (first, second) = (status.of_part("kafka.in.a"), status.of_part("kafka.out.b"));
        assert_eq!(status.fault(), None);

        first.set(Cause::Connection, "all brokers are down");
        second.set(Cause::Delivery, "timed out");
        first.set(Cause::Connection, "cannot authenticate");
        assert_eq!(
            status.fault().as_deref(),
            Some("kafka.in.a: cannot authenticate; kafka.out.b: timed out")
        );

        first.clear(Cause::Connection);
        second.clear(Cause::Delivery);
        assert!(!first.has(Cause::Connection));
        assert_eq!(status.fault(), None);
    }
    #[test]
    fn a_partition_that_works_does_not_clear_the_fault_of_another() {
        let status = KafkaStatus::default();
        let part = status.of_part("kafka.in.a");
        let (first, second) = (part.of_partition("t", 0), part.of_partition("t", 1));

        first.set(Cause::Ledger, "cannot record messages");
        second.clear(Cause::Ledger);
        assert_eq!(status.fault().as_deref(), Some("kafka.in.a: cannot record messages"));

        first.clear(Cause::Ledger);
        assert_eq!(status.fault(), None);
    }
}
