//! The body of a response, of which only one thing matters: whether a text is in it.

use super::Failure;
use super::search::Search;

/// Bytes after the head that are looked at, with what frames chunks.
pub const MAX_BYTES: usize = 64 << 10;

/// How a body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With the chunk that is empty.
    Chunked(Chunk),
    /// With the connection.
    Close,
}

impl Framing {
    /// By what the headers say.
    pub(super) fn new(length: Option<u64>, chunked: bool) -> Framing {
        match length {
            _ if chunked => Framing::Chunked(Chunk::Start),
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        }
    }
}

/// Where in its chunks a body is. As in nginx, lines may end in LF alone, and a chunk's extension is skipped.
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
    seen: usize,
    search: Search,
}

impl Body {
    pub(super) fn new(framing: Framing, search: Search) -> Body {
        Body { framing, seen: 0, search }
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
                Framing::Chunked(chunk) => match chunk.skip(&mut bytes) {
                    Ok(ended) => ended,
                    Err(failure) => return Some(Err(failure)),
                },
                Framing::Close => false,
            };
            if ended || (bytes.is_empty() && self.seen == MAX_BYTES) {
                return Some(Err(Failure::Body));
            }
            if bytes.is_empty() {
                return None;
            }
            self.look(&mut bytes);
        }
    }

    /// Looks at what there is of the body up to the next thing that frames it.
    fn look(&mut self, bytes: &mut &[u8]) {
        let mut whole = u64::MAX;
        let left = match &mut self.framing {
            Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => left,
            _ => &mut whole,
        };
        let (data, rest) = bytes.split_at(usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len())));
        *left -= data.len() as u64;
        *bytes = rest;
        self.search.feed(data);
    }

    /// What is wrong when nothing more comes.
    pub(super) fn closed(&self) -> Failure {
        if self.framing == Framing::Close { Failure::Body } else { Failure::Closed }
    }
}

impl Chunk {
    /// Skips what is no data, to the next data or the end of `bytes`; whether the last chunk is there.
    fn skip(&mut self, bytes: &mut &[u8]) -> Result<bool, Failure> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if matches!(self, Chunk::Data(1..)) {
                break;
            }
            *bytes = rest;
            *self = self.after(byte).ok_or_else(|| Failure::Malformed("its chunks are damaged".to_string()))?;
            // A size line that says 0: trailers have nothing to say.
            if *self == Chunk::Data(0) && byte == b'\n' {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn after(&self, byte: u8) -> Option<Chunk> {
        Some(match (self, byte) {
            (Chunk::Start, _) => Chunk::Size(digit(byte)?),
            (&Chunk::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                Chunk::Size(size.checked_mul(16)? + digit(byte)?)
            }
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
