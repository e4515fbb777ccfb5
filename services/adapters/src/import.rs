//! Exported histories of other tools as events of the ledger.
//!
//! [`decode()`] unpacks a file; [`github`], [`gitlab`], [`csv`] and [`cdviz`] translate it. Rows that cannot be
//! translated are collected with their numbers and reasons, so that all of them can be reported before anything is
//! recorded. An event's identity is derived from what the row states, never from its number: a file that is exported
//! again with more rows yields the same events, and equal rows are one event.

pub mod cdviz;
pub mod csv;
pub mod decode;
pub mod github;
pub mod gitlab;
pub mod imported;
mod json_stream;
mod records;

pub use decode::{DecodeError, decode};
pub use imported::{Imported, ImportedEvent, RowNote};
