//! A connection whose bytes are counted, and whose answers are looked at.

use std::io::{self, Read, Write};
use std::net::TcpStream;

pub struct Metered {
    pub stream: TcpStream,
    /// Bytes read, and bytes written.
    pub bytes: [u64; 2],
    /// The status of the first answer since this was none.
    pub status: Option<u16>,
}

impl Metered {
    pub fn new(stream: TcpStream) -> Metered {
        Metered { stream, bytes: [0; 2], status: None }
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.stream.read(buffer)?;
        self.bytes[0] += size as u64;
        Ok(size)
    }
}

impl Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.status.is_none() {
            let word = bytes.split(|&byte| byte == b' ').nth(1).and_then(|word| std::str::from_utf8(word).ok());
            self.status = word.and_then(|word| word.parse().ok());
        }
        let size = self.stream.write(bytes)?;
        self.bytes[1] += size as u64;
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
