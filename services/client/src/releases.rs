//! Rows of a release history, one JSON object a line, as events.
//!
//! Invariants: an event's identity is derived from what its row says, so that a row has one effect however often the
//! history is imported, and with any rows before it; a row that is not valid is named by its line and field, and
//! never passed over unless that is asked for; memory does not grow with a history in the order of its times.

mod lines;
mod numbering;

use std::fmt::Write as _;
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
use self::numbering::{Key, Numbering, ReturningTimes};

/// The source of imported events, unless another is given.
pub(crate) const SOURCE: &str = "urn:release-ledger:import";

/// What the column `commit` of a history says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CommitColumn {
    /// The commit that the version was built from: a part of the release
    Build,
    /// The commit that deployed it, as in a `GitOps` repository: the name of the deployment
    Deployment,
}

/// How rows are read as events.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The events' source.
    pub source: Source,
    /// What the column `commit` says.
    pub commit_is: CommitColumn,
    /// A row of a later time is not valid: the ledger takes no event from the future.
    pub latest: DateTime<Utc>,
}

/// The columns of a row. Their values are checked one by one, so that an error names its field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    /// For people: nothing depends on it.
    n: Option<Value>,
    at: Option<Value>,
    environment: Option<Value>,
    service: Option<Value>,
    target: Option<Value>,
    slot: Option<Value>,
    /// `null`: nothing runs there any more. A row without the column is not valid: it must not remove anything.
    #[serde(default, deserialize_with = "given")]
    version: Option<Value>,
    artifact: Option<Value>,
    commit: Option<Value>,
    deployment: Option<Value>,
    actor: Option<Value>,
}

/// Tells `null` from a column that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A line of the history could not be made an event.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub(crate) struct Error {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It could not be read, nor anything behind it.
    #[error("cannot read it")]
    Unreadable(#[source] io::Error),
    /// It is longer than any row.
    #[error("more than {LINE_LIMIT} bytes")]
    TooLong,
    /// It is no row.
    #[error("not a row of a release history: {0}")]
    NotARow(String),
    /// A value of the row is not one.
    #[error("{field}: {detail}")]
    Value {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The event that it stands for is not one.
    #[error(transparent)]
    Invalid(Reason),
}

impl Error {
    /// Returns true if nothing behind the line can be read, so that the line cannot be skipped either.
    #[must_use]
    pub(crate) const fn is_fatal(&self) -> bool {
        matches!(self.fault, Fault::Unreadable(_))
    }
}

/// An event and the line that it comes from.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The line, counted from 1.
    pub line: u64,
    /// The event.
    pub envelope: Envelope,
}

/// What a first pass over a history found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// How many rows are valid.
    pub valid: u64,
    /// How many are not.
    pub invalid: u64,
    times: ReturningTimes,
}

/// Reads a history, plain or gzip, to its end; `report` gets what is wrong with each row that is not valid.
///
/// # Errors
/// The history cannot be read to its end.
pub(crate) fn check(
    history: impl BufRead + Send,
    reading: &Reading,
    mut report: impl FnMut(&Error),
) -> Result<Checked, Error> {
    let mut checked = Checked::default();
    for row in Rows::of(history, reading.clone())? {
        let imported = row.and_then(|row| {
            checked.times.add(row.occurred_at);
            row.imported(&reading.source, 1)
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

/// The events of a history that was checked, in the order of its rows. Rows that are not valid are left out if
/// `skip_invalid`; else the first of them, which was not there when the history was checked, is the last item.
///
/// # Errors
/// The first bytes cannot be read.
pub(crate) fn events<'r>(
    history: impl BufRead + Send + 'r,
    reading: Reading,
    checked: Checked,
    skip_invalid: bool,
) -> Result<Events<'r>, Error> {
    let source = reading.source.clone();
    let (rows, numbering) = (Rows::of(history, reading)?, Numbering::of(checked.times));
    Ok(Events { rows, numbering, source, skip_invalid, failed: false })
}

/// See [`events`].
pub(crate) struct Events<'r> {
    rows: Rows<'r>,
    numbering: Numbering,
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
                row.imported(&self.source, number)
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

/// The rows of a history. Ends where nothing more can be read.
struct Rows<'r> {
    lines: Lines<'r>,
    reading: Reading,
    ended: bool,
}

impl<'r> Rows<'r> {
    fn of(history: impl BufRead + Send + 'r, reading: Reading) -> Result<Self, Error> {
        let unreadable = |error| Error { line: 1, fault: Fault::Unreadable(error) };
        Ok(Self { lines: Lines::of(history).map_err(unreadable)?, reading, ended: false })
    }

    fn read(&mut self) -> Result<Option<Row>, Fault> {
        let line = self.lines.read().map_err(|error| match error {
            LineError::TooLong => Fault::TooLong,
            LineError::Unreadable(error) => Fault::Unreadable(error),
        })?;
        let Some(text) = line else { return Ok(None) };
        let columns = serde_json::from_slice(text).map_err(not_a_row)?;
        Row::of(&columns, self.lines.number(), &self.reading).map(Some)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read().map_err(|fault| Error { line: self.lines.number(), fault }).transpose();
        self.ended = row.as_ref().is_none_or(|row| row.as_ref().is_err_and(Error::is_fatal));
        row
    }
}

/// A row is a line of its own, so the place in it is its column.
fn not_a_row(error: serde_json::Error) -> Fault {
    Fault::NotARow(error.to_string().replace(" at line 1 column ", " at column "))
}

/// A row: what its lane runs from then on.
#[derive(Debug)]
struct Row {
    line: u64,
    occurred_at: DateTime<Utc>,
    content: Content,
    event: Event,
}

/// What a row's identity is made from, and what rows are equal by: environment, service, target, version and time.
#[derive(Debug)]
struct Content(Value);

impl Content {
    fn key(&self) -> Key {
        first_half(&Sha256::digest(self.0.to_string()))
    }

    /// 128 bits of SHA-256 over `["production","web",null,"v1","2026-08-01T12:00:00.000000Z",1]`: environment,
    /// service, target, version, time, and the number of the row among its equals.
    fn id(&self, number: u32) -> String {
        let mut parts = self.0.clone();
        parts.as_array_mut().into_iter().for_each(|parts| parts.push(number.into()));
        let hash = first_half(&Sha256::digest(parts.to_string()));
        hash.iter().fold(String::with_capacity(32), |mut digits, byte| {
            // Writing to a String cannot fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }
}

fn first_half(hash: &[u8]) -> Key {
    let mut half = Key::default();
    half.copy_from_slice(&hash[..size_of::<Key>()]);
    half
}

impl Row {
    fn of(columns: &Columns, line: u64, reading: &Reading) -> Result<Self, Fault> {
        if columns.n.as_ref().is_some_and(|n| !n.is_u64()) {
            return Err(wrong("n", "not a whole number"));
        }
        let occurred_at = time(required("at", &columns.at)?)?;
        if occurred_at > reading.latest {
            return Err(wrong("at", "in the future"));
        }
        let (environment, service) =
            (required("environment", &columns.environment)?, required("service", &columns.service)?);
        let target = optional("target", &columns.target)?;
        let version = match &columns.version {
            None => return Err(wrong("version", "missing; null where nothing runs any more")),
            Some(_) => optional("version", &columns.version)?,
        };
        let lane = lane(environment, service, target)?;
        let event = Event {
            payload: payload(columns, lane, version, reading.commit_is)?,
            actor: optional("actor", &columns.actor)?.map(actor).transpose()?,
            reason: None,
            links: Vec::new(),
            corrects: None,
        };
        let time = occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let content = Content(json!([environment, service, target, version, time]));
        Ok(Self { line, occurred_at, content, event })
    }

    /// The event of the n-th of equal rows.
    fn imported(self, source: &Source, number: u32) -> Result<Imported, Error> {
        let Self { line, occurred_at, content, event } = self;
        let envelope = value("identity", EventId::parse(&content.id(number))).and_then(|id| {
            let identity = Identity { source: source.clone(), id };
            Envelope::compose(identity, occurred_at, event).map_err(|invalid| Fault::Invalid(invalid.reason))
        });
        match envelope {
            Ok(envelope) => Ok(Imported { line, envelope }),
            Err(fault) => Err(Error { line, fault }),
        }
    }
}

fn lane(environment: &str, service: &str, target: Option<&str>) -> Result<LaneRef, Fault> {
    Ok(LaneRef {
        environment: value("environment", EnvironmentName::parse(environment))?,
        service: value("service", ServiceName::parse(service))?,
        target: parsed("target", target, TargetName::parse)?,
    })
}

/// A deploy, or a removal where nothing runs any more.
fn payload(
    columns: &Columns,
    lane: LaneRef,
    version: Option<&str>,
    commit_is: CommitColumn,
) -> Result<Payload, Fault> {
    let slot = parsed("slot", optional("slot", &columns.slot)?, SlotName::parse)?;
    let commit = parsed("commit", optional("commit", &columns.commit)?, ShortText::parse)?;
    let artifact = parsed("artifact", optional("artifact", &columns.artifact)?, Artifact::parse)?;
    let deployment = parsed("deployment", optional("deployment", &columns.deployment)?, ShortText::parse)?;
    let (commit, deployment) = match commit_is {
        CommitColumn::Build => (commit, deployment),
        CommitColumn::Deployment if commit.is_some() && deployment.is_some() => {
            return Err(wrong("deployment", "given, and commit is the deployment's name, too"));
        }
        CommitColumn::Deployment => (None, commit.or(deployment)),
    };
    let Some(version) = parsed("version", version, ShortText::parse)? else {
        if artifact.is_some() {
            return Err(wrong("artifact", "given, though nothing runs any more"));
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

fn wrong(field: &'static str, detail: &str) -> Fault {
    Fault::Value { field, detail: detail.to_owned() }
}

fn value<T>(field: &'static str, parsed: Result<T, impl ToString>) -> Result<T, Fault> {
    parsed.map_err(|error| Fault::Value { field, detail: error.to_string() })
}

fn parsed<T, E: ToString>(
    field: &'static str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Fault> {
    text.map(|text| value(field, parse(text))).transpose()
}

fn required<'v>(field: &'static str, value: &'v Option<Value>) -> Result<&'v str, Fault> {
    optional(field, value)?.ok_or_else(|| wrong(field, "missing"))
}

fn optional<'v>(field: &'static str, value: &'v Option<Value>) -> Result<Option<&'v str>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(field, "not a string")),
    }
}

/// Rows tell people from machines by the names that stand for hashed people.
fn actor(name: &str) -> Result<Actor, Fault> {
    let kind = if name.starts_with("person-") { "person" } else { "workload" };
    Ok(Actor { kind: value("actor", ShortText::parse(kind))?, name: value("actor", ShortText::parse(name))? })
}

fn time(text: &str) -> Result<DateTime<Utc>, Fault> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| "not an RFC 3339 time");
    Ok(value("at", time)?.with_timezone(&Utc).trunc_subsecs(6))
}

#[cfg(test)]
mod tests;
