//! [`Lines`]: bytes to lines.

use std::io;

use tokio::net::UnixStream;

/// Longest line, without its end.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// Bytes received at a time.
const RECEIVE_BYTES: usize = 4 << 10;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end.
    Complete(Vec<u8>),
    /// More bytes than a line may have. There is no way to go on.
    TooLong,
    /// The client has closed its end. What it began to send is nothing.
    End,
}

/// The lines that a client sends. It has no memory while nothing was sent.
#[derive(Debug, Default)]
pub(super) struct Lines {
    received: Vec<u8>,
    /// So many bytes of it have no end of a line.
    searched: usize,
}

impl Lines {
    /// Waits for the next line. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self, stream: &UnixStream) -> io::Result<Line> {
        loop {
            if let Some(line) = self.take() {
                return Ok(line);
            }
            stream.readable().await?;
            if self.receive(stream)? == Some(0) {
                return Ok(Line::End);
            }
        }
    }

    /// Receives what there is, at most so much. `None`: nothing at the moment.
    fn receive(&mut self, stream: &UnixStream) -> io::Result<Option<usize>> {
        let before = self.received.len();
        self.received.resize(before + RECEIVE_BYTES, 0);
        let received = stream.try_read(&mut self.received[before..]);
        self.received.truncate(before + received.as_ref().unwrap_or(&0));
        match received {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next line of what was received.
    fn take(&mut self) -> Option<Line> {
        let end = self.received[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = self.received.len();
            return (self.searched > LINE_BYTES_MAX).then_some(Line::TooLong);
        };
        if end > LINE_BYTES_MAX {
            return Some(Line::TooLong);
        }
        let rest = self.received.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.received, rest);
        line.truncate(end);
        self.searched = 0;
        Some(Line::Complete(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Line> {
        let mut lines = Lines { received: bytes.to_vec(), searched: 0 };
        let mut all = Vec::new();
        while let Some(line) = lines.take() {
            let is_over = line == Line::TooLong;
            all.push(line);
            if is_over {
                break;
            }
        }
        all
    }

    #[test]
    fn lines_end_with_a_newline() {
        let line = |text: &str| Line::Complete(text.into());
        assert_eq!(lines(b"a\n\nbc\nd"), [line("a"), line(""), line("bc")]);
        assert_eq!(lines(b""), []);
    }

    #[test]
    fn a_line_may_have_so_many_bytes_and_no_more() {
        let long = |bytes: usize, end: &[u8]| [&vec![b'x'; bytes][..], end].concat();
        assert!(
            matches!(&lines(&long(LINE_BYTES_MAX, b"\n"))[..], [Line::Complete(line)] if line.len() == LINE_BYTES_MAX)
        );
        assert_eq!(lines(&long(LINE_BYTES_MAX, b"")), []);
        assert_eq!(lines(&long(LINE_BYTES_MAX + 1, b"\n")), [Line::TooLong]);
        assert_eq!(lines(&long(LINE_BYTES_MAX + 1, b"")), [Line::TooLong]);
    }
}
