//! Parses a release history, one JSON object per line, into events.
//!
//! Invariants: an event's identity is derived from the content of its row, so that a row has one effect
//! however often the history is imported, and regardless of the rows before it; an invalid row is reported
//! with its line and field, and skipped only on request; memory does not grow with a history in order of
//! time.

mod lines;
mod numbering;

use std::io::{self, BufRead};

use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use ledger_codec::cloudevents::{Envelope, Reason};
use ledger_domain::event::{Actor, Deploy, Ending, Event, Payload, Removal};
use ledger_domain::{
    Artifact, EnvironmentName, EventId, Identity, LaneRef, Release, ServiceName, ShortText, SlotName, Source,
    TargetName,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::lines::{LINE_LIMIT, LineError, Lines};
use self::numbering::{Key, RecurringTimes, RowNumbering};

/// The default source of imported events.
pub(crate) const SOURCE: &str = "urn:release-ledger:import";

/// The meaning of the column `commit` of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CommitColumn {
    /// The commit that the version was built from: part of the release
    Build,
    /// The commit that deployed the version, as in a `GitOps` repository: the name of the deployment
    Deployment,
}

/// Options for parsing rows into events.
#[derive(Debug, Clone)]
pub(crate) struct ParseOptions {
    /// The source of the events.
    pub source: Source,
    /// The meaning of the column `commit`.
    pub commit_column: CommitColumn,
    /// The latest valid time of a row: the ledger accepts no event from the future.
    pub latest: DateTime<Utc>,
}

/// The columns of a row, not parsed yet: each value is checked separately so that an error names its field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    /// The number of the row, for people only.
    n: Option<Value>,
    at: Option<Value>,
    environment: Option<Value>,
    service: Option<Value>,
    target: Option<Value>,
    slot: Option<Value>,
    /// `null` removes the service. A row without the column is invalid: a missing column must not remove
    /// anything.
    #[serde(default, deserialize_with = "present")]
    version: Option<Value>,
    artifact: Option<Value>,
    commit: Option<Value>,
    deployment: Option<Value>,
    actor: Option<Value>,
}

/// Distinguishes `null` from a missing column.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A line of the history could not be parsed into an event.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub(crate) struct Error {
    /// The line number, counted from 1.
    pub line: u64,
    /// The kind of error.
    #[source]
    pub kind: ErrorKind,
}

/// The kinds of errors of a line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ErrorKind {
    /// Neither the line nor anything after it could be read.
    #[error("cannot read the line")]
    Unreadable(#[source] io::Error),
    /// The line is too long.
    #[error("longer than {LINE_LIMIT} bytes")]
    TooLong,
    /// The line is not a row.
    #[error("not a row of a release history: {0}")]
    NotARow(String),
    /// A value of the row is invalid.
    #[error("{field}: {detail}")]
    Value {
        /// The column.
        field: &'static str,
        /// The error.
        detail: String,
    },
    /// The event of the row is invalid.
    #[error(transparent)]
    Invalid(Reason),
}

impl Error {
    /// Returns true if nothing after the line can be read, so that the line cannot be skipped.
    #[must_use]
    pub(crate) const fn is_fatal(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreadable(_))
    }
}

/// An event and the line that it was parsed from.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The line number, counted from 1.
    pub line: u64,
    /// The event.
    pub envelope: Envelope,
}

/// The result of checking a history.
#[derive(Debug, Default)]
pub(crate) struct CheckedHistory {
    /// Number of valid rows.
    pub valid: u64,
    /// Number of invalid rows.
    pub invalid: u64,
    times: RecurringTimes,
}

/// Checks all rows of a history, plain or gzip; calls `report` for each invalid row.
///
/// # Errors
/// The history cannot be read to its end.
pub(crate) fn check(
    history: impl BufRead + Send,
    options: &ParseOptions,
    mut report: impl FnMut(&Error),
) -> Result<CheckedHistory, Error> {
    let mut checked = CheckedHistory::default();
    for row in Rows::new(history, options.clone())? {
        let imported = row.and_then(|row| {
            checked.times.add(row.occurred_at);
            row.into_event(&options.source, 1)
        });
        match imported {
            Ok(_) => checked.valid += 1,
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                checked.invalid += 1;
                report(&error);
            }
        }
    }
    Ok(checked)
}

/// Returns the events of a checked history, in the order of its rows. Skips invalid rows if `skip_invalid`;
/// otherwise a row that became invalid after the check is the last item.
///
/// # Errors
/// The first bytes cannot be read.
pub(crate) fn events<'r>(
    history: impl BufRead + Send + 'r,
    options: ParseOptions,
    checked: CheckedHistory,
    skip_invalid: bool,
) -> Result<Events<'r>, Error> {
    let source = options.source.clone();
    let (rows, numbering) = (Rows::new(history, options)?, RowNumbering::new(checked.times));
    Ok(Events { rows, numbering, source, skip_invalid, failed: false })
}

/// Iterator returned by [`events`].
pub(crate) struct Events<'r> {
    rows: Rows<'r>,
    numbering: RowNumbering,
    source: Source,
    skip_invalid: bool,
    failed: bool,
}

impl Iterator for Events<'_> {
    type Item = Result<Imported, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            let imported = self.rows.next()?.and_then(|row| {
                let number = self.numbering.next(row.occurred_at, row.content.key());
                row.into_event(&self.source, number)
            });
            match imported {
                Err(error) if self.skip_invalid && !error.is_fatal() => {}
                imported => {
                    self.failed = imported.is_err();
                    return Some(imported);
                }
            }
        }
        None
    }
}

/// The rows of a history, up to the first read error.
struct Rows<'r> {
    lines: Lines<'r>,
    options: ParseOptions,
    ended: bool,
}

impl<'r> Rows<'r> {
    fn new(history: impl BufRead + Send + 'r, options: ParseOptions) -> Result<Self, Error> {
        let unreadable = |error| Error { line: 1, kind: ErrorKind::Unreadable(error) };
        Ok(Self { lines: Lines::new(history).map_err(unreadable)?, options, ended: false })
    }

    fn read(&mut self) -> Result<Option<Row>, ErrorKind> {
        let line = self.lines.read().map_err(|error| match error {
            LineError::TooLong => ErrorKind::TooLong,
            LineError::Unreadable(error) => ErrorKind::Unreadable(error),
        })?;
        let Some(text) = line else { return Ok(None) };
        let columns = serde_json::from_slice(text).map_err(not_a_row)?;
        Row::parse(&columns, self.lines.number(), &self.options).map(Some)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read().map_err(|kind| Error { line: self.lines.number(), kind }).transpose();
        self.ended = row.as_ref().is_none_or(|row| row.as_ref().is_err_and(Error::is_fatal));
        row
    }
}

/// Removes the line number from an error: each row is parsed separately, so only the column is meaningful.
fn not_a_row(error: serde_json::Error) -> ErrorKind {
    ErrorKind::NotARow(error.to_string().replace(" at line 1 column ", " at column "))
}

/// A parsed row: the release of its lane from a time on.
#[derive(Debug)]
struct Row {
    line: u64,
    occurred_at: DateTime<Utc>,
    content: Content,
    event: Event,
}

/// The content that determines a row's identity and equality: environment, service, target, version and time.
#[derive(Debug)]
struct Content(Value);

impl Content {
    fn key(&self) -> Key {
        leading_bytes(&Sha256::digest(self.0.to_string()))
    }

    /// Returns the event id: 128 bits of SHA-256 over
    /// `["production","web",null,"v1","2026-08-01T12:00:00.000000Z",1]`, which is environment, service,
    /// target, version, time, and the number of the row among equal rows.
    fn id(&self, number: u32) -> String {
        let mut parts = self.0.clone();
        parts.as_array_mut().into_iter().for_each(|parts| parts.push(number.into()));
        hex::encode(leading_bytes(&Sha256::digest(parts.to_string())))
    }
}

fn leading_bytes(hash: &[u8]) -> Key {
    let mut half = Key::default();
    half.copy_from_slice(&hash[..size_of::<Key>()]);
    half
}

impl Row {
    fn parse(columns: &Columns, line: u64, options: &ParseOptions) -> Result<Self, ErrorKind> {
        if columns.n.as_ref().is_some_and(|n| !n.is_u64()) {
            return Err(invalid("n", "not a non-negative integer"));
        }
        let occurred_at = time(required("at", &columns.at)?)?;
        if occurred_at > options.latest {
            return Err(invalid("at", "in the future"));
        }
        let (environment, service) =
            (required("environment", &columns.environment)?, required("service", &columns.service)?);
        let target = optional("target", &columns.target)?;
        let version = match &columns.version {
            None => return Err(invalid("version", "missing; use null for a removal")),
            Some(_) => optional("version", &columns.version)?,
        };
        let lane = lane(environment, service, target)?;
        let event = Event {
            payload: payload(columns, lane, version, options.commit_column)?,
            actor: optional("actor", &columns.actor)?.map(actor).transpose()?,
            reason: None,
            links: Vec::new(),
            sender: None,
            corrects: None,
        };
        let time = occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let content = Content(json!([environment, service, target, version, time]));
        Ok(Self { line, occurred_at, content, event })
    }

    /// Returns the event of the row that is the n-th among equal rows.
    fn into_event(self, source: &Source, number: u32) -> Result<Imported, Error> {
        let Self { line, occurred_at, content, event } = self;
        let envelope = value("identity", EventId::parse(&content.id(number))).and_then(|id| {
            let identity = Identity { source: source.clone(), id };
            Envelope::compose(identity, occurred_at, event)
                .map_err(|invalid| ErrorKind::Invalid(invalid.reason))
        });
        match envelope {
            Ok(envelope) => Ok(Imported { line, envelope }),
            Err(kind) => Err(Error { line, kind }),
        }
    }
}

fn lane(environment: &str, service: &str, target: Option<&str>) -> Result<LaneRef, ErrorKind> {
    Ok(LaneRef {
        environment: value("environment", EnvironmentName::parse(environment))?,
        service: value("service", ServiceName::parse(service))?,
        target: parsed("target", target, TargetName::parse)?,
    })
}

/// Returns a deploy, or a removal if the row has no version.
fn payload(
    columns: &Columns,
    lane: LaneRef,
    version: Option<&str>,
    commit_column: CommitColumn,
) -> Result<Payload, ErrorKind> {
    let slot = parsed("slot", optional("slot", &columns.slot)?, SlotName::parse)?;
    let commit = parsed("commit", optional("commit", &columns.commit)?, ShortText::parse)?;
    let artifact = parsed("artifact", optional("artifact", &columns.artifact)?, Artifact::parse)?;
    let deployment = parsed("deployment", optional("deployment", &columns.deployment)?, ShortText::parse)?;
    let (commit, deployment) = match commit_column {
        CommitColumn::Build => (commit, deployment),
        CommitColumn::Deployment if commit.is_some() && deployment.is_some() => {
            return Err(invalid("deployment", "conflicts with commit, which is the name of the deployment"));
        }
        CommitColumn::Deployment => (None, commit.or(deployment)),
    };
    let Some(version) = parsed("version", version, ShortText::parse)? else {
        if artifact.is_some() {
            return Err(invalid("artifact", "not allowed in a removal"));
        }
        return Ok(Payload::DeployRemoved(Removal { lane, slot, deployment, rollback_id: None }));
    };
    Ok(Payload::DeploySucceeded(Deploy {
        lane,
        slot,
        deployment,
        release: Release { artifact, commit, ..Release::of_version(version) },
        reversible: true,
        rollback_id: None,
        ending: Ending::default(),
    }))
}

fn invalid(field: &'static str, detail: &str) -> ErrorKind {
    ErrorKind::Value { field, detail: detail.to_owned() }
}

fn value<T>(field: &'static str, parsed: Result<T, impl ToString>) -> Result<T, ErrorKind> {
    parsed.map_err(|error| ErrorKind::Value { field, detail: error.to_string() })
}

fn parsed<T, E: ToString>(
    field: &'static str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, ErrorKind> {
    text.map(|text| value(field, parse(text))).transpose()
}

fn required<'v>(field: &'static str, value: &'v Option<Value>) -> Result<&'v str, ErrorKind> {
    optional(field, value)?.ok_or_else(|| invalid(field, "missing"))
}

fn optional<'v>(field: &'static str, value: &'v Option<Value>) -> Result<Option<&'v str>, ErrorKind> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(field, "not a string")),
    }
}

/// Parses an actor: names with the prefix `person-` stand for hashed names of people, all others are
/// workloads.
fn actor(name: &str) -> Result<Actor, ErrorKind> {
    let kind = if name.starts_with("person-") { "person" } else { "workload" };
    Ok(Actor { kind: value("actor", ShortText::parse(kind))?, name: value("actor", ShortText::parse(name))? })
}

fn time(text: &str) -> Result<DateTime<Utc>, ErrorKind> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| "not an RFC 3339 time");
    Ok(value("at", time)?.with_timezone(&Utc).trunc_subsecs(6))
}

#[cfg(test)]
mod tests;
