//! Messages of Kafka as the write path receives them: CloudEvents Kafka protocol binding 1.0.2.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use ledger_streams::inbound::{Format, InboundMessage, Receipt};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message, OwnedHeaders};

/// Bytes that a message needs in memory beside its content, at most.
const OVERHEAD: usize = 512;
/// Copies of the headers that are kept: those of Kafka, and those of the write path.
const HEADER_COPIES: usize = 2;

/// Slugs of problems, as in the API.
const INVALID_EVENT: &str = "invalid-event";
const INVALID_PARAMETER: &str = "invalid-parameter";

/// Prefix of the headers of attributes in the binding of Kafka, and in that of HTTP.
const KAFKA_PREFIX: &str = "ce_";
const HTTP_PREFIX: &str = "ce-";
const CONTENT_TYPE: &str = "content-type";
/// Header that every event in binary mode has.
const SPECVERSION: &str = "ce-specversion";
/// Media type of messages that need one and state none.
const JSON: &str = "application/json";

/// Header of a message: its name and its value.
type RawHeader = (String, Option<Vec<u8>>);

/// A message that was received and is not settled yet.
pub(crate) struct Received {
    pub(crate) offset: i64,
    /// Key, value and headers as received, for the dead-letter topic.
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Option<OwnedHeaders>,
    /// The message as the write path receives it, or the reason why it cannot be one.
    pub(crate) content: Result<InboundMessage, Rejection>,
    /// Size in memory, in bytes.
    pub(crate) size: usize,
}

/// Reason why a message is rejected before it reaches the write path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    problem: &'static str,
    detail: String,
}

impl Rejection {
    fn new(problem: &'static str, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into() }
    }

    /// Returns the receipt of the message.
    pub(crate) fn receipt(&self) -> Receipt {
        Receipt::Rejected { problem: self.problem.to_owned(), detail: self.detail.clone(), has_secret: false }
    }
}

impl Received {
    /// Copies a message of librdkafka.
    pub(crate) fn new(message: &BorrowedMessage<'_>, format: &Format) -> Self {
        let key = message.key().map(<[u8]>::to_vec);
        let value = message.payload().map(Bytes::copy_from_slice);
        let borrowed = message.headers();
        let raw = borrowed.map_or_else(|| Ok(Vec::new()), read_headers);
        let header_bytes = raw.as_ref().map_or(0, |headers| {
            headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>()
        });
        let content_bytes = key.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Bytes::len);
        let content = raw.and_then(|headers| inbound(format, headers, value.clone()));
        Self {
            offset: message.offset(),
            key,
            value,
            headers: borrowed.map(BorrowedHeaders::detach),
            content,
            size: OVERHEAD + content_bytes + HEADER_COPIES * header_bytes,
        }
    }
}

/// Reads all headers. The library panics for a name that is not UTF-8; any producer can send one.
pub(crate) fn read_headers(headers: &BorrowedHeaders) -> Result<Vec<RawHeader>, Rejection> {
    let read = |index| {
        let header = headers.try_get(index)?;
        Some((header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
    };
    let all = || (0..headers.count()).filter_map(read).collect();
    catch_unwind(AssertUnwindSafe(all))
        .map_err(|_| Rejection::new(INVALID_PARAMETER, "the name of a header is not UTF-8"))
}

/// Returns a message as the write path receives it.
pub(crate) fn inbound(
    format: &Format,
    headers: Vec<RawHeader>,
    value: Option<Bytes>,
) -> Result<InboundMessage, Rejection> {
    let body = match value {
        Some(value) if !value.is_empty() => value,
        Some(_) => return Err(Rejection::new(INVALID_EVENT, "the message has an empty value")),
        None => return Err(Rejection::new(INVALID_EVENT, "the message has no value: it is a tombstone")),
    };
    let mut named = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_lowercase();
        let attribute = name.strip_prefix(KAFKA_PREFIX);
        let is_needed = attribute.is_some() || name == CONTENT_TYPE;
        let text = match String::from_utf8(value.unwrap_or_default()) {
            Ok(text) => text,
            Err(_) if !is_needed => continue,
            Err(_) => {
                return Err(Rejection::new(INVALID_PARAMETER, format!("the header {name:?} is not UTF-8")));
            }
        };
        // Values are texts in the binding of Kafka, without the encoding of HTTP.
        let key = attribute.map_or_else(|| name.clone(), |attribute| format!("{HTTP_PREFIX}{attribute}"));
        if named.insert(key, text).is_some() && is_needed {
            return Err(Rejection::new(INVALID_PARAMETER, format!("the header {name:?} is repeated")));
        }
    }
    // Many producers state no media type. Without attributes in headers, the write path finds the form in the body.
    let states_none = named.get(CONTENT_TYPE).is_none_or(|stated| stated.trim().is_empty());
    if states_none && (*format != Format::Events || named.contains_key(SPECVERSION)) {
        named.insert(CONTENT_TYPE.to_owned(), JSON.to_owned());
    }
    Ok(InboundMessage { headers: named, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> RawHeader {
        (name.to_owned(), Some(value.as_bytes().to_vec()))
    }

    fn read(headers: Vec<RawHeader>, body: &'static str) -> Result<InboundMessage, Rejection> {
        inbound(&Format::Events, headers, Some(Bytes::from_static(body.as_bytes())))
    }

    fn media_type_of(headers: Vec<RawHeader>) -> Option<String> {
        read(headers, "{}").expect("a message").headers.get(CONTENT_TYPE).cloned()
    }

    #[test]
    fn attributes_of_the_binary_mode_get_the_names_of_http_and_keep_their_values() {
        let headers = vec![
            header("ce_specversion", "1.0"),
            header("CE_Subject", "100% \"é\""),
            header("content-type", "application/json"),
            header("x-other", "a b"),
        ];
        let message = read(headers, "{}").expect("a message");

        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-subject", "100% \"é\""),
            ("content-type", "application/json"),
            ("x-other", "a b"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(message.headers, BTreeMap::from(expected));
        assert_eq!(message.body, "{}");
    }

    #[test]
    fn the_media_type_of_the_header_is_kept() {
        let structured = "application/cloudevents+json; charset=utf-8";
        assert_eq!(media_type_of(vec![header("Content-Type", structured)]).as_deref(), Some(structured));
    }

    #[test]
    fn only_attributes_in_headers_need_a_media_type() {
        assert_eq!(media_type_of(vec![]), None);
        assert_eq!(media_type_of(vec![header("ce_specversion", "1.0")]).as_deref(), Some("application/json"));
    }

    #[test]
    fn a_payload_of_a_webhook_keeps_its_media_type() {
        let body = Some(Bytes::from_static(b"[]"));
        let message = inbound(&Format::Hook("deploys".to_owned()), vec![], body).expect("a message");
        assert_eq!(message.headers[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn a_message_without_a_value_is_rejected_with_a_reason() {
        for (value, reason) in [(None, "tombstone"), (Some(Bytes::new()), "empty value")] {
            let rejection = inbound(&Format::Events, vec![], value).expect_err("rejected");
            assert!(rejection.detail.contains(reason), "{rejection:?}");
        }
    }

    #[test]
    fn a_header_that_matters_is_rejected_if_it_is_no_text_or_repeated_and_others_are_not() {
        let binary = |name: &str| (name.to_owned(), Some(vec![0xff]));
        assert!(read(vec![binary("ce_id")], "{}").is_err());
        assert!(read(vec![header("ce_id", "a"), header("CE_ID", "b")], "{}").is_err());
        assert!(read(vec![binary("x-trace"), header("x-a", "1"), header("x-a", "2")], "{}").is_ok());
    }
}
