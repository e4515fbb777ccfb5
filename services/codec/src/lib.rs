//! Foreign words to domain events and back, and a composition in the words of other tools.
//!
//! Owns every JSON form of an event, and the forms of a [`manifest`]. Pure: bytes in, values out. What
//! leaves here as an [`cloudevents::Envelope`] is well-formed, and its bytes are the ones that are
//! stored for ever.

pub mod cloudevents;
mod ijson;
pub mod manifest;
