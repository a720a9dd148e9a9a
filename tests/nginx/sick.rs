//! Backends in this process that are as well or as sick as a test wants, at any time. They tell probes from traffic.

use super::door::Door;
use super::request::Request;
use super::symptoms::Mode;
use super::system::wait_for;
use super::{place, sockets};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The path of probes, unless a test says otherwise.
pub const HEALTH: &str = "/health";

/// The pause in a drip, unless a test says otherwise.
pub const DRIP: Duration = Duration::from_secs(1);

/// A request for the path of probes, a line that is no HTTP, or a connection that ended before it said a thing.
#[derive(Clone, Debug)]
pub struct Probe {
    /// When all of it was there; when it was accepted, if it said nothing.
    pub at: Instant,
    /// Every byte of it.
    pub raw: Vec<u8>,
    pub source: SocketAddr,
    /// Where it arrived.
    pub to: SocketAddr,
}

/// One backend; or many, at one port of all addresses.
pub struct Sick {
    /// Where it listens, as a `server` line spells it.
    pub name: String,
    pub address: SocketAddr,
    patient: Arc<Patient>,
    /// None while it is stopped.
    door: Mutex<Option<Door>>,
}

struct Patient {
    health: String,
    state: Mutex<State>,
    turned: Condvar,
}

struct State {
    /// Those for the path of probes, and all others.
    sides: [Side; 2],
    accepted: u64,
    streams: HashMap<u64, Stream>,
    probes: Vec<Probe>,
    /// Paths of all other requests.
    asked: Vec<String>,
}

/// The treatment of requests of one kind, and its results.
struct Side {
    mode: Mode,
    requests: u64,
    at_once: u64,
    most: u64,
}

const PROBES: usize = 0;
const TRAFFIC: usize = 1;

struct Stream {
    stream: Arc<TcpStream>,
    /// The kind of a request that gets no answer, or no end of it, before the mode changes.
    held: Option<usize>,
}

impl Sick {
    /// A well one.
    pub fn start() -> Sick {
        Sick::at(place::free_address(), HEALTH)
    }

    /// One whose probes ask for `health`.
    pub fn at(address: SocketAddr, health: &str) -> Sick {
        let sides = [(); 2].map(|()| Side { mode: Mode::Well, requests: 0, at_once: 0, most: 0 });
        let (streams, probes, asked) = (HashMap::new(), Vec::new(), Vec::new());
        let state = State { sides, accepted: 0, streams, probes, asked };
        let patient = Patient { health: health.to_owned(), state: Mutex::new(state), turned: Condvar::new() };
        let sick = Sick { name: address.to_string(), address, patient: Arc::new(patient), door: Mutex::default() };
        sick.set(Mode::Well);
        sick
    }

    /// One that is at all addresses of loopback.
    pub fn everywhere() -> Sick {
        Sick::at(place::free_everywhere(), HEALTH)
    }

    /// The first `count` peers that one that is everywhere is.
    pub fn peers(&self, count: u16) -> Vec<SocketAddr> {
        let host = |number: u16| Ipv4Addr::new(127, 1, (number / 250) as u8, 1 + (number % 250) as u8);
        (0..count).map(|number| (host(number), self.address.port()).into()).collect()
    }

    /// How it is to probes and traffic alike from now on. A request that hangs or drips in another mode loses its connection.
    pub fn set(&self, mode: Mode) {
        self.patient.turn([mode, mode]);
        let mut door = self.door.lock().expect("no panic");
        if mode == Mode::Stopped {
            *door = None;
            return;
        }
        let patient = self.patient.clone();
        let door = door.get_or_insert_with(|| Door::open(self.address, move |stream| patient.meet(stream)));
        match mode {
            Mode::Deaf => door.deafen(),
            _ => door.hear(),
        }
    }

    /// How it is to probes alone; to traffic it stays as it is.
    pub fn set_probes(&self, mode: Mode) {
        let traffic = self.patient.lock().sides[TRAFFIC].mode;
        for mode in [mode, traffic] {
            assert!(!mode.is_of_connections(), "{mode:?}: who connects has not said yet whether it is a probe");
        }
        self.patient.turn([mode, traffic]);
    }

    /// Probes that arrived, in their order.
    pub fn probes(&self) -> Vec<Probe> {
        self.patient.lock().probes.clone()
    }

    /// How many did.
    pub fn probed(&self) -> usize {
        self.patient.lock().probes.len()
    }

    /// How many did at each address.
    pub fn probed_at(&self) -> HashMap<SocketAddr, usize> {
        let mut counts = HashMap::new();
        self.patient.lock().probes.iter().for_each(|probe| *counts.entry(probe.to).or_default() += 1);
        counts
    }

    /// Waits for so many more than the first `seen` ones, and returns the probes that came after these.
    pub fn wait_for_probes(&self, seen: usize, more: usize) -> Vec<Probe> {
        wait_for(&format!("{more} more probes of {}", self.name), || self.probed() >= seen + more);
        self.probes().split_off(seen)
    }

    /// The most probes that ever waited for their answers at one time.
    pub fn most_probes_at_once(&self) -> u64 {
        self.patient.lock().sides[PROBES].most
    }

    /// Requests that are no probes.
    pub fn traffic(&self) -> u64 {
        self.patient.lock().sides[TRAFFIC].requests
    }

    /// The paths that they asked for, in their order.
    pub fn asked(&self) -> Vec<String> {
        self.patient.lock().asked.clone()
    }

    /// The most of them that ever waited at one time.
    pub fn most_traffic_at_once(&self) -> u64 {
        self.patient.lock().sides[TRAFFIC].most
    }

    /// Connections that were made to it.
    pub fn accepted(&self) -> u64 {
        self.patient.lock().accepted
    }

    /// Those that are open.
    pub fn connections(&self) -> usize {
        self.patient.lock().streams.len()
    }
}

impl Drop for Sick {
    fn drop(&mut self) {
        self.set(Mode::Stopped);
    }
}

impl Patient {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn turn(&self, modes: [Mode; 2]) {
        let mut state = self.lock();
        let before = state.sides.each_ref().map(|side| side.mode);
        state.sides.iter_mut().zip(modes).for_each(|(side, mode)| side.mode = mode);
        let ends = |stream: &&Stream| stream.held.is_some_and(|kind| before[kind] != modes[kind]);
        let stopped = modes.contains(&Mode::Stopped);
        for stream in state.streams.values().filter(|stream| stopped || ends(stream)) {
            // Its client may have closed it already.
            let _ = stream.stream.shutdown(Shutdown::Both);
        }
        self.turned.notify_all();
    }

    /// A client connects.
    fn meet(self: &Arc<Patient>, stream: TcpStream) {
        let mut state = self.lock();
        let number = state.accepted;
        match state.sides[TRAFFIC].mode {
            Mode::Stopped => return,
            Mode::ResetsAtOnce => sockets::reset_on_close(&stream),
            _ => {
                let stream = Arc::new(stream);
                state.streams.insert(number, Stream { stream: stream.clone(), held: None });
                let patient = self.clone();
                std::thread::spawn(move || {
                    patient.serve(number, &stream);
                    patient.lock().streams.remove(&number);
                });
            }
        }
        state.accepted += 1;
    }

    /// Requests of one connection, until it ends.
    fn serve(&self, number: u64, stream: &TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let (source, to) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
        let probe = |raw: &[u8]| Probe { at: Instant::now(), raw: raw.to_owned(), source, to };
        let nothing = probe(b"");
        let mut reader = BufReader::new(stream);
        if !reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
            self.note(nothing);
            return None;
        }
        loop {
            let request = Request::read(&mut reader)?;
            let kind = match &request.path {
                Some(path) if *path != self.health => TRAFFIC,
                _ => PROBES,
            };
            match &request.path {
                Some(path) if kind == TRAFFIC => self.lock().asked.push(path.clone()),
                _ => self.note(probe(&request.raw)),
            }
            self.begin(kind, number).end(&mut reader, &request, to)?;
        }
    }

    fn note(&self, probe: Probe) {
        let mut state = self.lock();
        // A request that its own end cuts off does not count.
        if state.sides[PROBES].mode != Mode::Stopped {
            state.probes.push(probe);
        }
    }

    fn begin(&self, kind: usize, number: u64) -> Waiting<'_> {
        let mut state = self.lock();
        let side = &mut state.sides[kind];
        side.requests += 1;
        side.at_once += 1;
        side.most = side.most.max(side.at_once);
        let mode = side.mode;
        state.streams.entry(number).and_modify(|stream| stream.held = mode.holds().then_some(kind));
        Waiting { patient: self, kind, number, mode }
    }
}

/// A request that has no answer yet.
struct Waiting<'a> {
    patient: &'a Patient,
    kind: usize,
    number: u64,
    mode: Mode,
}

impl Waiting<'_> {
    /// None: the connection is over, too.
    fn end(self, reader: &mut BufReader<&TcpStream>, request: &Request, here: SocketAddr) -> Option<()> {
        let (says, goes_on) = self.mode.says(request, here);
        match self.mode {
            Mode::Hung | Mode::Deaf => drop(io::copy(reader, &mut io::sink())),
            Mode::Reset | Mode::ResetsAtOnce => sockets::reset_on_close(reader.get_ref()),
            Mode::Drip(pause) => says.iter().try_for_each(|byte| self.drip(reader.get_mut(), *byte, pause))?,
            _ => {
                // The thread with the answer finds that no client waits.
                drop(self);
                reader.get_mut().write_all(&says).ok()?;
            }
        }
        goes_on.then_some(())
    }

    fn drip(&self, stream: &mut impl Write, byte: u8, pause: Duration) -> Option<()> {
        stream.write_all(&[byte]).ok()?;
        let same = |state: &mut State| state.sides[self.kind].mode == self.mode;
        let waited = self.patient.turned.wait_timeout_while(self.patient.lock(), pause, same).expect("no panic");
        waited.1.timed_out().then_some(())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.patient.lock();
        state.sides[self.kind].at_once -= 1;
        state.streams.entry(self.number).and_modify(|stream| stream.held = None);
    }
}
