//! A request as it arrives at a backend of this process.

use std::io::{BufRead, Read};

#[derive(Default)]
pub struct Request {
    /// Every byte of it.
    pub raw: Vec<u8>,
    /// Without the part from a `?` on. None: a line that is no HTTP, and a request by itself.
    pub path: Option<String>,
    /// It asks for a head alone.
    pub head_only: bool,
    /// The client sends no other on this connection.
    pub last: bool,
    /// `X-Request-Id`, and the pid in `X-Worker`, where nginx says them.
    pub id: Option<String>,
    pub worker: u32,
}

impl Request {
    /// One that was read to its end.
    pub fn read(stream: &mut impl BufRead) -> Option<Request> {
        let mut request = Request::default();
        let first = request.line(stream)?;
        let mut words = first.split(' ');
        let (method, target, version) = (words.next()?, words.next(), words.next());
        if version.is_none_or(|version| !version.starts_with("HTTP/")) {
            return Some(request);
        }
        request.path = target.and_then(|target| target.split('?').next()).map(str::to_owned);
        request.head_only = method == "HEAD";
        request.last = version == Some("HTTP/1.0");
        let length = request.headers(stream)?;
        let read = stream.take(length).read_to_end(&mut request.raw).ok()?;
        (read as u64 == length).then_some(request)
    }

    /// The length of the body that comes after them.
    fn headers(&mut self, stream: &mut impl BufRead) -> Option<u64> {
        let mut length = 0;
        loop {
            let line = self.line(stream)?;
            let Some((key, value)) = line.split_once(':') else {
                return line.is_empty().then_some(length);
            };
            match key.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "x-request-id" => self.id = Some(value.trim().to_owned()),
                "x-worker" => self.worker = value.trim().parse().ok()?,
                "connection" => self.last = value.trim().eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
    }

    fn line(&mut self, stream: &mut impl BufRead) -> Option<String> {
        let begin = self.raw.len();
        stream.read_until(b'\n', &mut self.raw).ok()?;
        let line = std::str::from_utf8(&self.raw[begin..]).ok()?;
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }
}
