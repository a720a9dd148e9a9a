//! A connection by TLS, to write to and to read from: openssl speaks it.

use super::system::PATIENCE;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

pub struct TlsClient {
    openssl: Child,
    stream: UnixStream,
}

impl TlsClient {
    /// To a server with a certificate of the authority in the file `trusted`.
    pub fn connect(address: SocketAddr, trusted: &str) -> TlsClient {
        let (stream, other) = UnixStream::pair().expect("a pair of sockets");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let other: OwnedFd = other.into();
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-CAfile",
            trusted,
            "-connect",
            &address.to_string(),
        ]);
        command.stdin(other.try_clone().expect("a descriptor")).stdout(other).stderr(Stdio::null());
        TlsClient { openssl: command.spawn().expect("openssl: make deps installs it"), stream }
    }
}

impl Read for TlsClient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for TlsClient {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Drop for TlsClient {
    fn drop(&mut self) {
        let _ = self.openssl.kill();
        let _ = self.openssl.wait();
    }
}
