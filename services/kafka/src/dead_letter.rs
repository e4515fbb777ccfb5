//! Records of the dead-letter topic: the message as received, and why it is not recorded.

use ledger_streams::inbound::Receipt;
use rdkafka::message::Header;

use crate::message::Received;
use crate::sender::Record;

/// Slug of the problem of a message that is in quarantine.
const QUARANTINED: &str = "not-understood";

/// Returns the record of a message in the dead-letter topic; `None` if the message does not belong there.
pub(crate) fn record(message: &Received, receipt: &Receipt, topic: &str, partition: i32) -> Option<Record> {
    let (problem, detail, quarantine_id) = match receipt {
        Receipt::Rejected { problem, detail } => (problem.as_str(), detail, None),
        Receipt::Quarantined { id, detail } => (QUARANTINED, detail, Some(id)),
        Receipt::Recorded(_) | Receipt::Ignored(_) | Receipt::Retry(_) => return None,
    };
    let mut headers = message.headers.clone().unwrap_or_default();
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
    Some(Record { key: message.key.clone(), value: message.value.clone(), headers })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ledger_streams::inbound::Format;
    use rdkafka::message::Headers as _;

    use rdkafka::message::OwnedHeaders;

    use super::*;
    use crate::message::inbound;

    fn message() -> Received {
        let value = Some(Bytes::from_static(b"?"));
        let headers = OwnedHeaders::new().insert(Header { key: "a", value: Some("1") });
        let content = inbound(&Format::Events, Vec::new(), value.clone());
        Received { offset: 7, key: Some(b"k".to_vec()), value, headers: Some(headers), content, size: 1 }
    }

    fn headers(record: &Record) -> Vec<(String, String)> {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        record.headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    }

    #[test]
    fn a_rejected_message_is_kept_unchanged_with_the_reason_and_its_place() {
        let receipt = Receipt::Rejected { problem: "invalid-event".to_owned(), detail: "no id".to_owned() };
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
    fn a_quarantined_message_names_its_id_and_a_recorded_one_has_no_record() {
        let receipt = Receipt::Quarantined { id: "q1".to_owned(), detail: "unknown".to_owned() };
        let quarantined = record(&message(), &receipt, "releases", 2).expect("a record");

        let id = ("ledger-quarantine-id".to_owned(), "q1".to_owned());
        assert_eq!(headers(&quarantined).last(), Some(&id));
        assert!(record(&message(), &Receipt::Recorded(Vec::new()), "releases", 2).is_none());
    }
}
