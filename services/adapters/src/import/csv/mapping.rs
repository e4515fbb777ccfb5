//! The meaning of the columns of a table.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeZone as _, Utc};
use ledger_domain::{Source, parse_time};

use crate::names::Names;

/// The part of an event that a column states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// The time of the event. Required.
    Time,
    /// The outcome: a word of [`Mapping::outcomes`]. Required.
    Outcome,
    /// The environment. Required, unless there is a default.
    Environment,
    /// The service. Required, unless there is a default.
    Service,
    /// The target.
    Target,
    /// The slot.
    Slot,
    /// The version. Required, except in removals.
    Version,
    /// The artifact, by digest or package URL.
    Artifact,
    /// The digest of the configuration.
    Config,
    /// The revision of the infrastructure.
    Infrastructure,
    /// The commit that the version was built from.
    Commit,
    /// The name of the deployment.
    Deployment,
    /// The id of the event, unique in the table; derived from the row if no column states it.
    Id,
    /// The person or workload who did it.
    Actor,
    /// The reason.
    Reason,
}

impl Member {
    /// All members.
    pub const ALL: [Self; 15] = [
        Self::Time,
        Self::Outcome,
        Self::Environment,
        Self::Service,
        Self::Target,
        Self::Slot,
        Self::Version,
        Self::Artifact,
        Self::Config,
        Self::Infrastructure,
        Self::Commit,
        Self::Deployment,
        Self::Id,
        Self::Actor,
        Self::Reason,
    ];

    /// Returns the name in mappings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Outcome => "outcome",
            Self::Environment => "environment",
            Self::Service => "service",
            Self::Target => "target",
            Self::Slot => "slot",
            Self::Version => "version",
            Self::Artifact => "artifact",
            Self::Config => "config",
            Self::Infrastructure => "infrastructure",
            Self::Commit => "commit",
            Self::Deployment => "deployment",
            Self::Id => "id",
            Self::Actor => "actor",
            Self::Reason => "reason",
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Member {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        let found = Self::ALL.into_iter().find(|member| member.name() == text);
        found.ok_or_else(|| MappingError::Member(text.to_owned()))
    }
}

/// The outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Started,
    Succeeded,
    Failed,
    Removed,
}

impl Outcome {
    /// Returns the verb of the event.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }

    pub(super) fn of_verb(verb: &str) -> Option<Self> {
        [Self::Started, Self::Succeeded, Self::Failed, Self::Removed]
            .into_iter()
            .find(|outcome| outcome.verb() == verb)
    }
}

/// The form of times in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// RFC 3339: `2026-08-01T12:00:00Z`.
    #[default]
    Rfc3339,
    /// Seconds since 1970, whole or with a fraction.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMilliseconds,
    /// A pattern with the specifiers of `strftime`: `%d.%m.%Y %H:%M:%S`.
    Pattern {
        /// The pattern.
        pattern: String,
        /// The offset from UTC of times whose pattern has none.
        offset: Option<FixedOffset>,
    },
}

impl TimeFormat {
    /// Parses a time.
    ///
    /// # Errors
    /// The text does not have the form, or states a time before 1970.
    pub(super) fn parse(&self, text: &str) -> Result<DateTime<Utc>, String> {
        let time = match self {
            Self::Rfc3339 => parse_time(text).map_err(|error| error.to_string())?,
            Self::UnixSeconds => unix_seconds(text).ok_or("must be seconds since 1970")?,
            Self::UnixMilliseconds => {
                let milliseconds = text.parse().ok().and_then(DateTime::from_timestamp_millis);
                milliseconds.ok_or("must be milliseconds since 1970")?
            }
            Self::Pattern { pattern, offset } => {
                by_pattern(text, pattern, *offset).ok_or_else(|| format!("must have the form {pattern}"))?
            }
        };
        // Seconds read as milliseconds, and the other way around, are far off.
        if time.timestamp() <= 0 { Err("must be after 1970".to_owned()) } else { Ok(time) }
    }

    /// Checks that the pattern states a whole point in time.
    fn check(&self) -> Result<(), MappingError> {
        let Self::Pattern { pattern, offset } = self else { return Ok(()) };
        let states_offset =
            ["%z", "%:z", "%#z", "%+", "%s"].iter().any(|specifier| pattern.contains(specifier));
        if states_offset || offset.is_some() { Ok(()) } else { Err(MappingError::NoOffset) }
    }
}

/// Parses seconds without rounding through a binary fraction.
fn unix_seconds(text: &str) -> Option<DateTime<Utc>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros = format!("{fraction:0<6}").get(..6)?.parse::<u32>().ok()?;
    DateTime::from_timestamp(whole.parse().ok()?, micros * 1000)
}

fn by_pattern(text: &str, pattern: &str, offset: Option<FixedOffset>) -> Option<DateTime<Utc>> {
    match offset {
        None => Some(DateTime::parse_from_str(text, pattern).ok()?.with_timezone(&Utc)),
        Some(offset) => {
            let local = NaiveDateTime::parse_from_str(text, pattern).ok()?;
            Some(offset.from_local_datetime(&local).single()?.with_timezone(&Utc))
        }
    }
}

/// The meaning of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The column of each member that a column states.
    pub columns: BTreeMap<Member, String>,
    /// The value of each member that no column states, or whose field is empty.
    pub constants: BTreeMap<Member, String>,
    /// The form of times.
    pub time_format: TimeFormat,
    /// The words of the table for `started`, `succeeded`, `failed`, `removed` and `ignored`, in lower case. These words
    /// themselves need no entry.
    pub outcomes: BTreeMap<String, String>,
    /// The type of actors: `person` or `workload`.
    pub actor_type: String,
    /// The separator of fields.
    pub delimiter: u8,
    /// The source of the events.
    pub source: Source,
    /// The names of the ledger for those in the table.
    pub names: Names,
}

/// Reason why a table cannot be read with a mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// The header row cannot be read.
    #[error("the header row cannot be read: {0}")]
    Header(String),
    /// A name is not that of a member.
    #[error(
        "{0:?} is not time, outcome, environment, service, target, slot, version, artifact, config, \
             infrastructure, commit, deployment, id, actor or reason"
    )]
    Member(String),
    /// The table does not have a column.
    #[error("the table has no column {column:?} for {member}; its columns are {columns}")]
    NoColumn {
        /// The member.
        member: Member,
        /// The column.
        column: String,
        /// The columns of the table.
        columns: String,
    },
    /// The table has a column several times.
    #[error("the table has the column {0:?} several times")]
    RepeatedColumn(String),
    /// A required member has neither a column nor a constant.
    #[error("map {0} to a column, or give it a constant value")]
    Unmapped(Member),
    /// Outcomes are translated to a word that is no outcome.
    #[error("the outcome {0:?} is not started, succeeded, failed, removed or ignored")]
    Outcome(String),
    /// The pattern of times states no offset, and none is given.
    #[error("the pattern of times has no offset (%z): give the offset from UTC")]
    NoOffset,
}

/// The index of each member's column.
pub(super) type Columns = BTreeMap<Member, usize>;

impl Mapping {
    /// Creates a mapping without columns: times in RFC 3339, fields separated by commas, actors that are workloads.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            columns: BTreeMap::new(),
            constants: BTreeMap::new(),
            time_format: TimeFormat::default(),
            outcomes: BTreeMap::new(),
            actor_type: "workload".to_owned(),
            delimiter: b',',
            source,
            names: Names::default(),
        }
    }

    /// Finds the columns of a table.
    pub(super) fn columns(&self, headers: &[String]) -> Result<Columns, MappingError> {
        self.time_format.check()?;
        if let Some(word) = self.outcomes.values().find(|word| !is_outcome(word)) {
            return Err(MappingError::Outcome(word.clone()));
        }
        if let Some(required) = [Member::Time, Member::Outcome].iter().find(|member| !self.states(**member)) {
            return Err(MappingError::Unmapped(*required));
        }
        let mut columns = Columns::new();
        for (member, column) in &self.columns {
            let mut found = headers.iter().enumerate().filter(|(_, header)| *header == column);
            let Some((index, _)) = found.next() else {
                let columns = headers.join(", ");
                return Err(MappingError::NoColumn { member: *member, column: column.clone(), columns });
            };
            if found.next().is_some() {
                return Err(MappingError::RepeatedColumn(column.clone()));
            }
            columns.insert(*member, index);
        }
        Ok(columns)
    }

    fn states(&self, member: Member) -> bool {
        self.columns.contains_key(&member) || self.constants.contains_key(&member)
    }

    /// Returns the outcome of a word of the table; `None` if rows with it are ignored.
    ///
    /// # Errors
    /// The word is unknown.
    pub(super) fn outcome(&self, word: &str) -> Result<Option<Outcome>, String> {
        let lower = word.to_lowercase();
        let verb = self.outcomes.get(&lower).unwrap_or(&lower);
        match Outcome::of_verb(verb) {
            Some(outcome) => Ok(Some(outcome)),
            None if verb == "ignored" => Ok(None),
            None => Err(format!(
                "{word:?} is an unknown outcome: say whether it is started, succeeded, failed, removed or ignored"
            )),
        }
    }
}

fn is_outcome(word: &str) -> bool {
    word == "ignored" || Outcome::of_verb(word).is_some()
}
