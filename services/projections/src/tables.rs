//! The tables of a generation: for each, its rows, how entries change them, and the reads that concern that table alone.

pub(crate) mod artifacts;
pub(crate) mod check_results;
pub(crate) mod clock_skews;
pub(crate) mod corrections;
pub(crate) mod deploys;
pub(crate) mod environments;
pub(crate) mod events;
pub(crate) mod lane_projection;
pub(crate) mod lanes;
pub(crate) mod live;
pub(crate) mod observations;
pub(crate) mod policies;
pub(crate) mod retirements;
pub(crate) mod rollbacks;
