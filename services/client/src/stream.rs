//! Server-sent events: the service's stream of rollbacks, with reconnection.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::{Response, Url};
use tokio::time::sleep;

use super::connection::{Client, Error, incomplete_response};

/// Maximum size of a message in bytes: several times that of an event.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Delay before a stream is opened again.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) id: Option<u64>,
    pub(super) name: String,
    pub(super) data: String,
}

/// A stream of messages that reconnects after its last message.
pub(super) struct MessageStream<'a> {
    client: &'a Client,
    url: Url,
    after: Option<u64>,
    open: Option<Response>,
    parser: MessageParser,
    ready: VecDeque<Message>,
}

impl<'a> MessageStream<'a> {
    pub(super) fn new(client: &'a Client, url: Url, after: Option<u64>) -> Self {
        Self { client, url, after, open: None, parser: MessageParser::default(), ready: VecDeque::new() }
    }

    /// Returns the next message. Safe to cancel: no message is lost.
    ///
    /// # Errors
    /// The service rejects the stream, is unreachable before the first message, or sends a message that is too large.
    pub(super) async fn next(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.after = message.id.or(self.after);
                return Ok(message);
            }
            let Some(response) = &mut self.open else {
                self.parser = MessageParser::default();
                let opened = self.client.open_stream(self.url.clone(), self.after).await;
                match opened {
                    Ok(response) => self.open = Some(response),
                    // After a first message, the service is known to be the right one: reconnect.
                    Err(error) if error.is_temporary() && self.after.is_some() => {
                        sleep(RECONNECT_DELAY).await;
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            match response.chunk().await.map_err(|error| incomplete_response(&self.url, error)) {
                // After `end`, the service closes the stream: reconnect.
                Ok(Some(bytes)) => {
                    let messages = self.parser.push(&bytes);
                    let messages = messages.map_err(|detail| self.client.invalid_response(detail))?;
                    self.ready.extend(messages.into_iter().filter(|message| message.name != "end"));
                }
                Ok(None) | Err(_) => {
                    self.open = None;
                    sleep(RECONNECT_DELAY).await;
                }
            }
        }
    }
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
                complete.extend(Some(message).filter(|message| !message.data.is_empty()));
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
    fn an_endless_line_and_an_endless_message_are_rejected() {
        for part in ["x".repeat(1 << 10), format!("data: {}\n", "x".repeat(1 << 10))] {
            let mut parser = MessageParser::default();
            let mut pushed = (0..2_000).map(|_| parser.push(part.as_bytes()));
            let error = pushed.find_map(Result::err).expect("an error");
            assert_eq!(error, "a message has more than 1048576 bytes");
        }
    }
}
