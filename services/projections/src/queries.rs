//! Queries that combine several tables.

pub(crate) mod deploy_frequency;
pub(crate) mod evidence;
pub(crate) mod find;
pub(crate) mod freezes;
pub(crate) mod marks;
pub(crate) mod point_at_time;
pub(crate) mod points;
pub(crate) mod search;
pub(crate) mod snapshot;
