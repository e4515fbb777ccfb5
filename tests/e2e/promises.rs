//! The promises of the design: each has a test that is named after it. The test
//! `bad_input_is_rejected_without_side_effects` is in `bad_input`, next to its table.

mod access;
mod durable;
mod no_downtime;
mod no_silent_rollback;
mod once;
mod past;
mod projections;
mod provable;
