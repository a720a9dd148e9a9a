//! Requests at a steady rate: each is sent when it is due, whatever became of those before, and its time counts from when it
//! was due. A server that stalls is thus seen by all who would have come meanwhile.

use crate::client::Client;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Clients with a connection each, which they keep.
pub struct Clients {
    clients: Vec<Client>,
    host: &'static str,
}

impl Clients {
    pub fn new(count: usize, address: SocketAddr, host: &'static str) -> Clients {
        Clients { clients: (0..count).map(|_| Client::new(address)).collect(), host }
    }

    /// How many requests a second are answered when each client asks again at once.
    pub fn saturating_rate(&mut self, window: Duration) -> f64 {
        let (begin, host) = (Instant::now(), self.host);
        let answers = self.each(|_, client| {
            let mut answers = 0;
            while begin.elapsed() < window {
                get(client, host);
                answers += 1;
            }
            answers
        });
        answers.into_iter().sum::<usize>() as f64 / begin.elapsed().as_secs_f64()
    }

    /// At `rate` requests a second: how long each took, in ns.
    pub fn times(&mut self, rate: f64, window: Duration) -> Vec<f64> {
        let gap = Duration::from_secs_f64(self.clients.len() as f64 / rate);
        let (begin, host, clients) = (Instant::now(), self.host, self.clients.len() as u32);
        let times = self.each(|number, client| {
            let mut times = Vec::new();
            // In turn.
            let mut due = begin + gap * number / clients;
            while due < begin + window {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                get(client, host);
                times.push(due.elapsed().as_nanos() as f64);
                due += gap;
            }
            times
        });
        times.concat()
    }

    fn each<T: Send>(&mut self, run: impl Fn(u32, &mut Client) -> T + Sync) -> Vec<T> {
        let run = &run;
        std::thread::scope(|scope| {
            let numbered = (0..).zip(&mut self.clients);
            let threads: Vec<_> = numbered.map(|(number, client)| scope.spawn(move || run(number, client))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
        })
    }
}

fn get(client: &mut Client, host: &str) {
    let answer = client.get(host, "/").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
}
