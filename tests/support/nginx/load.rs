//! Many clients at once, and the answers that they got.

use super::client::{Client, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The answers.
#[derive(Debug, Default)]
pub struct Seen {
    pub statuses: BTreeMap<u16, u64>,
    /// Bodies of answers with 200.
    pub bodies: BTreeMap<String, u64>,
    /// Pids of the workers that served.
    pub workers: BTreeSet<u32>,
    /// Connections that broke before an answer.
    pub broken: u64,
    pub slowest: Duration,
    /// The failures, in words.
    pub wrong: Vec<String>,
}

impl Seen {
    pub fn note(&mut self, answer: &io::Result<Response>, took: Duration) {
        self.slowest = self.slowest.max(took);
        let Ok(response) = answer else {
            self.broken += 1;
            return;
        };
        *self.statuses.entry(response.status).or_default() += 1;
        self.workers.extend(response.header("x-worker").and_then(|pid| pid.parse::<u32>().ok()));
        if response.status == 200 {
            *self.bodies.entry(response.body.clone()).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Seen) {
        other.statuses.into_iter().for_each(|(status, n)| *self.statuses.entry(status).or_default() += n);
        other.bodies.into_iter().for_each(|(body, n)| *self.bodies.entry(body).or_default() += n);
        self.workers.extend(other.workers);
        self.broken += other.broken;
        self.slowest = self.slowest.max(other.slowest);
        self.wrong.extend(other.wrong);
    }

    pub fn total(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Answers from the backend that answers with `name`.
    pub fn from(&self, name: &str) -> u64 {
        self.bodies.get(name).copied().unwrap_or(0)
    }

    /// Nothing but 200.
    pub fn assert_all_good(&self) {
        let (statuses, wrong) = (&self.statuses, &self.wrong);
        assert!(statuses.keys().all(|&status| status == 200), "statuses {statuses:?}");
        assert!(wrong.is_empty(), "{} wrong, the first: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    Kept,
    Fresh,
}

/// Exactly `total` GETs for `host` over `threads` connections (or as many at a time). Breaking ones are a failure.
pub fn requests(address: SocketAddr, host: &str, total: usize, threads: usize, connections: Connections) -> Seen {
    let next = AtomicUsize::new(0);
    let mut all = Seen::default();
    std::thread::scope(|scope| {
        let run = || {
            let (mut client, mut seen) = (Client::new(address), Seen::default());
            while next.fetch_add(1, Ordering::Relaxed) < total {
                let begin = Instant::now();
                let answer = match connections {
                    Connections::Kept => client.get(host, "/"),
                    Connections::Fresh => client.get_fresh(host, "/"),
                };
                if let Err(error) = &answer {
                    seen.wrong.push(error.to_string());
                }
                seen.note(&answer, begin.elapsed());
            }
            assert_eq!(client.resent, 0, "nginx closed a connection that it should keep");
            seen
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().for_each(|thread| all.merge(thread.join().expect("a client")));
    });
    all
}

/// One client of a [`Load`].
pub struct Worker {
    pub number: usize,
    pub client: Client,
    pub seen: Seen,
}

impl Worker {
    /// One GET, noted.
    pub fn get(&mut self, host: &str, connections: Connections) -> Option<Response> {
        let begin = Instant::now();
        let answer = match connections {
            Connections::Kept => self.client.get(host, "/"),
            Connections::Fresh => self.client.get_fresh(host, "/"),
        };
        self.seen.note(&answer, begin.elapsed());
        if answer.is_err() {
            // Nothing listens at this moment: not a reason to spin.
            std::thread::sleep(Duration::from_millis(1));
        }
        answer.ok()
    }
}

/// Clients that go on until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Seen>>,
}

impl Load {
    pub fn start<W>(address: SocketAddr, threads: usize, work: W) -> Load
    where
        W: Fn(&mut Worker) + Send + Sync + 'static,
    {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let work = Arc::new(work);
        let threads = (0..threads)
            .map(|number| {
                let (stop, answered, work) = (stop.clone(), answered.clone(), work.clone());
                std::thread::spawn(move || {
                    let mut worker = Worker { number, client: Client::new(address), seen: Seen::default() };
                    while !stop.load(Ordering::Relaxed) {
                        work(&mut worker);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    worker.seen
                })
            })
            .collect();
        Load { stop, answered, threads }
    }

    /// How often the work was done.
    pub fn count(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until the work was done `more` times more.
    pub fn wait_for_more(&self, more: usize) {
        let goal = self.count() + more;
        crate::support::system::wait_for("the load goes on", || self.count() >= goal);
    }

    pub fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        self.threads.drain(..).for_each(|thread| all.merge(thread.join().expect("a client")));
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
