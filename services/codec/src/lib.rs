//! The stored form of events, and the formats in which other tools read a composition.
//!
//! Owns every JSON form of an event ([`cloudevents`]) and every format of a [`manifest`]. Pure: bytes in, values out.
//! A [`cloudevents::Envelope`] is always well-formed, and its bytes are the ones that are stored permanently.

pub mod cloudevents;
pub mod gzip;
mod ijson;
pub mod manifest;
pub mod secrets;
