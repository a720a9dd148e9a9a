//! The head of a response: its status line and headers, a line at a time.

use super::Failure;
use super::body::Framing;
use crate::config::show::{SHOWN_BYTES, quote};

/// Bytes of all heads of a response at most, those of 1xx too.
pub const MAX_BYTES: usize = 16 << 10;

const BEGIN: &[u8] = b"HTTP/1.";

/// What was just read.
#[derive(Debug)]
pub(super) enum Event {
    /// The status line.
    Status(u16),
    /// The empty line after the headers, and how long the body is.
    End(u16, Framing),
}

/// A head that is being read. After its end it begins again.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// Of the line that is not whole yet.
    line: Vec<u8>,
    /// Bytes of all lines.
    seen: usize,
    status: Option<u16>,
    length: Option<u64>,
    chunked: bool,
}

impl Head {
    /// Takes from `bytes` up to the next event; `None`: they are all taken, and there was none.
    pub(super) fn feed(&mut self, bytes: &mut &[u8]) -> Result<Option<Event>, Failure> {
        loop {
            if self.status.is_none() {
                self.refuse_early(bytes)?;
            }
            let Some(line) = self.line(bytes)? else { return Ok(None) };
            let Some(status) = self.status else {
                let status = status_line(&line).ok_or_else(|| no_status_line(&line))?;
                self.status = Some(status);
                return Ok(Some(Event::Status(status)));
            };
            if line.is_empty() {
                let framing = Framing::new(self.length.take(), std::mem::take(&mut self.chunked));
                self.status = None;
                return Ok(Some(Event::End(status, framing)));
            }
            self.header(&line)?;
        }
    }

    /// The next line, without its end.
    fn line(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (taken, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        self.seen += taken.len();
        if self.seen > MAX_BYTES {
            return malformed(format!("its head has more than {MAX_BYTES} bytes"));
        }
        self.line.extend_from_slice(taken);
        *bytes = rest;
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        line.pop_if(|last| *last == b'\r');
        Ok(Some(line))
    }

    /// Refuses a first line that has no end, when there is enough of it to show: what does not speak HTTP may never send one.
    fn refuse_early(&self, bytes: &[u8]) -> Result<(), Failure> {
        let first: Vec<u8> = self.line.iter().chain(bytes).copied().take(SHOWN_BYTES).collect();
        let whole = first.len() < SHOWN_BYTES || first.contains(&b'\n');
        if whole || first.starts_with(BEGIN) { Ok(()) } else { Err(no_status_line(&first)) }
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Failure> {
        let shown = || quote(line);
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return malformed(format!("the header line {} continues the one before", shown()));
        }
        if line.contains(&0) || line.contains(&b'\r') {
            return malformed(format!("the header line {} has a NUL or a CR alone", shown()));
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
            return malformed(format!("the header line {} has no good name", shown()));
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let Some(length) = length(value) else {
                return malformed(format!("Content-Length is {}, no number", quote(value)));
            };
            if self.length.replace(length).is_some() {
                return malformed("there are two Content-Length headers");
            }
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return malformed(format!("Transfer-Encoding is {}, not chunked", quote(value)));
            }
            if std::mem::replace(&mut self.chunked, true) {
                return malformed("there are two Transfer-Encoding headers");
            }
        }
        if self.chunked && self.length.is_some() {
            return malformed("there are Content-Length and Transfer-Encoding");
        }
        Ok(())
    }

    /// What is wrong when nothing more comes.
    pub(super) fn closed(&self) -> Failure {
        let begun = &self.line[..self.line.len().min(BEGIN.len())];
        if self.status.is_none() && !BEGIN.starts_with(begun) { no_status_line(&self.line) } else { Failure::Closed }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.line.capacity()
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Malformed(what.into()))
}

fn no_status_line(line: &[u8]) -> Failure {
    let first = &line[..line.len().min(SHOWN_BYTES)];
    Failure::Malformed(if first.is_empty() {
        "its first line is empty".to_string()
    } else {
        format!("it begins with {}", quote(first))
    })
}

/// The status of a line such as `HTTP/1.1 200 OK`, where nginx finds it.
fn status_line(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(BEGIN)?;
    let minor = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = &rest[minor..];
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    let (digits, after) = rest[spaces..].split_at_checked(3)?;
    // IIS may have a status such as 403.1.
    let ends = matches!(after.first(), None | Some(b' ' | b'.'));
    let whole = minor > 0 && spaces > 0 && ends && !after.contains(&b'\r') && !after.contains(&0);
    let status = length(digits).filter(|_| whole)?;
    u16::try_from(status).ok().filter(|&status| status >= 100)
}

fn length(digits: &[u8]) -> Option<u64> {
    // Not parse alone: it takes a sign.
    let plain = digits.iter().all(u8::is_ascii_digit);
    if plain { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}
