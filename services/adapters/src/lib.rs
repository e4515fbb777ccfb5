//! Formats of other tools as events of the ledger, and events of the ledger in formats of other tools.
//!
//! A foreign message is translated to events in the ledger's native format, CloudEvents in structured JSON of the types
//! in `schemas/events`; [`translation::Translation`] is the result. [`cdevents`] reads and writes CDEvents, [`hooks`]
//! reads the webhooks of other tools and verifies their signatures, [`import`] reads histories that they export;
//! [`names::Names`] maps foreign names. Pure: bytes, headers and settings in, values out.

pub mod cdevents;
pub mod hooks;
pub mod import;
pub mod names;
mod text;
pub mod translation;
mod uri;
