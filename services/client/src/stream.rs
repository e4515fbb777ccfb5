//! Server-sent events: the service's stream of rollbacks, through broken connections.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::{Response, Url};
use tokio::time::sleep;

use super::connection::{Client, Error, broken_off};

/// How long is waited before a stream is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) id: Option<u64>,
    pub(super) name: String,
    pub(super) data: String,
}

/// A stream that is opened again where it broke off.
pub(super) struct Stream<'a> {
    client: &'a Client,
    url: Url,
    after: Option<u64>,
    open: Option<Response>,
    lines: Lines,
    ready: VecDeque<Message>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(client: &'a Client, url: Url, after: Option<u64>) -> Self {
        Self { client, url, after, open: None, lines: Lines::default(), ready: VecDeque::new() }
    }

    /// The next message. May be dropped half-way: nothing is lost.
    ///
    /// # Errors
    /// The service refuses the stream, or could never be reached.
    pub(super) async fn next(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                self.after = message.id.or(self.after);
                return Ok(message);
            }
            let Some(response) = &mut self.open else {
                self.lines = Lines::default();
                let opened = self.client.follow(self.url.clone(), self.after).await;
                match opened {
                    Ok(response) => self.open = Some(response),
                    // Once something was received, the service is the right one and comes back.
                    Err(error) if error.is_temporary() && self.after.is_some() => sleep(PAUSE).await,
                    Err(error) => return Err(error),
                }
                continue;
            };
            match response.chunk().await.map_err(|error| broken_off(&self.url, &error)) {
                Ok(Some(bytes)) => self.ready.extend(self.lines.push(&bytes)),
                Ok(None) | Err(_) => {
                    self.open = None;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Bytes on their way to be messages.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
    message: Message,
}

impl Lines {
    /// The messages that these bytes complete.
    fn push(&mut self, bytes: &[u8]) -> Vec<Message> {
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
                self.read(line);
            }
        }
        complete
    }

    fn read(&mut self, line: &str) {
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
            // A comment keeps the connection alive, and says nothing.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_their_bytes_come() {
        let text =
            b": alive\n\nid: 7\nevent: rollback.started\ndata: {\"a\":\ndata: 1}\n\nid:8\r\ndata:x\r\n\r\n";
        let mut lines = Lines::default();
        let messages: Vec<_> = text.iter().flat_map(|byte| lines.push(&[*byte])).collect();
        let message = |id, name: &str, data: &str| Message { id, name: name.into(), data: data.into() };
        assert_eq!(
            messages,
            [message(Some(7), "rollback.started", "{\"a\":\n1}"), message(Some(8), "", "x")]
        );
        assert_eq!(Lines::default().push(text), messages);
    }
}
