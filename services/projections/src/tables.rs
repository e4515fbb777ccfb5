//! Tables of a generation.
//!
//! Each module owns a group of tables: their rows, the writes that apply events to them, and the queries that need no
//! other group.

pub(crate) mod artifacts;
pub(crate) mod check_results;
pub(crate) mod clock_skews;
pub(crate) mod corrections;
pub(crate) mod deploys;
pub(crate) mod environments;
pub(crate) mod event_details;
pub(crate) mod events;
pub(crate) mod foreign_entries;
pub(crate) mod lane_projection;
pub(crate) mod lane_releases;
pub(crate) mod lanes;
pub(crate) mod live;
pub(crate) mod observations;
pub(crate) mod policies;
pub(crate) mod retirements;
pub(crate) mod rollbacks;
pub(crate) mod subscriptions;
