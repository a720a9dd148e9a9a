//! A load that goes to many upstreams in turn. Each request notes when it began. So requests that began after an event differ
//! from those under way, by the client's notes and by the backend's.

use super::load::{Load, Seen};
use super::system::wait_for;
use super::wrk::clock;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Answered {
    /// In microseconds of [`clock`].
    pub begun: u64,
    /// None: the connection broke.
    pub status: Option<u16>,
    /// Its answer, which names the backend.
    pub body: String,
    /// The pid of nginx's worker.
    pub worker: String,
}

pub struct Timed {
    load: Load,
    /// By upstream.
    answered: Arc<Vec<Mutex<Vec<Answered>>>>,
}

/// The time that is in the path of a request of [`Timed`].
pub fn begun(path: &str) -> u64 {
    path.trim_start_matches('/').parse().expect("a time")
}

impl Timed {
    /// Half of the clients keep their connections, and half of them make one for each request.
    pub fn start(address: SocketAddr, clients: usize, upstreams: Vec<String>) -> Timed {
        let answered: Arc<Vec<Mutex<Vec<Answered>>>> = Arc::new(upstreams.iter().map(|_| Mutex::default()).collect());
        let (noted, turn) = (answered.clone(), Mutex::new(0));
        let load = Load::start(address, clients, move |worker| {
            let which = {
                let mut turn = turn.lock().expect("no panic");
                *turn += 1;
                *turn % upstreams.len()
            };
            let (begun, host) = (clock(), &upstreams[which]);
            let answer = match worker.number % 2 {
                0 => worker.client.get(host, &format!("/{begun}")),
                _ => worker.client.get_fresh(host, &format!("/{begun}")),
            };
            let worker = |pid: Option<&str>| pid.unwrap_or_default().to_owned();
            let answered = match answer {
                Ok(answer) => {
                    let worker = worker(answer.header("x-worker"));
                    Answered { begun, status: Some(answer.status), body: answer.body, worker }
                }
                Err(_) => Answered { begun, status: None, body: String::new(), worker: worker(None) },
            };
            noted[which].lock().expect("no panic").push(answered);
        });
        Timed { load, answered }
    }

    /// The answers to requests to an upstream that began in this time.
    pub fn between(&self, upstream: usize, from: u64, until: u64) -> Vec<Answered> {
        let all = self.answered[upstream].lock().expect("no panic");
        all.iter().filter(|answered| (from..until).contains(&answered.begun)).cloned().collect()
    }

    /// Waits until so many requests to it are over that began later than this.
    pub fn wait_for(&self, upstream: usize, from: u64, requests: usize) {
        wait_for(&format!("{requests} requests"), || {
            let all = self.answered[upstream].lock().expect("no panic");
            all.iter().filter(|answered| answered.begun >= from).count() >= requests
        });
    }

    /// How many requests are over.
    pub fn count(&self) -> usize {
        self.load.count()
    }

    pub fn stop(self) -> Arc<Vec<Mutex<Vec<Answered>>>> {
        let Timed { load, answered } = self;
        let _: Seen = load.stop();
        answered
    }
}
