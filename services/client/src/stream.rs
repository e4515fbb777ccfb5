//! Server-sent events: the service's streams of entries, with reconnection.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::connection::{Client, Error, incomplete_response};
use super::output::print_notice;

/// Maximum size of a message in bytes: several times that of an event.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Delay before a stream is opened again; it doubles with each further loss.
const FIRST_RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// Upper bound of the delay before a stream is opened again.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(30);
/// Duration of a connection after which its loss is a new one: it is reported, and the delay is the first one.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) id: Option<u64>,
    pub(super) name: String,
    /// Empty if the message only has an id.
    pub(super) data: String,
}

/// Data of the last message of a stream.
#[derive(Debug, Deserialize)]
struct EndBody {
    detail: String,
}

/// A stream of messages that reconnects after its last message.
pub(super) struct MessageStream<'a> {
    client: &'a Client,
    url: Url,
    after: Option<u64>,
    open: Option<Response>,
    parser: MessageParser,
    ready: VecDeque<Message>,
    reconnection: Reconnection,
}

/// The delays before a lost stream is opened again.
#[derive(Debug)]
struct Reconnection {
    opened_at: Option<Instant>,
    retry_at: Option<Instant>,
    delay: Duration,
    is_reported: bool,
    /// Reason for which the service ended the stream.
    reason: Option<String>,
}

impl<'a> MessageStream<'a> {
    pub(super) fn new(client: &'a Client, url: Url, after: Option<u64>) -> Self {
        let (parser, reconnection) = (MessageParser::default(), Reconnection::new());
        Self { client, url, after, open: None, parser, ready: VecDeque::new(), reconnection }
    }

    /// Returns the next message of an entry. Safe to cancel: no message is lost.
    ///
    /// # Errors
    /// The service rejects the stream, is unreachable before the first message, or sends a message that is too large.
    pub(super) async fn next(&mut self) -> Result<Message, Error> {
        loop {
            while let Some(message) = self.ready.pop_front() {
                self.after = message.id.or(self.after);
                match message.name.as_str() {
                    // The service closes the stream after it.
                    "end" => self.reconnection.reason = end_reason(&message.data),
                    // The position up to which all entries have been sent.
                    "position" => {}
                    _ if message.data.is_empty() => {}
                    _ => return Ok(message),
                }
            }
            if let Some(at) = self.reconnection.retry_at {
                sleep_until(at).await;
                self.reconnection.retry_at = None;
            }
            let Some(response) = &mut self.open else {
                self.parser = MessageParser::default();
                let opened = self.client.open_stream(self.url.clone(), self.after).await;
                match opened {
                    Ok(response) => {
                        self.open = Some(response);
                        self.reconnection.opened_at = Some(Instant::now());
                    }
                    // After a first message, the service is known to be the right one: reconnect.
                    Err(error) if error.is_temporary() && self.after.is_some() => {
                        self.lose(&error.to_string());
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            match response.chunk().await.map_err(|error| incomplete_response(&self.url, error)) {
                Ok(Some(bytes)) => {
                    let messages = self.parser.push(&bytes);
                    self.ready.extend(messages.map_err(|detail| self.client.invalid_response(detail))?);
                }
                Ok(None) => self.lose("the service ended it"),
                Err(error) => self.lose(&error.to_string()),
            }
        }
    }

    /// Closes the stream, and opens it again later.
    fn lose(&mut self, cause: &str) {
        self.open = None;
        let reason = self.reconnection.reason.take();
        if self.reconnection.lose(Instant::now()) {
            let position = self.after.map(|after| format!(" after position {after}")).unwrap_or_default();
            let reason = reason.as_deref().unwrap_or(cause);
            print_notice(&format!("lost the event stream ({reason}); reconnecting{position}"));
        }
    }
}

impl Reconnection {
    const fn new() -> Self {
        Self {
            opened_at: None,
            retry_at: None,
            delay: FIRST_RECONNECT_DELAY,
            is_reported: false,
            reason: None,
        }
    }

    /// Sets the time of the next attempt. Returns true if the loss is to be reported: the first one since the stream
    /// was open for some time.
    fn lose(&mut self, now: Instant) -> bool {
        let lasted = self.opened_at.take().map(|opened| now.saturating_duration_since(opened));
        if lasted.is_some_and(|lasted| lasted >= STABLE_AFTER) {
            *self = Self::new();
        }
        self.retry_at = Some(now + self.delay);
        self.delay = (self.delay * 2).min(MAX_RECONNECT_DELAY);
        !std::mem::replace(&mut self.is_reported, true)
    }
}

fn end_reason(data: &str) -> Option<String> {
    serde_json::from_str(data).ok().map(|EndBody { detail }| detail)
}

/// Incremental parser of server-sent events.
#[derive(Debug, Default)]
struct MessageParser {
    rest: Vec<u8>,
    message: Message,
}

impl MessageParser {
    /// Adds bytes; returns the messages that they complete.
    ///
    /// # Errors
    /// A message has more than [`MAX_MESSAGE_BYTES`].
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, String> {
        self.rest.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let message = std::mem::take(&mut self.message);
                let has_content = message.id.is_some() || !message.data.is_empty();
                complete.extend(Some(message).filter(|_| has_content));
            } else {
                self.parse_line(line);
            }
        }
        let Message { name, data, .. } = &self.message;
        if self.rest.len() + name.len() + data.len() > MAX_MESSAGE_BYTES {
            return Err(format!("a message has more than {MAX_MESSAGE_BYTES} bytes"));
        }
        Ok(complete)
    }

    fn parse_line(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.message.id = value.parse().ok(),
            "event" => value.clone_into(&mut self.message.name),
            "data" => {
                if !self.message.data.is_empty() {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // A comment only keeps the connection alive.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_parsed_regardless_of_how_their_bytes_are_split() {
        let text =
            b": alive\n\nid: 7\nevent: rollback.started\ndata: {\"a\":\ndata: 1}\n\nid:8\r\ndata:x\r\n\r\n";
        let mut parser = MessageParser::default();
        let messages: Vec<_> =
            text.iter().flat_map(|byte| parser.push(&[*byte]).expect("small messages")).collect();
        let message = |id, name: &str, data: &str| Message { id, name: name.into(), data: data.into() };
        assert_eq!(
            messages,
            [message(Some(7), "rollback.started", "{\"a\":\n1}"), message(Some(8), "", "x")]
        );
        assert_eq!(MessageParser::default().push(text), Ok(messages));
    }

    #[test]
    fn an_id_alone_is_a_message_without_data_and_a_comment_is_none() {
        let messages = MessageParser::default().push(b":\n\nid: 7\n\nevent: end\ndata: {}\n\n");
        let message = |id, name: &str, data: &str| Message { id, name: name.into(), data: data.into() };
        assert_eq!(messages, Ok(vec![message(Some(7), "", ""), message(None, "end", "{}")]));
    }

    #[test]
    fn the_delay_of_a_lost_stream_doubles_and_its_loss_is_reported_once() {
        let mut reconnection = Reconnection::new();
        let now = Instant::now();
        let delay = |reconnection: &Reconnection| reconnection.retry_at.expect("a time") - now;

        assert!(reconnection.lose(now), "the first loss is reported");
        assert_eq!(delay(&reconnection), FIRST_RECONNECT_DELAY);
        assert!(!reconnection.lose(now));
        assert_eq!(delay(&reconnection), 2 * FIRST_RECONNECT_DELAY);
        for _ in 0..10 {
            reconnection.lose(now);
        }
        assert_eq!(delay(&reconnection), MAX_RECONNECT_DELAY);

        reconnection.opened_at = Some(now);
        assert!(!reconnection.lose(now), "a stream that ends at once is still the same loss");
        reconnection.opened_at = Some(now);
        assert!(reconnection.lose(now + STABLE_AFTER), "it was open for some time");
        assert_eq!(delay(&reconnection), STABLE_AFTER + FIRST_RECONNECT_DELAY);
    }

    #[test]
    fn the_end_of_a_stream_has_a_reason() {
        assert_eq!(end_reason(r#"{"detail":"the service stops"}"#).as_deref(), Some("the service stops"));
        assert_eq!(end_reason("{}"), None);
    }

    #[test]
    fn an_endless_line_and_an_endless_message_are_rejected() {
        for part in ["x".repeat(1 << 10), format!("data: {}\n", "x".repeat(1 << 10))] {
            let mut parser = MessageParser::default();
            let mut pushed = (0..2_000).map(|_| parser.push(part.as_bytes()));
            let error = pushed.find_map(Result::err).expect("an error");
            assert_eq!(error, "a message has more than 1048576 bytes");
        }
    }
}
