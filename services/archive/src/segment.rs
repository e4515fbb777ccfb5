//! A segment: entries of consecutive positions, one line of JSON each, compressed with zstd.
//!
//! An entry is `{"position":1,"recorded_at":"…","event":{…}}`, where `event` holds the entry's bytes unchanged. Bytes
//! that cannot be embedded in a line of JSON are in Base64 under `base64` instead.
//! A gap is `{"position":2,"gap":true}`.
//! Each record has exactly one form; the reader rejects a line in any other.

use std::io::{BufRead as _, BufReader, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_domain::Position;
use ledger_journal::{Entry, Record};
use serde::Deserialize;
use serde_json::value::RawValue;

const COMPRESSION_LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLine<'a> {
    position: u64,
    recorded_at: Option<DateTime<Utc>>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    base64: Option<String>,
    gap: Option<bool>,
}

/// The first invalid line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, position {position}: {fault}")]
pub(crate) struct LineError {
    /// Line number, from 1.
    line: u64,
    /// Position that the line should have.
    position: Position,
    fault: String,
}

/// Appends the line of a record, with its line break.
pub(crate) fn write_line(record: &Record, text: &mut Vec<u8>) {
    let position = record.position();
    match record {
        Record::Gap(_) => text.extend(format!(r#"{{"position":{position},"gap":true}}"#).into_bytes()),
        Record::Entry(entry) => {
            let time = entry.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true);
            text.extend(format!(r#"{{"position":{position},"recorded_at":"{time}","#).into_bytes());
            match is_embeddable(&entry.bytes) {
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

/// Returns true if a reader gets exactly these bytes back when they are embedded in a line. Excludes `null`, which is
/// read as an absent event.
fn is_embeddable(bytes: &[u8]) -> bool {
    let parsed = serde_json::from_slice::<&RawValue>(bytes);
    parsed.is_ok_and(|value| value.get().as_bytes() == bytes && !bytes.contains(&b'\n') && bytes != b"null")
}

fn read_line(line: &[u8]) -> Result<Record, String> {
    let stored: StoredLine<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let position = Position::new(stored.position);
    let record = match (stored.recorded_at, stored.event, stored.base64, stored.gap) {
        (None, None, None, Some(true)) => Record::Gap(position),
        (Some(recorded_at), event, base64, None) => {
            let bytes = match (event, base64) {
                (Some(event), None) => event.get().as_bytes().to_vec(),
                (None, Some(text)) => STANDARD.decode(text).map_err(|error| error.to_string())?,
                _ => return Err("an entry needs either `event` or `base64`".into()),
            };
            Record::Entry(Entry { position, recorded_at, bytes: bytes.into() })
        }
        _ => return Err("neither an entry nor a gap".into()),
    };
    let mut canonical = Vec::with_capacity(line.len() + 1);
    write_line(&record, &mut canonical);
    if canonical.strip_suffix(b"\n") != Some(line) {
        return Err("not in canonical form".into());
    }
    Ok(record)
}

/// Compresses a segment's text, with a checksum.
pub(crate) fn compress(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    std::io::Write::write_all(&mut encoder, text)?;
    encoder.finish()
}

/// The readable part of a segment: its text and records up to the first invalid line.
pub(crate) struct SegmentContents {
    pub(crate) text: Vec<u8>,
    pub(crate) records: Vec<Record>,
    /// The first invalid line, which ends the reading; `text` includes it, `records` does not.
    pub(crate) fault: Option<LineError>,
}

/// Reads a compressed segment that starts at the position `first`. Decompresses at most `max_text_bytes` + 1 bytes.
pub(crate) fn read(compressed: &[u8], first: Position, max_text_bytes: u64) -> SegmentContents {
    let mut contents = SegmentContents { text: Vec::new(), records: Vec::new(), fault: None };
    let mut position = first;
    let line_error = |contents: &SegmentContents, position, fault: String| {
        Some(LineError { line: contents.records.len() as u64 + 1, position, fault })
    };
    let decoder = match zstd::Decoder::new(compressed) {
        Ok(decoder) => decoder,
        Err(error) => {
            contents.fault = line_error(&contents, position, decompression_fault(&error));
            return contents;
        }
    };
    // The additional byte makes a text that is too long differ from the expected one.
    let mut reader = BufReader::new(decoder.take(max_text_bytes.saturating_add(1)));
    loop {
        let start = contents.text.len();
        let read = reader.read_until(b'\n', &mut contents.text);
        let line = &contents.text[start..];
        let parsed = match read {
            Err(error) => Err(decompression_fault(&error)),
            Ok(0) => return contents,
            Ok(_) => match line.strip_suffix(b"\n") {
                Some(line) => read_line(line),
                None => Err("the line is truncated".into()),
            },
        };
        match parsed {
            Ok(record) if record.position() == position => {
                contents.records.push(record);
                position = position.next();
            }
            Ok(record) => {
                let fault = format!("found position {}", record.position());
                contents.fault = line_error(&contents, position, fault);
                return contents;
            }
            Err(fault) => {
                contents.fault = line_error(&contents, position, fault);
                return contents;
            }
        }
    }
}

fn decompression_fault(error: &std::io::Error) -> String {
    format!("cannot decompress: {error}")
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

    fn read_text(text: &[u8]) -> SegmentContents {
        read(&compress(text).expect("compressed"), Position::new(1), 1 << 20)
    }

    #[test]
    fn an_entry_with_the_bytes_null_is_read_back() {
        let records = [entry(1, 0, "null"), entry(2, 0, "\"null\"")];

        let found = read_text(&text_of(&records));

        assert_eq!((found.fault, found.records), (None, records.to_vec()));
    }

    #[test]
    fn a_line_embeds_the_bytes_of_its_entry_unchanged() {
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
    fn a_line_in_another_form_is_rejected_with_its_number_and_position() {
        let good = r#"{"position":1,"gap":true}"#;
        let invalid_lines = [
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
        for line in invalid_lines {
            let found = read_text(format!("{good}\n{line}\n").as_bytes());

            let fault = found.fault.expect(line).to_string();
            assert!(fault.starts_with("line 2, position 2: "), "{fault}");
            assert_eq!(found.records.len(), 1);
        }
    }

    #[test]
    fn a_truncated_text_is_rejected() {
        let text = text_of(&[Record::Gap(Position::new(1)), Record::Gap(Position::new(2))]);

        let found = read_text(&text[..text.len() - 1]);

        let fault = found.fault.expect("truncated").to_string();
        assert_eq!(fault, "line 2, position 2: the line is truncated");
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
        fn records_are_read_back_byte_for_byte(
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
