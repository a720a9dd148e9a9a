//! Requests at a steady rate. Each is sent when it is due, even if earlier ones are still open, and its time counts from then
//! on. So a stall of the server shows in all requests that are due meanwhile.
//!
//! One thread has all connections, so that it leaves the CPUs to the processes that are measured.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Connections that are kept.
pub struct Clients {
    connections: Vec<Connection>,
    request: String,
}

struct Connection {
    stream: TcpStream,
    /// When the request was due that has no whole answer yet.
    due: Instant,
    answer: Vec<u8>,
}

impl Clients {
    pub fn new(count: usize, address: SocketAddr, host: &str) -> Clients {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let connections = (0..count).map(|_| Connection::new(address)).collect();
        Clients { connections, request }
    }

    /// How many requests a second are answered when each client asks again at once.
    pub fn saturating_rate(&mut self, window: Duration) -> f64 {
        let begin = Instant::now();
        let answers = self.ask(|_| Some(Instant::now()).filter(|now| *now < begin + window)).len();
        answers as f64 / begin.elapsed().as_secs_f64()
    }

    /// At `rate` requests a second: how long each took, in ns.
    pub fn times(&mut self, rate: f64, window: Duration) -> Vec<f64> {
        let begin = Instant::now();
        self.ask(|number| {
            let due = Duration::from_secs_f64(number as f64 / rate);
            (due < window).then(|| begin + due)
        })
    }

    /// Sends requests until there is none more, and takes their answers in. How long each took, in ns.
    fn ask(&mut self, due: impl Fn(usize) -> Option<Instant>) -> Vec<f64> {
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        let (mut times, mut sent) = (Vec::new(), 0);
        loop {
            let mut next = due(sent);
            while let Some(when) = next.filter(|when| *when <= Instant::now()) {
                let Some(number) = idle.pop_front() else { break };
                self.connections[number].send(&self.request, when);
                sent += 1;
                next = due(sent);
            }
            if next.is_none() && idle.len() == self.connections.len() {
                return times;
            }
            let until = next.filter(|_| !idle.is_empty());
            for number in self.wait(&idle, until) {
                if let Some(time) = self.connections[number].receive() {
                    times.push(time);
                    idle.push_back(number);
                }
            }
        }
    }

    /// Those that have something to read, of those that are not idle.
    fn wait(&self, idle: &VecDeque<usize>, until: Option<Instant>) -> Vec<usize> {
        let events = |number| if idle.contains(&number) { 0 } else { libc::POLLIN };
        let numbered = self.connections.iter().enumerate();
        let mut polled: Vec<libc::pollfd> = numbered
            .map(|(number, connection)| libc::pollfd {
                fd: connection.stream.as_raw_fd(),
                events: events(number),
                revents: 0,
            })
            .collect();
        let left = until.map_or(Duration::from_secs(1), |until| until.saturating_duration_since(Instant::now()));
        let left = libc::timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let count = polled.len() as libc::nfds_t;
        // SAFETY: as many as are there; no signals.
        unsafe { libc::ppoll(polled.as_mut_ptr(), count, &left, std::ptr::null()) };
        (0..polled.len()).filter(|&number| polled[number].revents != 0).collect()
    }
}

impl Connection {
    fn new(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).expect("a socket");
        Connection { stream, due: Instant::now(), answer: Vec::new() }
    }

    fn send(&mut self, request: &str, due: Instant) {
        self.due = due;
        self.stream.write_all(request.as_bytes()).expect("room for a request");
    }

    /// How long the request took, when its answer is whole.
    fn receive(&mut self) -> Option<f64> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(count) => self.answer.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("an answer: {error}"),
        }
        let answer = std::str::from_utf8(&self.answer).expect("UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let length = head.split("Content-Length: ").nth(1)?.split("\r\n").next()?;
        let is_whole = body.len() == length.parse::<usize>().expect("a length");
        is_whole.then(|| {
            self.answer.clear();
            self.due.elapsed().as_nanos() as f64
        })
    }
}
