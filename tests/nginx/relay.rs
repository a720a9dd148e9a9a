//! A door through which clients reach the backend to which it leads at that moment. It notes the clients and their times.

use super::door::Door;
use super::place;
use super::wrk::clock;
use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

pub struct Relay {
    pub address: SocketAddr,
    ways: Arc<Mutex<Ways>>,
    _door: Door,
}

struct Ways {
    to: SocketAddr,
    /// When each client came, by [`clock`].
    arrived: Vec<u64>,
}

impl Relay {
    pub fn to(to: SocketAddr) -> Relay {
        let address = place::free_address();
        let ways = Arc::new(Mutex::new(Ways { to, arrived: Vec::new() }));
        let found = ways.clone();
        let door = Door::open(address, move |client| {
            let to = {
                let mut ways = found.lock().expect("no panic");
                ways.arrived.push(clock());
                ways.to
            };
            if let Ok(backend) = TcpStream::connect(to) {
                join(client, backend);
            }
        });
        Relay { address, ways, _door: door }
    }

    /// Leads clients to that backend from now on. Answers the time.
    pub fn turn(&self, to: SocketAddr) -> u64 {
        let mut ways = self.ways.lock().expect("no panic");
        ways.to = to;
        clock()
    }

    /// How many came in this time.
    pub fn came(&self, from: u64, until: u64) -> usize {
        self.ways.lock().expect("no panic").arrived.iter().filter(|at| (from..until).contains(at)).count()
    }
}

/// Passes the bytes of each to the other, until one of them ends.
fn join(client: TcpStream, backend: TcpStream) {
    let (client, backend) = (Arc::new(client), Arc::new(backend));
    for (from, to) in [(client.clone(), backend.clone()), (backend, client)] {
        std::thread::spawn(move || {
            let _ = copy(&mut &*from, &mut &*to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
