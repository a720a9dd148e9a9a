//! An nginx that is upgraded by USR2, and the masters that follow one another beside its sockets. It is a daemon, since nginx
//! takes the signal only then.

use super::client::{Client, Response};
use super::place::{self, Place};
use super::server::Conf;
use super::system::{PATIENCE, children, group_lives, groups_with, signal, wait_for, wait_until};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Generations {
    prefix: PathBuf,
    /// All masters and workers: the first master has made a session of its own.
    group: i32,
    /// Ends them when this process dies.
    guard: Child,
    pub traffic: SocketAddr,
    pub admin: SocketAddr,
}

/// A master, by its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master(pub u32);

impl Master {
    /// Its workers, but for those that shut down.
    pub fn workers(self) -> Vec<u32> {
        let mut pids = children(self.0);
        pids.retain(|(_, title)| title.starts_with("nginx: worker process") && !title.contains("shutting down"));
        pids.into_iter().map(|(pid, _)| pid).collect()
    }

    pub fn signal(self, number: i32) {
        assert!(signal(self.0 as i32, number), "no master {}", self.0);
    }

    fn has_workers(self, count: usize) {
        wait_for("its workers run", || self.workers().len() == count);
    }

    /// Its workers finish their requests and end; it stays.
    pub fn lets_its_workers_go(self) {
        self.signal(libc::SIGWINCH);
        wait_for("its workers are gone", || children(self.0).iter().all(|(_, title)| title.contains("master process")));
    }

    /// Starts workers again.
    pub fn takes_back(self, workers: usize) {
        self.signal(libc::SIGHUP);
        self.has_workers(workers);
    }
}

impl Generations {
    pub fn start(place: &Place, conf: &Conf) -> (Generations, Master) {
        let (traffic, admin, prefix) = (place::free_address(), place::free_address(), place.path("proxy"));
        fs::create_dir_all(&prefix).expect("mkdir");
        let write = |conf: &Conf| {
            let text = conf.text(traffic, admin).replace("daemon off;", "daemon on;");
            fs::write(prefix.join("nginx.conf"), text).expect("write");
        };
        write(conf);
        let log = fs::File::create(prefix.join("stderr.log")).expect("a log");
        let status = place::nginx_in(&prefix)
            .arg("-c")
            .arg(prefix.join("nginx.conf"))
            .stdin(Stdio::null())
            .stderr(log)
            .status()
            .expect("nginx");
        let stderr = fs::read_to_string(prefix.join("stderr.log")).unwrap_or_default();
        assert!(status.success(), "nginx did not start: {stderr}");
        let master = first_master(&prefix);
        let script = "read -r _; kill -KILL \"-$1\" 2>/dev/null";
        let mut guard = Command::new("sh");
        guard.args(["-c", script, "sh", &master.0.to_string()]).stdin(Stdio::piped());
        let guard = guard.spawn().expect("sh");
        master.has_workers(conf.workers);
        (Generations { prefix, group: master.0 as i32, guard, traffic, admin }, master)
    }

    /// The configuration of the next master.
    pub fn configure(&self, conf: &Conf) {
        let text = conf.text(self.traffic, self.admin).replace("daemon off;", "daemon on;");
        fs::write(self.prefix.join("nginx.conf"), text).expect("write");
    }

    /// USR2 to `old`: the new master, with its workers.
    pub fn upgrade(&self, old: Master, workers: usize) -> Master {
        wait_for("the old master is the one", || self.is(old));
        old.signal(libc::SIGUSR2);
        let mut new = None;
        wait_for("a new master", || {
            new = master_in(&self.prefix).filter(|master| *master != old);
            new.is_some()
        });
        let new = new.expect("found");
        new.has_workers(workers);
        new
    }

    /// Whether `master` is the one that pid files name, and no other.
    pub fn is(&self, master: Master) -> bool {
        master_in(&self.prefix) == Some(master) && !self.prefix.join("nginx.pid.oldbin").exists()
    }

    /// QUIT to `master`, until the other one is alone.
    pub fn quit(&self, master: Master) {
        master.signal(libc::SIGQUIT);
        wait_for("it is gone", || !Path::new(&format!("/proc/{}", master.0)).exists());
    }

    /// SIGKILL to a master and its workers at once.
    pub fn kill(&self, master: Master) {
        let workers = master.workers();
        master.signal(libc::SIGKILL);
        workers.iter().for_each(|&pid| _ = signal(pid as i32, libc::SIGKILL));
        let gone = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
        };
        wait_for("they are gone", || gone(master.0) && workers.iter().all(|&pid| gone(pid)));
    }

    /// One request that a worker of `master` has to answer. Those of the other master get it too, until then.
    pub fn ask(&self, master: Master, method: &str, path: &str, body: &str) -> Response {
        let workers = master.workers();
        let mut answer = None;
        wait_for("a worker of this master answers", || {
            answer = Client::new(self.admin).send(method, "localhost", path, body, true).ok().filter(|answer| {
                answer.header("x-worker").and_then(|pid| pid.parse().ok()).is_some_and(|pid| workers.contains(&pid))
            });
            answer.is_some()
        });
        answer.expect("one")
    }

    /// A change that a worker of `master` has to acknowledge.
    pub fn post(&self, master: Master, upstream: &str, servers: &str) {
        let answer = self.ask(master, "POST", &format!("/upstream/{upstream}"), servers);
        assert_eq!(answer.status, 200, "{upstream}: {:?}", answer.header("x-dyups-error"));
    }

    /// The table as a worker of `master` has it.
    pub fn status(&self, master: Master) -> serde_json::Value {
        serde_json::from_str(&self.ask(master, "GET", "/status", "").body).expect("JSON")
    }

    pub fn names(&self, master: Master) -> Vec<String> {
        self.status(master)["upstreams"].as_object().expect("upstreams").keys().cloned().collect()
    }

    pub fn layout(&self, master: Master) -> u64 {
        self.status(master)["region"]["layout"].as_u64().expect("a number")
    }

    pub fn log(&self) -> String {
        ["stderr.log", "error.log"].map(|name| fs::read_to_string(self.prefix.join(name)).unwrap_or_default()).concat()
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the log:\n{}\n----", self.log());
        }
        signal(-self.group, libc::SIGKILL);
        wait_until(Duration::from_secs(10), || !group_lives(self.group));
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// The master of a daemon that has just been started: it writes its pid file after the process that made it has ended.
fn first_master(prefix: &Path) -> Master {
    if !wait_until(PATIENCE, || master_in(prefix).is_some()) {
        groups_with(&prefix.display().to_string()).into_iter().for_each(|group| _ = signal(-group, libc::SIGKILL));
        panic!("nginx has written no nginx.pid: {:?}", fs::read_to_string(prefix.join("error.log")));
    }
    master_in(prefix).expect("waited for")
}

fn master_in(prefix: &Path) -> Option<Master> {
    fs::read_to_string(prefix.join("nginx.pid")).ok()?.trim().parse().ok().map(Master)
}
