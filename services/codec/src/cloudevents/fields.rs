//! Reading an object's members: each with its place, and none left unread.

use std::cell::Cell;
use std::fmt;

use chrono::{DateTime, Utc};

use super::Reason;
use crate::ijson::{Json, Object};

/// A place in a document, written as an RFC 6901 JSON pointer.
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

/// The members of an object, being read. [`Fields::finish`] refuses what nobody asked for: a
/// misspelt optional member must not be lost in silence.
pub(super) struct Fields<'r, 'j> {
    object: &'r Object<'j>,
    at: Pointer<'r>,
    read: Cell<u64>,
}

impl<'r, 'j> Fields<'r, 'j> {
    pub(super) fn of(json: &'r Json<'j>, at: Pointer<'r>) -> Result<Self, Reason> {
        match json {
            Json::Object(object) if object.entries().len() > 64 => {
                Err(Reason::value(at.to_string(), "has more members than any object of an event"))
            }
            Json::Object(object) => Ok(Self { object, at, read: Cell::new(0) }),
            other => Err(Reason::value(at.to_string(), format!("must be an object, not {}", other.noun()))),
        }
    }

    pub(super) fn at(&self) -> String {
        self.at.to_string()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some()
    }

    pub(super) fn wrong(&self, name: &str, detail: impl ToString) -> Reason {
        Reason::value(Pointer::Member(&self.at, name).to_string(), detail)
    }

    fn take(&self, name: &str) -> Option<&'r Json<'j>> {
        let index = self.object.position(name)?;
        self.read.set(self.read.get() | 1 << index);
        self.object.entries().nth(index).map(|(_, value)| value)
    }

    fn need(&self, name: &str) -> Result<&'r Json<'j>, Reason> {
        self.take(name).ok_or_else(|| self.wrong(name, "is required"))
    }

    /// Reads a member through a function of its value and place.
    pub(super) fn maybe<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'r Json<'j>, Pointer<'_>) -> Result<T, Reason>,
    ) -> Result<Option<T>, Reason> {
        self.take(name).map(|value| read(value, Pointer::Member(&self.at, name))).transpose()
    }

    pub(super) fn member<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'r Json<'j>, Pointer<'_>) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        read(self.need(name)?, Pointer::Member(&self.at, name))
    }

    /// Reads a string that must parse.
    pub(super) fn text<T, E: fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Reason> {
        self.member(name, |value, at| text(value, at, parse))
    }

    pub(super) fn maybe_text<T, E: fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Reason> {
        self.maybe(name, |value, at| text(value, at, parse))
    }

    pub(super) fn maybe_time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Reason> {
        self.maybe_text(name, time)
    }

    pub(super) fn maybe_bool(&self, name: &str) -> Result<Option<bool>, Reason> {
        self.maybe(name, |value, at| match value {
            Json::Bool(value) => Ok(*value),
            other => Err(Reason::value(at.to_string(), format!("must be a boolean, not {}", other.noun()))),
        })
    }

    /// Reads a whole number that is not negative.
    pub(super) fn maybe_number<N: TryFrom<i64>>(&self, name: &str) -> Result<Option<N>, Reason> {
        self.maybe(name, number)
    }

    pub(super) fn number<N: TryFrom<i64>>(&self, name: &str) -> Result<N, Reason> {
        self.member(name, number)
    }

    /// Reads an array, item by item; without the member it is empty.
    pub(super) fn list<T>(
        &self,
        name: &str,
        mut read: impl FnMut(&'r Json<'j>, Pointer<'_>) -> Result<T, Reason>,
    ) -> Result<Vec<T>, Reason> {
        self.maybe(name, |value, at| match value {
            Json::Array(items) => {
                items.iter().enumerate().map(|(index, item)| read(item, Pointer::Item(&at, index))).collect()
            }
            other => Err(Reason::value(at.to_string(), format!("must be an array, not {}", other.noun()))),
        })
        .map(Option::unwrap_or_default)
    }

    pub(super) fn list_of_texts<T, E: fmt::Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Reason> {
        self.list(name, |value, at| text(value, at, &parse))
    }

    /// Every member must have been read.
    pub(super) fn finish(self) -> Result<(), Reason> {
        let unread = self.object.entries().enumerate().find(|(index, _)| self.read.get() & (1 << index) == 0);
        match unread {
            Some((_, (name, _))) => Err(self.wrong(name, "is not a member that this event knows")),
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
        other => Err(Reason::value(at.to_string(), format!("must be a string, not {}", other.noun()))),
    }
}

fn number<N: TryFrom<i64>>(value: &Json<'_>, at: Pointer<'_>) -> Result<N, Reason> {
    let wrong = || Reason::value(at.to_string(), "must be a whole number, not negative and not too large");
    match value {
        Json::Integer(number) if *number >= 0 => N::try_from(*number).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// An RFC 3339 time from 1970 on, in whole microseconds as Postgres keeps it.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    const WRONG: &str = "must be an RFC 3339 time, such as 2026-08-01T12:00:00Z";
    // chrono also reads a space for the T, and a minus sign that is not ASCII.
    if !text.is_ascii() || !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
        return Err(WRONG);
    }
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| WRONG)?;
    // A leap second is the second after it, here as in Postgres.
    let time = DateTime::from_timestamp_micros(time.timestamp_micros()).ok_or(WRONG)?;
    if time < DateTime::UNIX_EPOCH { Err("must not be before 1970") } else { Ok(time) }
}
