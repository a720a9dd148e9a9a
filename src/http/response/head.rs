//! The head of a response: its status line and headers, a line at a time.

use super::body::{Framing, MOST};
use super::{Failure, Rules};
use crate::quote::{SHOWN_BYTES, quote};

/// Bytes of all heads of a response at most, those of 1xx too.
pub const MAX_BYTES: usize = 16 << 10;

const BEGIN: &[u8] = b"HTTP/";
const CHUNKED: &[u8] = b"chunked";

/// The part of the head that was just read.
#[derive(Debug)]
pub(super) enum HeadPart {
    /// The status line.
    Status(u16),
    /// The empty line after the headers, and how long the body is.
    End(u16, Framing),
}

/// A head that is being read. After its end it begins again.
#[derive(Clone, Debug)]
pub(super) struct Head {
    rules: Rules,
    /// The bytes of the line that is not whole yet.
    line: Vec<u8>,
    /// Bytes of all lines.
    seen: usize,
    status: Option<u16>,
    length: Option<u64>,
    chunked: bool,
}

impl Head {
    pub(super) fn new(rules: Rules) -> Head {
        Head { rules, line: Vec::new(), seen: 0, status: None, length: None, chunked: false }
    }

    /// Takes from `bytes` up to the next event; `None`: they are all taken, and there was none.
    pub(super) fn feed(&mut self, bytes: &mut &[u8]) -> Result<Option<HeadPart>, Failure> {
        loop {
            if self.status.is_none() {
                self.refuse_early(bytes)?;
            }
            let Some(line) = self.line(bytes)? else { return Ok(None) };
            let Some(status) = self.status else {
                let status = status_line(&line).ok_or_else(|| no_status_line(without_cr(&line)))?;
                self.status = Some(status);
                return Ok(Some(HeadPart::Status(status)));
            };
            if without_cr(&line).is_empty() {
                let framing = Framing::new(self.length.take(), std::mem::take(&mut self.chunked));
                self.status = None;
                return Ok(Some(HeadPart::End(status, framing)));
            }
            match header(&line) {
                Ok(Some((name, value))) if self.rules.is_final(status) => self.take(name, value)?,
                Ok(_) => {}
                Err(why) => return malformed(format!("the header line {} {why}", quote(without_cr(&line)))),
            }
        }
    }

    /// The next line, without the LF at its end.
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
        Ok(Some(line))
    }

    /// Refuses a first line that has no end, when there is enough of it to show. A server of another protocol may never send an
    /// end.
    fn refuse_early(&self, bytes: &[u8]) -> Result<(), Failure> {
        let first: Vec<u8> = self.line.iter().chain(bytes).copied().take(SHOWN_BYTES).collect();
        let whole = first.len() < SHOWN_BYTES || first.contains(&b'\n');
        if whole || first.starts_with(BEGIN) { Ok(()) } else { Err(no_status_line(&first)) }
    }

    /// Takes a header's statement about the body's length.
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Failure> {
        let strict = self.rules.strict_lengths;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value);
            if strict && length.is_none() {
                return malformed(format!("Content-Length is {}, no number", quote(value)));
            }
            if strict && self.length.is_some() {
                return malformed("there are two Content-Length headers");
            }
            self.length = length;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if strict && !value.eq_ignore_ascii_case(CHUNKED) {
                return malformed(format!("Transfer-Encoding is {}, not chunked", quote(value)));
            }
            if strict && self.chunked {
                return malformed("there are two Transfer-Encoding headers");
            }
            self.chunked |= value.windows(CHUNKED.len()).any(|part| part.eq_ignore_ascii_case(CHUNKED));
        }
        if strict && self.chunked && self.length.is_some() {
            return malformed("there are Content-Length and Transfer-Encoding");
        }
        Ok(())
    }

    /// The failure when nothing more comes.
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

/// A line without the one CR that may be at its end.
fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The status of a line such as `HTTP/1.1 200 OK`, where nginx finds it.
fn status_line(line: &[u8]) -> Option<u16> {
    let rest = without_cr(line).strip_prefix(BEGIN)?;
    let minor = version(rest)?.strip_prefix(b".").filter(|_| rest[0] != b'0')?;
    let rest = version(minor)?;
    let rest = rest.strip_prefix(b" ")?;
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    // nginx takes spaces between digits, but the line that it then sends its client is no status line.
    let (digits, after) = rest[spaces..].split_at_checked(3)?;
    // IIS may have a status such as 403.1.
    let ends = matches!(after.first(), None | Some(b' ' | b'.'));
    let status = number(digits).filter(|_| ends && !after.contains(&b'\r'))?;
    u16::try_from(status).ok()
}

/// The bytes after a number of a version. nginx takes up to three digits of it.
fn version(bytes: &[u8]) -> Option<&[u8]> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let zeros = bytes[..digits].iter().take_while(|&&byte| byte == b'0').count();
    (digits > 0 && digits - zeros <= 3).then(|| &bytes[digits..])
}

/// A name and a value.
type Header<'a> = (&'a [u8], &'a [u8]);

/// The name and value of a header line, as nginx takes it apart; `None`: it passes over this line. The error names the fault.
fn header(line: &[u8]) -> Result<Option<Header<'_>>, &'static str> {
    match line[0] {
        b' ' | b'\t' => return Err("continues the one before"),
        b'\r' => return Err("has a CR alone"),
        _ => {}
    }
    let end = line.iter().position(|byte| matches!(byte, b':' | b'\r')).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    // A header that IIS may send twice.
    if name.starts_with(BEGIN) {
        return Ok(None);
    }
    if name.is_empty() || name.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err("has no good name");
    }
    let value = rest.strip_prefix(b":").unwrap_or(rest);
    let end = value.iter().position(|&byte| byte == b'\r').unwrap_or(value.len());
    let (value, crs) = value.split_at(end);
    if value.contains(&0) || crs.iter().any(|&byte| byte != b'\r') {
        return Err("has a NUL or a CR alone");
    }
    Ok(Some((name, trimmed(value))))
}

/// Without the spaces around it; tabs stay.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = value {
        value = rest;
    }
    value
}

/// A length, if it is one that nginx can count.
fn number(digits: &[u8]) -> Option<u64> {
    // Not parse alone: it takes a sign.
    let plain = digits.iter().all(u8::is_ascii_digit);
    let number = if plain { std::str::from_utf8(digits).ok()?.parse().ok() } else { None };
    number.filter(|&number| number <= MOST)
}
