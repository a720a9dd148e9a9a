//! A writer that stands still with the lock stalls no other process.

use super::backends::Backends;
use super::holder::Holder;
use super::load::{Connections, Load};
use super::place::Place;
use super::server::{Conf, Nginx};
use super::system::signal;
use dyups::shm::lock::WRITER;
use std::path::Path;
use std::time::{Duration, Instant};

/// A stopped process that holds the writer lock of a region.
fn stopped_writer(lock_file: &Path) -> Holder {
    let holder = Holder::start(lock_file, WRITER, 1);
    assert!(signal(holder.pid() as i32, libc::SIGSTOP));
    holder
}

#[test]
fn while_a_stopped_process_holds_the_writer_lock_changes_are_answered_409_and_all_else_goes_on() {
    let place = Place::new("busy");
    let backends = Backends::start(&place, 2);
    let nginx = Nginx::start(&place, &Conf::new(&place, 2));
    nginx.post("api", &backends.servers(&["", ""]));
    let before = nginx.admin("GET", "/detail", "").body;
    let holder = stopped_writer(&place.path("region.lock"));

    let traffic = Load::start(nginx.traffic, 4, |worker| {
        let connections = if worker.number % 2 == 0 { Connections::Fresh } else { Connections::Kept };
        worker.get("api", connections);
    });
    let reads = Load::start(nginx.admin, 2, |worker| {
        let begin = Instant::now();
        let path = ["/list", "/detail", "/upstream/api", "/status"][worker.seen.total() as usize % 4];
        let answer = worker.client.get("localhost", path);
        worker.seen.note(&answer, begin.elapsed());
    });

    // All at once: each of them waits for its turn, and none for another.
    let pid = format!("pid {}", holder.pid());
    let peer = "server 127.0.0.1:1;";
    std::thread::scope(|scope| {
        for (method, path, body) in
            [("POST", "/upstream/api", peer), ("POST", "/upstream/new", peer), ("DELETE", "/upstream/api", "")]
        {
            let (nginx, pid) = (&nginx, &pid);
            scope.spawn(move || {
                let begin = Instant::now();
                let answer = nginx.admin(method, path, body);
                let took = begin.elapsed();
                assert_eq!((answer.status, answer.body.as_str()), (409, "wait and try again\n"), "{method} {path}");
                let why = answer.header("x-dyups-error").expect("X-Dyups-Error");
                assert!(why.contains(pid), "{why} does not name the holder, {pid}");
                assert!(took < Duration::from_secs(4), "{method} {path} took {took:?}");
            });
        }
        scope.spawn(|| {
            let begin = Instant::now();
            let answer = nginx.eval("return require('dyups').add_peer('api', { host = '10.0.0.1' })");
            assert!(answer.starts_with("nil ") && answer.contains(&pid), "{answer}");
            assert!(begin.elapsed() < Duration::from_secs(4), "add_peer took {:?}", begin.elapsed());
        });
    });

    for load in [traffic, reads] {
        let seen = load.stop();
        seen.assert_all_good();
        assert_eq!(seen.broken, 0);
        assert!(seen.total() > 200, "{} requests", seen.total());
        assert!(seen.slowest < Duration::from_secs(1), "a request took {:?}", seen.slowest);
    }
    assert_eq!(nginx.admin("GET", "/detail", "").body, before, "nothing was changed");
    drop(holder);
    nginx.post("api", "server 127.0.0.1:1;");
    nginx.assert_calm();
}
