//! What others rely on is what the code does: the schemas held against the parser, the journals held
//! against their trait.

mod events;
mod journal;
mod published;
