//! Messages of brokers in, sealed entries out: what every broker, and every other system that follows the ledger, has in
//! common. Knows no broker.
//!
//! Invariants: a message is acknowledged to its broker only after its receipt says that it needs no redelivery. A position
//! is stored only after everything up to it was delivered, and only while this process holds the lease: what is delivered
//! may be delivered again, and nothing is left out.

pub mod follower;
pub mod inbound;
pub mod position;
