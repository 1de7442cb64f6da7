//! Server-sent events, as far as the controller sends them.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::failure::Failure;

/// One message of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// `id:`, for going on after a break.
    pub(crate) id: Option<u64>,
    /// `event:`; empty is a plain message.
    pub(crate) event: String,
    /// `data:`, lines joined.
    pub(crate) data: String,
}

/// The stream of a controller.
pub(crate) struct Stream {
    bytes: BoxStream<'static, Result<Vec<u8>, reqwest::Error>>,
    parser: Parser,
}

impl Stream {
    /// Reads `response` as it comes.
    pub(crate) fn new(response: reqwest::Response) -> Self {
        let bytes = response.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())).boxed();
        Self { bytes, parser: Parser::default() }
    }

    /// The next message; none when the controller ended the stream.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.parser.take() {
                return Some(message);
            }
            match self.bytes.next().await {
                Some(Ok(bytes)) => self.parser.feed(&bytes),
                Some(Err(_)) | None => return None,
            }
        }
    }
}

/// Waits before a broken stream is opened again: 200 ms, doubling, 5 s at most.
#[derive(Debug, Default)]
pub(crate) struct Patience(u32);

impl Patience {
    /// Waits; each time longer.
    pub(crate) async fn wait(&mut self) {
        let delay = Duration::from_millis(200 << self.0.min(5)).min(Duration::from_secs(5));
        self.0 += 1;
        tokio::time::sleep(delay).await;
    }

    /// It went well: the next break starts from the beginning.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Bytes to messages.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    current: Message,
    done: std::collections::VecDeque<Message>,
}

impl Parser {
    fn take(&mut self) -> Option<Message> {
        self.done.pop_front()
    }

    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.end_of(&String::from_utf8_lossy(&line));
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn end_of(&mut self, line: &str) {
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            let message = std::mem::take(&mut self.current);
            if message != Message::default() {
                self.done.push_back(message);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.current.id = value.parse().ok(),
            "event" => value.clone_into(&mut self.current.event),
            "data" => {
                if !self.current.data.is_empty() {
                    self.current.data.push('\n');
                }
                self.current.data.push_str(value);
            }
            // A comment (`: keep-alive`) has an empty field name; `retry` is ours to decide.
            _ => {}
        }
    }
}

/// Reads `data` as JSON.
///
/// # Errors
/// When it is something else: another version of the controller.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(message: &Message) -> Result<T, Failure> {
    serde_json::from_str(&message.data).map_err(|error| {
        Failure::new("an event of the controller is not understood")
            .because(error)
            .try_this("the controller that runs may be of another version: restart it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_split_into_chunks() {
        let text = b": hello\n\nid: 7\nevent: step\ndata: {\"a\":1}\n\nid: 8\r\ndata: one\r\ndata: two\r\n\r\n";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            text.chunks(size).for_each(|chunk| parser.feed(chunk));
            assert_eq!(parser.take(), Some(Message { id: Some(7), event: "step".into(), data: "{\"a\":1}".into() }));
            assert_eq!(parser.take(), Some(Message { id: Some(8), event: String::new(), data: "one\ntwo".into() }));
            assert_eq!(parser.take(), None);
        }
    }

    #[test]
    fn half_a_message_is_none() {
        let mut parser = Parser::default();
        parser.feed(b"data: x\n");
        assert_eq!(parser.take(), None);
    }
}
