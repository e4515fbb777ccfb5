//! The promises of the design: a test each, named after it. `bad_input_harms_nobody` stands with its
//! table in `bad_input`.

mod durable;
mod folded;
mod no_downtime;
mod no_silent_rollback;
mod once;
mod past;
mod provable;
