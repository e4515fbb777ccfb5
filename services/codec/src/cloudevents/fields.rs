//! A reader of an object's members that reports the place of a fault and rejects unread members.

use std::cell::Cell;
use std::fmt;

use chrono::{DateTime, Utc};
use ledger_domain::parse_stored_time;

use super::error::Reason;
use crate::ijson::{Json, Object};

/// A place in a document, displayed as an RFC 6901 JSON pointer.
#[derive(Clone, Copy)]
pub(super) enum Pointer<'p> {
    Root,
    Data,
    Member(&'p Pointer<'p>, &'p str),
    Item(&'p Pointer<'p>, usize),
}

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Data => f.write_str("/data"),
            Self::Member(parent, name) => {
                write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
            }
            Self::Item(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// The maximum number of members of an object: one bit of `Fields::read` each. No object of an event has more.
const MEMBER_LIMIT: usize = u64::BITS as usize;

/// A reader of an object's members. [`Fields::finish`] rejects members that were not read: a misspelt optional member
/// must not be dropped silently.
pub(super) struct Fields<'r, 'j> {
    object: &'r Object<'j>,
    at: Pointer<'r>,
    /// A bit for each member that has been read, by its index.
    read: Cell<u64>,
}

impl<'r, 'j> Fields<'r, 'j> {
    pub(super) fn new(json: &'r Json<'j>, at: Pointer<'r>) -> Result<Self, Reason> {
        match json {
            Json::Object(object) if object.entries().len() > MEMBER_LIMIT => {
                Err(Reason::value(at.to_string(), format!("has more than {MEMBER_LIMIT} members")))
            }
            Json::Object(object) => Ok(Self { object, at, read: Cell::new(0) }),
            other => {
                Err(Reason::value(at.to_string(), format!("must be an object, not {}", other.type_phrase())))
            }
        }
    }

    pub(super) fn pointer(&self) -> String {
        self.at.to_string()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some()
    }

    pub(super) fn invalid(&self, name: &str, detail: impl ToString) -> Reason {
        Reason::value(Pointer::Member(&self.at, name).to_string(), detail)
    }

    fn take(&self, name: &str) -> Option<&'r Json<'j>> {
        let index = self.object.position(name)?;
        self.read.set(self.read.get() | 1 << index);
        self.object.entries().nth(index).map(|(_, value)| value)
    }

    fn take_required(&self, name: &str) -> Result<&'r Json<'j>, Reason> {
        self.take(name).ok_or_else(|| self.invalid(name, "is required"))
    }

    /// Reads an optional member with a function of its value and its place.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'r Json<'j>, Pointer<'_>) -> Result<T, Reason>,
    ) -> Result<Option<T>, Reason> {
        self.take(name).map(|value| read(value, Pointer::Member(&self.at, name))).transpose()
    }

    /// Reads a required member with a function of its value and its place.
    pub(super) fn required<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'r Json<'j>, Pointer<'_>) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        read(self.take_required(name)?, Pointer::Member(&self.at, name))
    }

    /// Reads a required string and parses it.
    pub(super) fn text<T, E: fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Reason> {
        self.required(name, |value, at| text(value, at, parse))
    }

    pub(super) fn optional_text<T, E: fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Reason> {
        self.optional(name, |value, at| text(value, at, parse))
    }

    pub(super) fn optional_time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Reason> {
        self.optional_text(name, time)
    }

    pub(super) fn optional_bool(&self, name: &str) -> Result<Option<bool>, Reason> {
        self.optional(name, |value, at| match value {
            Json::Bool(value) => Ok(*value),
            other => {
                Err(Reason::value(at.to_string(), format!("must be a boolean, not {}", other.type_phrase())))
            }
        })
    }

    /// Reads an optional non-negative integer.
    pub(super) fn optional_number<N: TryFrom<i64>>(&self, name: &str) -> Result<Option<N>, Reason> {
        self.optional(name, number)
    }

    pub(super) fn number<N: TryFrom<i64>>(&self, name: &str) -> Result<N, Reason> {
        self.required(name, number)
    }

    /// Reads an array item by item; a missing member is an empty array.
    pub(super) fn list<T>(
        &self,
        name: &str,
        mut read: impl FnMut(&'r Json<'j>, Pointer<'_>) -> Result<T, Reason>,
    ) -> Result<Vec<T>, Reason> {
        self.optional(name, |value, at| match value {
            Json::Array(items) => {
                items.iter().enumerate().map(|(index, item)| read(item, Pointer::Item(&at, index))).collect()
            }
            other => {
                Err(Reason::value(at.to_string(), format!("must be an array, not {}", other.type_phrase())))
            }
        })
        .map(Option::unwrap_or_default)
    }

    /// Reads an array of strings and parses each.
    pub(super) fn text_list<T, E: fmt::Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Reason> {
        self.list(name, |value, at| text(value, at, &parse))
    }

    /// Fails if a member has not been read.
    pub(super) fn finish(self) -> Result<(), Reason> {
        let unread = self.object.entries().enumerate().find(|(index, _)| self.read.get() & (1 << index) == 0);
        match unread {
            Some((_, (name, _))) => Err(self.invalid(name, "is not a known member")),
            None => Ok(()),
        }
    }
}

pub(super) fn text<T, E: fmt::Display>(
    value: &Json<'_>,
    at: Pointer<'_>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Reason> {
    match value {
        Json::String(text) => parse(text).map_err(|error| Reason::value(at.to_string(), error)),
        other => Err(Reason::value(at.to_string(), format!("must be a string, not {}", other.type_phrase()))),
    }
}

fn number<N: TryFrom<i64>>(value: &Json<'_>, at: Pointer<'_>) -> Result<N, Reason> {
    let invalid = || Reason::value(at.to_string(), "must be a non-negative integer within range");
    match value {
        Json::Integer(number) if *number >= 0 => N::try_from(*number).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

/// Parses a stored RFC 3339 time from 1970 on, truncated to whole microseconds.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = parse_stored_time(text).map_err(|error| error.to_string())?;
    if time < DateTime::UNIX_EPOCH { Err("must not be before 1970".to_owned()) } else { Ok(time) }
}
