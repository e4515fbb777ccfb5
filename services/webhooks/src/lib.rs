//! Outgoing webhooks: delivers the ledger's entries to the receivers that subscriptions name.
//!
//! One process delivers for a tenant: the holder of the lease. Each subscription has a task and a position of its own, so
//! that a receiver that hangs delays no other one. One watcher reads the new entries and wakes the tasks whose filter they
//! pass.
//!
//! Invariants: an entry is sent only after the one before it was acknowledged, and a position is stored only after the
//! entry was; so nothing is left out or reordered, and after a crash at most the entry in flight is repeated, with the
//! same `webhook-id`. A connection goes only to an address that [`guard::AddressGuard`] allows. What a receiver answers is
//! bounded, and is escaped before it is stored.

mod backoff;
mod context;
mod deliverer;
pub mod guard;
mod sender;
mod settings;
mod worker;
mod workers;

pub use context::{Deliveries, Render, Subscriber};
pub use deliverer::Deliverer;
pub use guard::{InvalidNetwork, Network};
pub use sender::SetupError;
pub use settings::Settings;
