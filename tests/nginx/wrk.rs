//! wrk: load from outside, each request of which says when it began.

use super::place;
use super::system::signal;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

pub struct Wrk(Child);

/// The summary of wrk.
#[derive(Debug)]
pub struct Served {
    pub requests: u64,
    /// Answers that were neither 2xx nor 3xx.
    pub bad: u64,
    /// Connections that were refused, broke, or had no answer in time.
    pub broken: u64,
}

impl Wrk {
    /// GETs for `host` on a few connections, until it is stopped.
    pub fn start(address: SocketAddr, host: &str) -> Wrk {
        Wrk::over(16, address, host)
    }

    /// The same on so many connections.
    pub fn over(connections: usize, address: SocketAddr, host: &str) -> Wrk {
        let mut command = Command::new("wrk");
        command.args([
            "-t",
            "1",
            "-c",
            &connections.to_string(),
            "-d",
            "3600",
            "--timeout",
            "15",
            "-H",
            &format!("Host: {host}"),
            "-s",
        ]);
        let scripts = place::scripts();
        // Without its script wrk goes on, with requests that say nothing.
        let script = scripts.join("wrk.lua");
        assert!(script.is_file(), "no {}", script.display());
        command.arg(script).arg(format!("http://{address}/"));
        command.env("LUA_PATH", format!("{}/?.lua;;", scripts.display()));
        Wrk(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("wrk: make deps installs it"))
    }

    pub fn stop(mut self) -> Served {
        signal(self.0.id() as i32, libc::SIGINT);
        let mut said = String::new();
        std::io::Read::read_to_string(self.0.stdout.as_mut().expect("piped"), &mut said).expect("text");
        let number = |label: &str, before: bool| {
            let line = said.lines().find(|line| line.contains(label))?;
            let words = if before { line.split(label).next() } else { line.split(label).nth(1) };
            words?.split_whitespace().find_map(|word| word.parse().ok())
        };
        let requests = number(" requests in", true).unwrap_or_else(|| panic!("what wrk said:\n{said}"));
        let errors = said.lines().find(|line| line.contains("Socket errors:")).unwrap_or_default();
        let broken = errors.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum();
        Served { requests, bad: number("Non-2xx or 3xx responses:", false).unwrap_or(0), broken }
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Microseconds of the clock that clock.lua reads.
pub fn clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into a live struct.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) }, 0);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}
