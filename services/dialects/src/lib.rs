//! Foreign words to domain events and back.
//!
//! Owns every JSON form of an event. Pure: bytes in, values out. What leaves here as an
//! [`cloudevents::Envelope`] is well-formed, and its bytes are the ones that are stored for ever.

pub mod cloudevents;
mod ijson;
