//! Generations of the projections: building, comparing, activating and dropping them, and leasing each to one process.

pub(crate) mod cleanup;
pub(crate) mod continuity;
pub(crate) mod copy;
pub(crate) mod digest;
pub(crate) mod eligibility;
pub(crate) mod history;
pub(crate) mod indexes;
pub(crate) mod lease;
pub(crate) mod preferences;
pub(crate) mod reads;
pub(crate) mod rebuild;
pub(crate) mod rebuilder;
pub(crate) mod registry;
pub(crate) mod schema;
pub(crate) mod sessions;
pub(crate) mod supervisor;
pub(crate) mod tenants;
pub(crate) mod verify;
pub(crate) mod watcher;
pub(crate) mod webhooks;
