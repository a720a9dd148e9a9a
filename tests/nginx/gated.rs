//! Backends in this process. Each answers as the path of a request says, holds some requests until a gate opens, and counts its
//! requests. It keeps a book of those that have a number.

use super::door::Door;
use super::metered::Metered;
use super::request::Request;
use super::{place, sockets};
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How late "late" is: later than the timeouts of these tests.
const LATE: Duration = Duration::from_millis(200);

/// Long enough for others to arrive meanwhile.
const SOON: Duration = Duration::from_millis(1);

/// More than the buffers of all sockets on its way.
pub const LONG: usize = 32 << 20;

/// More than a buffer of nginx.
const LARGE: usize = 200_000;

/// The gate for which held requests wait; closed at first.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        self.set(true);
    }

    pub fn close(&self) {
        self.set(false);
    }

    fn set(&self, open: bool) {
        *self.0.0.lock().expect("no panic") = open;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().expect("no panic");
        drop(self.0.1.wait_while(open, |open| !*open).expect("no panic"));
    }
}

/// What a backend had to do with one request.
#[derive(Clone, Debug)]
pub struct Served {
    /// `X-Request-Id`: nginx's number of the request.
    pub id: String,
    /// `X-Worker`: the pid of the worker that sent it.
    pub worker: u32,
    /// The status that it answered with; none: it closed the connection instead.
    pub status: Option<u16>,
    /// Bytes that it read and wrote for the sake of this request.
    pub read: u64,
    pub written: u64,
}

#[derive(Default)]
struct Counts {
    book: Mutex<Vec<Served>>,
    accepted: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    at_once: AtomicU64,
    most: AtomicU64,
}

/// One backend.
pub struct Gated {
    /// Where it listens; an answer says so.
    pub name: String,
    counts: Arc<Counts>,
    gate: Gate,
    _door: Door,
}

impl Gated {
    pub fn start(gate: &Gate) -> Gated {
        Gated::at(place::free_address(), gate, serve)
    }

    /// One that reads nothing, and closes.
    pub fn closing_at(address: SocketAddr) -> Gated {
        Gated::at(address, &Gate::default(), |_, _, _, _| Some(()))
    }

    fn at(address: SocketAddr, gate: &Gate, serve: fn(TcpStream, &str, &Counts, &Gate) -> Option<()>) -> Gated {
        let (counts, name) = (Arc::new(Counts::default()), address.to_string());
        let door = {
            let (counts, gate, name) = (counts.clone(), gate.clone(), name.clone());
            Door::open(address, move |stream| {
                counts.accepted.fetch_add(1, Ordering::SeqCst);
                let (counts, gate, name) = (counts.clone(), gate.clone(), name.clone());
                std::thread::spawn(move || {
                    counts.connections.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &name, &counts, &gate);
                    counts.connections.fetch_sub(1, Ordering::SeqCst);
                });
            })
        };
        Gated { name, counts, gate: gate.clone(), _door: door }
    }

    /// Connections that were made to it.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Those that are open.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Requests that came whole.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// All that it is done with and that had a number.
    pub fn book(&self) -> Vec<Served> {
        self.counts.book.lock().expect("no panic").clone()
    }

    /// Those that wait for their answer.
    pub fn at_once(&self) -> u64 {
        self.counts.at_once.load(Ordering::SeqCst)
    }

    /// The most that ever did at one time.
    pub fn most_at_once(&self) -> u64 {
        self.counts.most.load(Ordering::SeqCst)
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// Requests of one connection, until it ends.
fn serve(stream: TcpStream, name: &str, counts: &Counts, gate: &Gate) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(Metered::new(stream));
    let mut once = false;
    loop {
        let [read, written] = stream.get_ref().bytes;
        let request = Request::read(&mut stream)?;
        let path = request.path?;
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let now = counts.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(now, Ordering::SeqCst);
        let action = path.rsplit('/').next().unwrap_or_default();
        let action = if once { "close" } else { action };
        once = action == "once";
        match action {
            "hold" => gate.pass(),
            "late" => std::thread::sleep(LATE),
            "soon" => std::thread::sleep(SOON),
            _ => {}
        }
        counts.at_once.fetch_sub(1, Ordering::SeqCst);
        stream.get_mut().status = None;
        let goes_on = answer(&mut stream, action, name, gate);
        if let (Some(id), Metered { status, bytes, .. }) = (request.id, stream.get_ref()) {
            let (read, written) = (bytes[0] - read, bytes[1] - written);
            let served = Served { id, worker: request.worker, status: *status, read, written };
            counts.book.lock().expect("no panic").push(served);
        }
        goes_on?;
    }
}

/// `None`: the connection is over.
fn answer(stream: &mut BufReader<Metered>, action: &str, name: &str, gate: &Gate) -> Option<()> {
    let mut say = |status: &str, headers: &str, body: &str| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.get_mut().write_all(head.as_bytes()).ok()
    };
    match action {
        "500" => say("500 Broken", "", "broken"),
        "404" => say("404 Unknown", "", "unknown"),
        "large" => say("200 OK", "", &"x".repeat(LARGE)),
        "long" => say("200 OK", "", &"x".repeat(LONG)),
        "accel" => say("200 OK", "X-Accel-Redirect: /pass/hold\r\n", ""),
        "half" => {
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").ok()?;
            gate.pass();
            stream.get_mut().write_all(b"67890").ok()
        }
        "upgrade" => {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.get_mut().write_all(head).ok()?;
            let mut some = [0; 4096];
            loop {
                match stream.read(&mut some) {
                    Ok(size @ 1..) => stream.get_mut().write_all(&some[..size]).ok()?,
                    _ => break None,
                }
            }
        }
        // A websocket that the backend closes; and an answer whose end is that of the connection, as in HTTP/1.0.
        "goodbye" | "unsized" => {
            let head = match action {
                "goodbye" => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                _ => "HTTP/1.0 200 OK\r\n\r\nan answer of unknown length",
            };
            stream.get_mut().write_all(head.as_bytes()).ok()?;
            gate.pass();
            None
        }
        "close" => stream.get_ref().stream.shutdown(Shutdown::Both).ok().and(None),
        "reset" => {
            sockets::reset_on_close(&stream.get_ref().stream);
            None
        }
        _ => say("200 OK", "", name),
    }
}
