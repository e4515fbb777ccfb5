//! A segment: entries of consecutive positions, a line of JSON each, compressed.
//!
//! An entry is `{"position":1,"recorded_at":"…","event":{…}}`, where the event is the entry's bytes as they
//! stand; bytes that are no JSON on one line stand in Base64 under `base64`. A gap is
//! `{"position":2,"gap":true}`. A record has one form only: a line that would be written otherwise is refused.

use std::io::{BufRead as _, BufReader, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_domain::Position;
use ledger_journal::{Entry, Record};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How much effort zstd makes: its own choice.
const LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    position: u64,
    recorded_at: Option<DateTime<Utc>>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    base64: Option<String>,
    gap: Option<bool>,
}

/// Where a segment's text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: position {position}: {fault}")]
pub(crate) struct LineError {
    /// Which line, from 1.
    line: u64,
    /// The position that belongs there.
    position: Position,
    /// What is wrong.
    fault: String,
}

/// Adds a record's line to a text.
pub(crate) fn write_line(record: &Record, text: &mut Vec<u8>) {
    let position = record.position();
    match record {
        Record::Gap(_) => text.extend(format!(r#"{{"position":{position},"gap":true}}"#).into_bytes()),
        Record::Entry(entry) => {
            let time = entry.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true);
            text.extend(format!(r#"{{"position":{position},"recorded_at":"{time}","#).into_bytes());
            match is_one_line_of_json(&entry.bytes) {
                true => {
                    text.extend_from_slice(br#""event":"#);
                    text.extend_from_slice(&entry.bytes);
                    text.push(b'}');
                }
                false => {
                    let encoded = STANDARD.encode(&entry.bytes);
                    text.extend(format!(r#""base64":"{encoded}"}}"#).into_bytes());
                }
            }
        }
    }
    text.push(b'\n');
}

/// Whether a reader finds exactly these bytes again when they stand inside of a line. Of `null` it finds that there is
/// nothing.
fn is_one_line_of_json(bytes: &[u8]) -> bool {
    let read = serde_json::from_slice::<&RawValue>(bytes);
    read.is_ok_and(|value| value.get().as_bytes() == bytes && !bytes.contains(&b'\n') && bytes != b"null")
}

fn read_line(line: &[u8]) -> Result<Record, String> {
    let read: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let position = Position::new(read.position);
    let record = match (read.recorded_at, read.event, read.base64, read.gap) {
        (None, None, None, Some(true)) => Record::Gap(position),
        (Some(recorded_at), event, base64, None) => {
            let bytes = match (event, base64) {
                (Some(event), None) => event.get().as_bytes().to_vec(),
                (None, Some(text)) => STANDARD.decode(text).map_err(|error| error.to_string())?,
                _ => return Err("an entry has either `event` or `base64`".into()),
            };
            Record::Entry(Entry { position, recorded_at, bytes: bytes.into() })
        }
        _ => return Err("it is neither an entry nor a gap".into()),
    };
    let mut again = Vec::with_capacity(line.len() + 1);
    write_line(&record, &mut again);
    if again.strip_suffix(b"\n") != Some(line) {
        return Err("it is not written as an archive writes it".into());
    }
    Ok(record)
}

/// Compresses a text.
pub(crate) fn compress(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    std::io::Write::write_all(&mut encoder, text)?;
    encoder.finish()
}

/// What could be read of a segment: its text and its records, up to the first line that is wrong.
pub(crate) struct Found {
    pub(crate) text: Vec<u8>,
    pub(crate) records: Vec<Record>,
    pub(crate) fault: Option<LineError>,
}

/// Reads a segment that begins at a position, and whose text has at most so many bytes.
pub(crate) fn read(compressed: &[u8], first: Position, at_most: u64) -> Found {
    let mut found = Found { text: Vec::new(), records: Vec::new(), fault: None };
    let mut position = first;
    let fault = |found: &Found, position, fault: String| {
        Some(LineError { line: found.records.len() as u64 + 1, position, fault })
    };
    let decoder = match zstd::Decoder::new(compressed) {
        Ok(decoder) => decoder,
        Err(error) => {
            found.fault = fault(&found, position, unreadable(&error));
            return found;
        }
    };
    // One byte more tells that there is more.
    let mut reader = BufReader::new(decoder.take(at_most.saturating_add(1)));
    loop {
        let start = found.text.len();
        let read = reader.read_until(b'\n', &mut found.text);
        let line = &found.text[start..];
        let judged = match read {
            Err(error) => Err(unreadable(&error)),
            Ok(0) => return found,
            Ok(_) => match line.strip_suffix(b"\n") {
                Some(line) => read_line(line),
                None => Err("it does not end".into()),
            },
        };
        match judged {
            Ok(record) if record.position() == position => {
                found.records.push(record);
                position = position.next();
            }
            Ok(record) => {
                let text = format!("position {} stands there", record.position());
                found.fault = fault(&found, position, text);
                return found;
            }
            Err(text) => {
                found.fault = fault(&found, position, text);
                return found;
            }
        }
    }
}

fn unreadable(error: &std::io::Error) -> String {
    format!("it cannot be decompressed: {error}")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn entry(position: u64, micros: i64, bytes: impl Into<Vec<u8>>) -> Record {
        let recorded_at = DateTime::UNIX_EPOCH + TimeDelta::microseconds(micros);
        let bytes = bytes.into().into();
        Record::Entry(Entry { position: Position::new(position), recorded_at, bytes })
    }

    fn text_of(records: &[Record]) -> Vec<u8> {
        let mut text = Vec::new();
        records.iter().for_each(|record| write_line(record, &mut text));
        text
    }

    fn read_text(text: &[u8]) -> Found {
        read(&compress(text).expect("compressed"), Position::new(1), 1 << 20)
    }

    #[test]
    fn null_is_an_entry_as_any_other() {
        let records = [entry(1, 0, "null"), entry(2, 0, "\"null\"")];

        let found = read_text(&text_of(&records));

        assert_eq!((found.fault, found.records), (None, records.to_vec()));
    }

    #[test]
    fn an_entry_stands_on_a_line_with_its_bytes_as_they_are() {
        let records = [
            entry(1, 1_700_000_000_000_001, r#"{"a":"é\u0000","b":[1.5e300,{}]}"#),
            Record::Gap(Position::new(2)),
        ];

        let text = text_of(&records);

        assert_eq!(
            String::from_utf8(text).expect("UTF-8"),
            "{\"position\":1,\"recorded_at\":\"2023-11-14T22:13:20.000001Z\",\
             \"event\":{\"a\":\"é\\u0000\",\"b\":[1.5e300,{}]}}\n{\"position\":2,\"gap\":true}\n"
        );
    }

    #[test]
    fn a_line_that_is_not_as_it_was_written_is_named() {
        let good = r#"{"position":1,"gap":true}"#;
        let wrong = [
            r#"{"position":2, "gap":true}"#,
            r#"{"gap":true,"position":2}"#,
            r#"{"position":2,"gap":false}"#,
            r#"{"position":2}"#,
            r#"{"position":2,"recorded_at":"2023-11-14T22:13:20Z","event":{}}"#,
            r#"{"position":2,"recorded_at":"2023-11-14T22:13:20.000001Z"}"#,
            r#"{"position":2,"recorded_at":"2023-11-14T22:13:20.000001Z","base64":"e30="}"#,
            r#"{"position":2,"gap":true,"more":1}"#,
            r#"{"position":3,"gap":true}"#,
            "",
        ];
        for line in wrong {
            let found = read_text(format!("{good}\n{line}\n").as_bytes());

            let fault = found.fault.expect(line).to_string();
            assert!(fault.starts_with("line 2: position 2: "), "{fault}");
            assert_eq!(found.records.len(), 1);
        }
    }

    #[test]
    fn a_text_that_is_cut_off_is_seen() {
        let text = text_of(&[Record::Gap(Position::new(1)), Record::Gap(Position::new(2))]);

        let found = read_text(&text[..text.len() - 1]);

        assert_eq!(found.fault.expect("cut off").to_string(), "line 2: position 2: it does not end");
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "\\PC{0,20}".prop_map(|text| serde_json::to_vec(&[text]).expect("JSON")),
            "[ \n]?\\{\"a\":[0-9]{1,30}\\}[ \n]?".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_byte_for_byte(
            written in prop::collection::vec((any::<bool>(), 0..4_000_000_000_000_000_i64, bytes()), 0..20),
        ) {
            let records: Vec<Record> = (1..).zip(written).map(|(position, (gap, micros, bytes))| {
                if gap { Record::Gap(Position::new(position)) } else { entry(position, micros, bytes) }
            }).collect();

            let found = read_text(&text_of(&records));

            prop_assert_eq!(found.fault, None);
            prop_assert_eq!(found.records, records);
        }
    }
}
