//! Rows of a release history, one JSON object a line, as events.
//!
//! Invariants: an event's identity is derived from its row, so that a row has one effect however
//! often it is imported; no row is skipped, and one that is not understood is named by its line.

use std::fmt::Write as _;
use std::io::{self, BufRead, Cursor, Read};

use chrono::{DateTime, SubsecRound as _, Utc};
use flate2::bufread::MultiGzDecoder;
use ledger_dialects::cloudevents::{Envelope, Reason};
use ledger_domain::event::{Actor, Deploy, Ending, Event, Fact, Removal};
use ledger_domain::{
    EnvironmentName, EventId, Identity, Lane, Line, Release, ServiceName, Source, TargetName,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The source of imported events, unless another is given.
pub const SOURCE: &str = "urn:release-ledger:import";

/// Bytes of a line at most: a row is far smaller.
const LINE_LIMIT: u64 = 65_536;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A row of the history: what its lane runs from then on.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Row {
    n: u64,
    at: String,
    environment: String,
    service: String,
    /// `null`: nothing runs there any more. A row without it is no row: it must not remove anything.
    #[serde(deserialize_with = "Option::deserialize")]
    version: Option<String>,
    commit: String,
    actor: String,
}

/// A line of the history could not be made an event.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub struct Error {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It could not be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is longer than any row.
    #[error("it has more than {LINE_LIMIT} bytes")]
    TooLong,
    /// It is no row.
    #[error("it is not a row of a release history: {0}")]
    NotARow(String),
    /// A value of the row is not one.
    #[error("{field} {detail}")]
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

/// An event and the line that it comes from.
#[derive(Debug)]
pub struct Imported {
    /// The line, counted from 1.
    pub line: u64,
    /// The event.
    pub envelope: Envelope,
}

/// The events of a release history, plain or gzip, in the order of its rows; empty lines are none.
///
/// # Errors
/// The first bytes cannot be read.
pub fn events<'r>(mut history: impl BufRead + Send + 'r, source: Source) -> io::Result<Events<'r>> {
    let mut magic = Vec::with_capacity(GZIP.len());
    history.by_ref().take(GZIP.len() as u64).read_to_end(&mut magic)?;
    let zipped = magic == GZIP;
    let whole = Cursor::new(magic).chain(history);
    let lines: Box<dyn BufRead + Send + 'r> =
        if zipped { Box::new(io::BufReader::new(MultiGzDecoder::new(whole))) } else { Box::new(whole) };
    Ok(Events { lines, source, line: 0, failed: false })
}

/// See [`events`]. Ends after the first error.
pub struct Events<'r> {
    lines: Box<dyn BufRead + Send + 'r>,
    source: Source,
    line: u64,
    failed: bool,
}

impl Events<'_> {
    fn read(&mut self) -> Result<Option<Envelope>, Fault> {
        let mut text = Vec::with_capacity(512);
        while text.trim_ascii().is_empty() {
            text.clear();
            self.line += 1;
            let mut limited = self.lines.by_ref().take(LINE_LIMIT + 1);
            let length = limited.read_until(b'\n', &mut text).map_err(Fault::Unreadable)?;
            if length == 0 {
                return Ok(None);
            }
            if length as u64 > LINE_LIMIT {
                return Err(Fault::TooLong);
            }
        }
        let row = serde_json::from_slice(&text).map_err(not_a_row)?;
        event(&row, &self.source).map(Some)
    }
}

/// A row is a line of its own, so of the place that JSON's reader tells only the column says anything.
fn not_a_row(error: serde_json::Error) -> Fault {
    Fault::NotARow(error.to_string().replace(" at line 1 column ", " at column "))
}

impl Iterator for Events<'_> {
    type Item = Result<Imported, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        let line = self.line;
        match read {
            Ok(envelope) => envelope.map(|envelope| Ok(Imported { line, envelope })),
            Err(fault) => Some(Err(Error { line, fault })),
        }
    }
}

fn event(row: &Row, source: &Source) -> Result<Envelope, Fault> {
    let lane = Lane {
        environment: value("environment", EnvironmentName::parse(&row.environment))?,
        service: value("service", ServiceName::parse(&row.service))?,
        target: TargetName::default(),
    };
    let deployment = Some(value("commit", Line::parse(&row.commit))?);
    let fact = match &row.version {
        Some(version) => Fact::DeploySucceeded(Deploy {
            lane,
            slot: None,
            deployment,
            release: Release::of_version(value("version", Line::parse(version))?),
            reversible: true,
            rollback_id: None,
            ending: Ending::default(),
        }),
        None => Fact::DeployRemoved(Removal { lane, slot: None, deployment, rollback_id: None }),
    };
    let event = Event { fact, actor: Some(actor(&row.actor)?), reason: None, links: Vec::new() };
    let id = value("identity", EventId::parse(&id(row)?))?;
    Envelope::compose(Identity { source: source.clone(), id }, time(&row.at)?, event)
        .map_err(|invalid| Fault::Invalid(invalid.reason))
}

fn value<T>(field: &'static str, parsed: Result<T, impl ToString>) -> Result<T, Fault> {
    parsed.map_err(|error| Fault::Value { field, detail: error.to_string() })
}

/// Rows tell people from machines by the names that stand for hashed people.
fn actor(name: &str) -> Result<Actor, Fault> {
    let kind = if name.starts_with("person-") { "person" } else { "workload" };
    Ok(Actor { kind: value("actor", Line::parse(kind))?, name: value("actor", Line::parse(name))? })
}

fn time(text: &str) -> Result<DateTime<Utc>, Fault> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| "is not an RFC 3339 time");
    Ok(value("at", time)?.with_timezone(&Utc).trunc_subsecs(6))
}

/// 128 bits of SHA-256 over the row, written anew as compact JSON with its fields in one order: so
/// neither spacing nor the order of fields matter, and no two rows have the same text.
fn id(row: &Row) -> Result<String, Fault> {
    let text = serde_json::to_vec(row).map_err(not_a_row)?;
    let hash = Sha256::digest(text);
    Ok(hash[..16].iter().fold(String::with_capacity(32), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    }))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const ROW: &str = r#"{"n":1,"at":"2022-10-10T10:40:23Z","environment":"integration","service":"asset-manager","version":"cbcdc480","commit":"f46f242f","actor":"person-60935d2e"}"#;

    fn read(history: &[u8]) -> Vec<Result<Imported, Error>> {
        events(history, Source::parse(SOURCE).expect("a source")).expect("bytes").collect()
    }

    fn one(row: &str) -> Envelope {
        let mut imported = read(row.as_bytes());
        assert_eq!(imported.len(), 1);
        imported.remove(0).expect("a row").envelope
    }

    fn error(history: &str) -> String {
        let last = read(history.as_bytes()).pop().expect("something");
        format!("{:#}", anyhow::Error::from(last.expect_err("a malformed row")))
    }

    #[test]
    fn a_row_is_a_deploy() {
        let envelope = one(ROW);
        assert_eq!(
            std::str::from_utf8(envelope.bytes()).expect("UTF-8"),
            concat!(
                r#"{"data":{"actor":{"name":"person-60935d2e","type":"person"},"deployment":"f46f242f","#,
                r#""environment":"integration","release":{"version":"cbcdc480"},"service":"asset-manager"},"#,
                r#""datacontenttype":"application/json","id":"52dc4d95baac3004449705f1c8e7c447","#,
                r#""source":"urn:release-ledger:import","specversion":"1.0","#,
                r#""subject":"integration/default/asset-manager","time":"2022-10-10T10:40:23Z","#,
                r#""type":"io.releaseledger.deploy.succeeded.v1"}"#
            )
        );
        assert_eq!(Envelope::parse(envelope.bytes()), Ok(envelope));
    }

    #[test]
    fn a_row_without_a_version_is_a_removal_and_machines_are_workloads() {
        let row = ROW.replace(r#""cbcdc480""#, "null").replace("person-60935d2e", "govuk-ci");
        let event = one(&row).event().clone();
        assert!(matches!(event.fact, Fact::DeployRemoved(_)));
        assert_eq!(event.actor.map(|actor| actor.kind.to_string()).as_deref(), Some("workload"));
    }

    #[test]
    fn the_identity_is_the_rows_and_not_its_spelling() {
        let spaced = ROW.replace(":", ": ").replace("10: 40: 23", "10:40:23");
        assert_eq!(one(&spaced).identity(), one(ROW).identity());
        for (from, to) in
            [("1,", "2,"), (":23Z", ":24Z"), ("integration", "staging"), ("\"cbcdc480\"", "null")]
        {
            assert_ne!(one(&ROW.replacen(from, to, 1)).identity(), one(ROW).identity(), "{from}");
        }
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
        io::Write::write_all(&mut zipped, format!("{ROW}\n\n{ROW}\n").as_bytes()).expect("memory");
        let imported = read(&zipped.finish().expect("memory"));
        let lines: Vec<u64> = imported.iter().flatten().map(|imported| imported.line).collect();
        assert_eq!(lines, [1, 3]);
        assert_eq!(read(b"").len(), 0);
    }

    #[test]
    fn a_malformed_row_is_named_by_its_line_and_is_the_last() {
        let bad = |from: &str, to: &str| error(&format!("{ROW}\n{}\n{ROW}\n", ROW.replace(from, to)));
        assert_eq!(bad("2022-10-10T", "yesterday"), "line 2: at is not an RFC 3339 time");
        assert!(bad("asset-manager", "asset manager").starts_with("line 2: service a name starts with"));
        assert!(bad(r#""version":"cbcdc480","#, "").contains("missing field `version`"));
        assert!(bad(r#""n":1"#, r#""n":1,"m":2"#).contains("unknown field `m`"));
        assert!(bad("}", "").starts_with("line 2: it is not a row of a release history: EOF"));
        let number = bad(r#""f46f242f""#, "7");
        assert!(number.contains("expected a string at column ") && !number.contains("line 1"), "{number}");
        assert!(bad("cbcdc480", &"x".repeat(70_000)).ends_with("has more than 65536 bytes"));
        assert_eq!(bad("f46f242f", ""), "line 2: commit must not be empty");
    }
}
