//! A connection of HTTP/2, frame by frame: the clients that there are cannot take back one request of many.

use super::system::PATIENCE;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The code of RST_STREAM for a client that does not wait any more.
const CANCEL: u32 = 8;

/// HPACK: entries of its static table as a whole, and names of it with a value that follows and is not remembered.
const METHOD_GET: u8 = 0x82;
const SCHEME_HTTP: u8 = 0x86;
const STATUS_200: u8 = 0x88;
const AUTHORITY: u8 = 0x01;
const PATH: u8 = 0x04;

pub struct Streams {
    socket: TcpStream,
    next: u32,
    begun: BTreeMap<u32, bool>,
    ended: usize,
}

impl Streams {
    pub fn connect(address: SocketAddr) -> Streams {
        let mut socket = TcpStream::connect(address).expect("nginx listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.write_all(PREFACE).expect("sent");
        let mut streams = Streams { socket, next: 1, begun: BTreeMap::new(), ended: 0 };
        streams.send(SETTINGS, 0, 0, &[]);
        streams
    }

    /// Asks, and answers with the number of the stream.
    pub fn get(&mut self, host: &str, path: &str) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut block = vec![METHOD_GET, SCHEME_HTTP];
        for (name, value) in [(AUTHORITY, host), (PATH, path)] {
            assert!(value.len() < 127, "its length is one byte");
            block.extend([name, value.len() as u8]);
            block.extend(value.as_bytes());
        }
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        stream
    }

    pub fn cancel(&mut self, stream: u32) {
        self.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// Waits until so many streams have begun to answer.
    pub fn wait_for_begun(&mut self, count: usize) {
        while self.begun.len() < count {
            self.read();
        }
    }

    /// The streams that have begun to answer, by whether it was with 200, once so many of them have ended.
    pub fn answers(&mut self, count: usize) -> &BTreeMap<u32, bool> {
        while self.ended < count {
            self.read();
        }
        &self.begun
    }

    fn read(&mut self) {
        let (kind, flags, stream, payload) = self.frame();
        if kind == HEADERS {
            // Those that come later are trailers.
            self.begun.entry(stream).or_insert(payload.first() == Some(&STATUS_200));
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.ended += 1;
        }
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.socket.write_all(&frame).expect("sent");
    }

    fn frame(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).expect("a frame");
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload).expect("the whole frame");
        (kind, flags, u32::from_be_bytes(stream), payload)
    }
}
