//! The body of a response, of which only one thing matters: whether a text is in it.

use super::search::Search;
use super::{Failure, Looked, Rules};

/// Bytes after the head that are looked at, with the framing of chunks.
pub const MAX_BYTES: usize = 64 << 10;

/// The largest size that nginx knows.
pub(super) const MOST: u64 = i64::MAX as u64;

/// How a body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With the chunk that is empty.
    Chunked(Chunk),
    /// With the end of the connection.
    Close,
}

impl Framing {
    /// The framing that the headers give.
    pub(super) fn new(length: Option<u64>, chunked: bool) -> Framing {
        match length {
            _ if chunked => Framing::Chunked(Chunk::Start),
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        }
    }
}

/// Where in its chunks a body is. As in nginx, a chunk's extension is skipped, and before 1.29.4 lines may end in LF alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Before a size.
    Start,
    /// In a size.
    Size(u64),
    /// After a size, before its line ends.
    Extension(u64),
    /// After a size and CR.
    SizeCr(u64),
    /// In a chunk, with so many bytes to come; none: after it.
    Data(u64),
    /// After a chunk and CR.
    DataCr,
}

/// A body that is being read.
#[derive(Clone, Debug)]
pub(super) struct Body {
    framing: Framing,
    rules: Rules,
    /// Bytes that came, with the framing of chunks.
    seen: usize,
    /// Bytes of the body alone.
    looked: usize,
    search: Search,
}

impl Body {
    pub(super) fn new(framing: Framing, search: Search, rules: Rules) -> Body {
        Body { framing, rules, seen: 0, looked: 0, search }
    }

    /// Takes the next bytes: whether the text is there, once that is known.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<Result<(), Failure>> {
        let mut bytes = &bytes[..bytes.len().min(MAX_BYTES - self.seen)];
        self.seen += bytes.len();
        loop {
            if self.search.is_found() {
                return Some(Ok(()));
            }
            let ended = match &mut self.framing {
                Framing::Length(left) => *left == 0,
                Framing::Chunked(chunk) => match chunk.skip(&mut bytes, self.rules) {
                    Ok(ended) => ended,
                    Err(failure) => return Some(Err(failure)),
                },
                Framing::Close => false,
            };
            if ended {
                return Some(Err(self.in_vain()));
            }
            if bytes.is_empty() && self.seen == MAX_BYTES {
                return Some(Err(Failure::Body(Looked::Begin)));
            }
            if bytes.is_empty() {
                return None;
            }
            self.look(&mut bytes);
        }
    }

    /// Looks at the bytes of the body up to the next framing.
    fn look(&mut self, bytes: &mut &[u8]) {
        let mut whole = u64::MAX;
        let left = match &mut self.framing {
            Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => left,
            _ => &mut whole,
        };
        let (data, rest) = bytes.split_at(usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len())));
        *left -= data.len() as u64;
        *bytes = rest;
        self.looked += data.len();
        self.search.feed(data);
    }

    /// The body is over, and the text is not in it.
    fn in_vain(&self) -> Failure {
        Failure::Body(Looked::All(self.looked))
    }

    /// The failure when nothing more comes.
    pub(super) fn closed(&self) -> Failure {
        if self.framing == Framing::Close { self.in_vain() } else { Failure::Closed }
    }
}

impl Chunk {
    /// Skips the framing, to the next data or the end of `bytes`; whether the last chunk is there.
    fn skip(&mut self, bytes: &mut &[u8], rules: Rules) -> Result<bool, Failure> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if matches!(self, Chunk::Data(1..)) {
                break;
            }
            *bytes = rest;
            *self = self.after(byte, rules).ok_or_else(|| Failure::Malformed("its chunks are damaged".to_string()))?;
            // A size line with 0: the trailers behind it do not matter.
            if *self == Chunk::Data(0) && byte == b'\n' {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn after(&self, byte: u8, rules: Rules) -> Option<Chunk> {
        if byte == b'\n' && rules.strict_chunks && !matches!(self, Chunk::SizeCr(_) | Chunk::DataCr) {
            return None;
        }
        Some(match (self, byte) {
            (&Chunk::Size(size), _) if size > MOST / 16 => return None,
            (Chunk::Start, _) => Chunk::Size(digit(byte)?),
            (&Chunk::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Chunk::Size(size * 16 + digit(byte)?),
            (&Chunk::Size(size) | &Chunk::Extension(size), b'\r') => Chunk::SizeCr(size),
            (&Chunk::Size(size) | &Chunk::Extension(size) | &Chunk::SizeCr(size), b'\n') => Chunk::Data(size),
            (&Chunk::Size(size), b';' | b' ' | b'\t') | (&Chunk::Extension(size), _) => Chunk::Extension(size),
            (Chunk::Data(0), b'\r') => Chunk::DataCr,
            (Chunk::Data(0) | Chunk::DataCr, b'\n') => Chunk::Start,
            _ => return None,
        })
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}
