//! Changes from many sides, and the table that they have to lead to.

use super::client::{Client, Response};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Upstreams of one changer by name: the weight of the one peer that was acknowledged last, or nothing after a deletion.
pub type Table = BTreeMap<String, Option<u64>>;

/// Changes that go on until they are stopped. A change without an answer is sent again until there is one. So in the end each
/// upstream is as its last acknowledged change says.
pub struct Changers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Table>>,
}

impl Changers {
    pub fn start(admin: SocketAddr, peer: &str, threads: usize) -> Changers {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..threads)
            .map(|thread| {
                let (stop, acknowledged, peer) = (stop.clone(), acknowledged.clone(), peer.to_owned());
                std::thread::spawn(move || {
                    let mut table = Table::new();
                    let mut client = Client::new(admin);
                    for step in 1.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let name = format!("t{thread}-{}", step % 23);
                        table.insert(name.clone(), change(&mut client, &name, &peer, step, &acknowledged));
                    }
                    table
                })
            })
            .collect();
        Changers { stop, acknowledged, threads }
    }

    /// How many were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub fn wait_for_more(&self, more: usize) {
        let goal = self.count() + more;
        super::system::wait_for("changes go on", || self.count() >= goal);
    }

    pub fn stop(mut self) -> Table {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).flat_map(|thread| thread.join().expect("a changer")).collect()
    }
}

impl Drop for Changers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// One change, repeated until it is acknowledged.
fn change(client: &mut Client, name: &str, peer: &str, step: u64, acknowledged: &AtomicUsize) -> Option<u64> {
    let path = format!("/upstream/{name}");
    let weight = step % 60_000;
    // A change as a whole is larger now and then, which keeps the writer busy for longer.
    let others = if step.is_multiple_of(5) { 400 } else { 0 };
    let others = (0..others).map(|n| format!("server 10.0.{}.{} weight={weight};", n / 250, n % 250));
    let servers: String = [format!("server {peer} weight={weight};")].into_iter().chain(others).collect();
    let lua = format!("return require('dyups').add_peer('{name}', {{ server = '{peer}', weight = {weight} }})");
    let (answer, _) = match step % 7 {
        // 404: an attempt without an answer did it.
        0 => insist(client, "DELETE", &path, "", &[200, 404]),
        1..=3 => insist(client, "POST", "/eval", &lua, &[200]),
        _ => insist(client, "POST", &path, &servers, &[200]),
    };
    assert!(["success", "true", "not found uptream"].contains(&answer.body.as_str()), "{name}: {}", answer.body);
    acknowledged.fetch_add(1, Ordering::Relaxed);
    (!step.is_multiple_of(7)).then_some(weight)
}

/// Sends a request to the admin server until it is answered, which has to be with one of the `good` statuses. Answers whether
/// the first attempt was answered: the effect of others is unknown.
pub fn insist(client: &mut Client, method: &str, path: &str, body: &str, good: &[u16]) -> (Response, bool) {
    for attempt in 0..5000 {
        match client.send(method, "localhost", path, body, false) {
            Ok(answer) if good.contains(&answer.status) => return (answer, attempt == 0),
            Ok(answer) => panic!("{method} {path}: {answer:?}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
    panic!("{method} {path}: nobody answers");
}

/// The table, as a worker shows it, has just this, and the upstreams in `stable`.
pub fn assert_table(status: &serde_json::Value, expected: &Table, stable: &[&str]) {
    let upstreams = status["upstreams"].as_object().expect("upstreams");
    let mut names: Vec<&str> = upstreams.keys().map(String::as_str).collect();
    names.retain(|name| !stable.contains(name));
    let there: Vec<&str> =
        expected.iter().filter(|(_, weight)| weight.is_some()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, there, "the names in the table");
    for (name, weight) in expected {
        let Some(weight) = weight else { continue };
        let peers = upstreams[name]["peers"].as_array().expect("peers");
        // add_peer changes the first peer alone; a change as a whole gives all the same weight.
        assert_eq!(peers[0]["weight"].as_u64(), Some(*weight), "{name}: what was acknowledged last");
        assert!(peers.len() == 1 || peers.len() == 401, "{name}: {} peers", peers.len());
        assert!(
            peers.iter().skip(1).all(|peer| peer["weight"] == peers[peers.len() - 1]["weight"]),
            "{name}: a mixture"
        );
    }
}
