//! Records of the dead-letter topic: the message as received, and why it is not recorded.
//!
//! Of a message with a secret, and of one that the topic does not accept for its size, only its place and the reason are
//! produced.

use ledger_codec::secrets;
use ledger_streams::inbound::Receipt;
use rdkafka::message::{Header, OwnedHeaders};

use crate::message::{Received, read_headers};
use crate::sender::Record;

/// Maximum length of the reason in a record without the message, in characters.
const MAX_REASON: usize = 1_000;
/// Slug of the problem of a message that is in quarantine.
const QUARANTINED: &str = "not-understood";

/// Returns the record of a message in the dead-letter topic; `None` if the message does not belong there.
pub(crate) fn record(message: &Received, receipt: &Receipt, topic: &str, partition: i32) -> Option<Record> {
    let is_secret = match receipt {
        Receipt::Rejected { has_secret, .. } => *has_secret || has_secret_as_text(message),
        // The write path has checked what it keeps; it knows neither the key nor all headers.
        Receipt::Quarantined { .. } => has_secret_as_text(message),
        Receipt::Recorded(_) | Receipt::Ignored(_) | Receipt::Retry(_) => return None,
    };
    if is_secret {
        return place(message, receipt, topic, partition);
    }
    let headers =
        with_reason(message.headers.clone().unwrap_or_default(), message, receipt, topic, partition)?;
    Some(Record { key: message.key.clone(), value: message.value.clone(), headers })
}

/// Returns the record of a message without its key, value and headers.
pub(crate) fn place(message: &Received, receipt: &Receipt, topic: &str, partition: i32) -> Option<Record> {
    let headers = with_reason(OwnedHeaders::new(), message, receipt, topic, partition)?;
    Some(Record { key: None, value: None, headers })
}

/// Returns true if the message contains a secret in its text.
fn has_secret_as_text(message: &Received) -> bool {
    let is_secret = |bytes: &[u8]| secrets::find(&String::from_utf8_lossy(bytes)).is_some();
    let in_content =
        message.key.as_deref().is_some_and(is_secret) || message.value.as_deref().is_some_and(is_secret);
    let headers = message.headers.as_ref().map(|headers| read_headers(headers.as_borrowed()));
    in_content
        || match headers {
            Some(Ok(headers)) => headers
                .iter()
                .any(|(name, value)| is_secret(name.as_bytes()) || value.as_deref().is_some_and(is_secret)),
            // Headers that cannot be read cannot be checked.
            Some(Err(_)) => true,
            None => false,
        }
}

/// Adds the reason and the place to headers.
fn with_reason(
    mut headers: OwnedHeaders,
    message: &Received,
    receipt: &Receipt,
    topic: &str,
    partition: i32,
) -> Option<OwnedHeaders> {
    let (problem, detail, quarantine_id) = match receipt {
        Receipt::Rejected { problem, detail, .. } => (problem.as_str(), detail, None),
        Receipt::Quarantined { id, detail } => (QUARANTINED, detail, Some(id)),
        Receipt::Recorded(_) | Receipt::Ignored(_) | Receipt::Retry(_) => return None,
    };
    let detail: String = detail.chars().take(MAX_REASON).collect();
    let (partition, offset) = (partition.to_string(), message.offset.to_string());
    let own = [
        ("ledger-error", detail.as_str()),
        ("ledger-problem", problem),
        ("ledger-topic", topic),
        ("ledger-partition", partition.as_str()),
        ("ledger-offset", offset.as_str()),
    ];
    let quarantine_id = quarantine_id.map(|id| ("ledger-quarantine-id", id.as_str()));
    for (key, value) in own.into_iter().chain(quarantine_id) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ledger_streams::inbound::Format;
    use rdkafka::message::Headers as _;

    use super::*;
    use crate::message::inbound;

    fn message() -> Received {
        let value = Some(Bytes::from_static(b"?"));
        let headers = OwnedHeaders::new().insert(Header { key: "a", value: Some("1") });
        let content = inbound(&Format::Events, Vec::new(), value.clone());
        Received { offset: 7, key: Some(b"k".to_vec()), value, headers: Some(headers), content, size: 1 }
    }

    fn rejected(has_secret: bool) -> Receipt {
        Receipt::Rejected { problem: "invalid-event".to_owned(), detail: "no id".to_owned(), has_secret }
    }

    fn headers(record: &Record) -> Vec<(String, String)> {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        record.headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    }

    #[test]
    fn a_rejected_message_is_kept_unchanged_with_the_reason_and_its_place() {
        let receipt = rejected(false);
        let record = record(&message(), &receipt, "releases", 2).expect("a record");

        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"k"[..]), Some(&b"?"[..])));
        let expected = [
            ("a", "1"),
            ("ledger-error", "no id"),
            ("ledger-problem", "invalid-event"),
            ("ledger-topic", "releases"),
            ("ledger-partition", "2"),
            ("ledger-offset", "7"),
        ];
        assert_eq!(headers(&record), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn of_a_message_with_a_secret_only_the_reason_and_the_place_are_kept() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        let header = Header { key: "authorization", value: Some(token.as_str()) };
        let in_header = Received { headers: Some(OwnedHeaders::new().insert(header)), ..message() };
        let in_key = Received { key: Some(token.clone().into_bytes()), ..message() };
        let in_value = Received { value: Some(Bytes::from(token.clone())), ..message() };

        for (message, has_secret) in
            [(message(), true), (in_header, false), (in_key, false), (in_value, false)]
        {
            let record = record(&message, &rejected(has_secret), "releases", 2).expect("a record");

            assert_eq!((&record.key, &record.value), (&None, &None));
            let names: Vec<_> = headers(&record).into_iter().map(|(name, _)| name).collect();
            let places = ["ledger-topic", "ledger-partition", "ledger-offset"];
            assert_eq!(names, [&["ledger-error", "ledger-problem"][..], &places].concat());
        }
    }

    #[test]
    fn a_quarantined_message_names_its_id_and_a_recorded_one_has_no_record() {
        let receipt = Receipt::Quarantined { id: "q1".to_owned(), detail: "unknown".to_owned() };
        let quarantined = record(&message(), &receipt, "releases", 2).expect("a record");

        let id = ("ledger-quarantine-id".to_owned(), "q1".to_owned());
        assert_eq!(headers(&quarantined).last(), Some(&id));
        assert!(record(&message(), &Receipt::Recorded(Vec::new()), "releases", 2).is_none());
    }
}
