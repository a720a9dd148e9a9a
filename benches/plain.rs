//! nginx without dyups: the cost of a change of its upstream.

use crate::cpu;
use crate::place::{self, Place};
use crate::server::Nginx;
use crate::system::{children, wait_for};
use std::fs;
use std::path::PathBuf;

const WORKERS: usize = 2;

pub struct Plain {
    pub nginx: Nginx,
    prefix: PathBuf,
    /// In front of the servers: a method.
    method: &'static str,
}

impl Plain {
    /// `name` is its directory; `method` nginx's directive, or nothing for round robin.
    pub fn start(place: &Place, name: &str, method: &'static str, servers: &str) -> Plain {
        let prefix = place.path(name);
        fs::create_dir_all(&prefix).expect("mkdir");
        write(&prefix, method, servers);
        let traffic = place::free_address();
        let text = include_str!("plain.conf").replace("@TRAFFIC@", &traffic.to_string());
        let nginx = Nginx::with_text(&prefix, &text, WORKERS, traffic, traffic);
        Plain { nginx, prefix, method }
    }

    /// Edits the configuration and has nginx take it, as an operator does. Comes back when that is asked for, not done.
    pub fn change(&self, servers: &str) {
        write(&self.prefix, self.method, servers);
        let mut reload = place::nginx_in(&self.prefix);
        reload.arg("-c").arg(self.prefix.join("nginx.conf")).args(["-s", "reload"]);
        let out = reload.output().expect("nginx -s reload");
        assert!(out.status.success(), "nginx -s reload: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Waits until the workers are others than `old`, and the old ones gone.
    pub fn wait_for_others(&self, old: &[u32]) {
        wait_for("new workers and no old ones", || {
            let now: Vec<u32> = children(self.nginx.master()).into_iter().map(|(pid, _)| pid).collect();
            now.len() == WORKERS && now.iter().all(|pid| !old.contains(pid))
        });
    }

    /// CPU of one change, in ns, `nginx -s reload` included. It is the mean of several changes, since the kernel counts the
    /// CPU of ended processes in ticks of 10 ms.
    pub fn cost(&self, versions: &[String], changes: usize) -> f64 {
        let spent = || cpu::of_nginx(self.nginx.master()) + cpu::of_dead_children(std::process::id());
        let from = spent();
        for change in 0..changes {
            let old = self.nginx.worker_pids();
            self.change(&versions[change % versions.len()]);
            self.wait_for_others(&old);
        }
        (spent() - from) / changes as f64
    }
}

fn write(prefix: &std::path::Path, method: &str, servers: &str) {
    // As editors and deployments do: never half a file.
    let (new, path) = (prefix.join("upstream.conf.new"), prefix.join("upstream.conf"));
    let text = format!("upstream upstream {{ zone upstream 32m; {method} {servers} keepalive 64; }}\n");
    fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).expect("write the configuration");
}
