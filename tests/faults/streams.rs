//! Stories of streams: the consumer and the producer of Kafka are killed, the service stops with a backlog, a group
//! rebalances, brokers are down, and many clients follow the ledger live.
//!
//! Each story panics at the first violation, and prints its figures at its end. The short versions are tests;
//! `ops/faults --streams` runs the long ones.

mod backlog;
mod broker_outage;
mod followers;
mod group;
mod kafka_in;
mod kafka_out;
mod load;
mod part;
mod topic;

pub(crate) use backlog::service_stops_with_a_backlog;
pub(crate) use broker_outage::broker_is_down;
pub(crate) use followers::clients_follow;
pub(crate) use group::group_rebalances;
pub(crate) use kafka_in::consumer_is_killed;
pub(crate) use kafka_out::producer_is_killed;
