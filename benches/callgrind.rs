//! Instructions that a request costs an nginx of one process, counted by callgrind.

use crate::place::{self, Place, nginx_in};
use crate::server::Conf;
use crate::system::{signal, wait_until};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The difference of two runs is that of so many requests, without start and end.
const REQUESTS: [usize; 2] = [1000, 5000];
/// callgrind is some fifty times as slow.
const PATIENCE: Duration = Duration::from_secs(90);

/// Of a request to `path`, once the Lua of `prepare` has run.
pub fn of_a_request(place: &Place, conf: &Conf, prepare: &str, path: &str) -> f64 {
    let [few, many] = REQUESTS.map(|requests| of_requests(place, conf, prepare, path, requests));
    (many - few) / (REQUESTS[1] - REQUESTS[0]) as f64
}

fn of_requests(place: &Place, conf: &Conf, prepare: &str, path: &str, requests: usize) -> f64 {
    let prefix = place.path("callgrind");
    let (traffic, admin) = (place::free_address(), place::free_address());
    let text = format!("master_process off;\n{}", conf.text(traffic, admin));
    fs::create_dir_all(&prefix).and_then(|()| fs::write(prefix.join("nginx.conf"), text)).expect("write");
    let out = prefix.join("callgrind.out");
    let nginx = Counted(start(&prefix, &out));
    let listens = |address: SocketAddr| wait_until(PATIENCE, || TcpStream::connect(address).is_ok());
    assert!(listens(admin) && listens(traffic), "nginx under callgrind does not start");
    let answer =
        crate::client::Client::new(admin).send("POST", "localhost", "/eval", &format!("return {prepare}"), true);
    assert_eq!(answer.expect("an answer").body, "true");
    let load = Command::new("h2load")
        .args(["--h1", "-t", "1", "-c", "4", "-n", &requests.to_string(), &format!("http://{traffic}{path}")])
        .output();
    let said = String::from_utf8_lossy(&load.expect("h2load: make deps FOR=bench installs it").stdout).into_owned();
    assert!(said.contains(&format!(" {requests} 2xx")), "{said}");
    drop(nginx);
    let counted = fs::read_to_string(&out).expect("what callgrind counted");
    let total = counted.lines().find_map(|line| line.strip_prefix("summary: "));
    total.and_then(|total| total.trim().parse().ok()).unwrap_or_else(|| panic!("no summary in {}", out.display()))
}

fn start(prefix: &Path, out: &Path) -> Child {
    let plain = nginx_in(prefix);
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=callgrind", &format!("--callgrind-out-file={}", out.display())]);
    command.arg(plain.get_program()).args(plain.get_args()).arg("-c").arg(prefix.join("nginx.conf"));
    let log = fs::File::create(prefix.join("valgrind.log")).expect("a log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("valgrind: make deps FOR=bench installs it")
}

/// It ends before the value does, and has written its counts then.
struct Counted(Child);

impl Drop for Counted {
    fn drop(&mut self) {
        signal(self.0.id() as i32, libc::SIGTERM);
        if !wait_until(PATIENCE, || matches!(self.0.try_wait(), Ok(Some(_)))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
