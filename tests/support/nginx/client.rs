//! A small HTTP/1.1 client: one connection, kept or fresh.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    /// Requests that a kept connection lost because the server had closed it while it was idle, and that were sent again.
    pub resent: u64,
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        Client { address, stream: None, resent: 0 }
    }

    /// GET on the kept connection, if there is one. A request that meets a closed connection is sent again, as by browsers.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        let reused = self.stream.is_some();
        match self.send("GET", host, path, "", false) {
            Err(error) if reused && error.kind() != ErrorKind::TimedOut && error.kind() != ErrorKind::WouldBlock => {
                self.resent += 1;
                self.send("GET", host, path, "", false)
            }
            answer => answer,
        }
    }

    /// GET on a connection of its own.
    pub fn get_fresh(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.stream = None;
        self.send("GET", host, path, "", true)
    }

    /// One request, sent once.
    pub fn send(&mut self, method: &str, host: &str, path: &str, body: &str, close: bool) -> io::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        let connection = if close { "Connection: close\r\n" } else { "" };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{connection}{length}\r\n{body}");
        stream.get_mut().write_all(request.as_bytes())?;
        let response = read(&mut stream, method == "HEAD")?;
        if !close && response.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(response)
    }
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(BufReader::new(stream))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {what}"))
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if stream.take(64 << 10).read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn read(stream: &mut impl BufRead, no_body: bool) -> io::Result<Response> {
    let first = line(stream)?;
    let status: u16 = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad(&first))?;
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: String::new() };
    let mut body = Vec::new();
    if no_body || status == 204 || status == 304 {
        return Ok(response);
    } else if response.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = line(stream)?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| bad(&size))?;
            read_exactly(stream, size, &mut body)?;
            line(stream)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = response.header("content-length") {
        read_exactly(stream, length.parse().map_err(|_| bad(length))?, &mut body)?;
    } else {
        stream.read_to_end(&mut body)?;
    }
    response.body = String::from_utf8(body).map_err(|_| bad("a body that is no text"))?;
    Ok(response)
}

fn read_exactly(stream: &mut impl BufRead, size: usize, body: &mut Vec<u8>) -> io::Result<()> {
    match stream.take(size as u64).read_to_end(body)? {
        read if read == size => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}
