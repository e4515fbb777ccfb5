//! Tests of contracts: the event schemas against the parser, the journals against their trait, and published examples
//! against the lock file.

mod events;
mod journal;
mod published;
