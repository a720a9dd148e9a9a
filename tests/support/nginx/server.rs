//! One nginx: started, asked, signalled, and gone when it is dropped.

use super::client::{Client, Response};
use super::place::{self, LOGS_NOWHERE, Place};
use super::wall_clock::WallClock;
use crate::support::system::{children, group_lives, is_root, signal, wait_for, wait_until, worker_user};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The parts of proxy.conf.
pub struct Conf {
    pub workers: usize,
    /// Lua: fields of setup{...} beside shm_path.
    pub setup: String,
    pub shm_path: PathBuf,
    /// Lua: instead of the usual init_by_lua.
    pub init: Option<String>,
    pub init_worker: String,
    pub code_cache: bool,
    /// Directories of the Lua files and of the library.
    pub lua: PathBuf,
    pub cpath: String,
    /// More locations of the traffic server.
    pub locations: String,
    /// More of the http block.
    pub http: String,
    /// More outside of all blocks.
    pub main: String,
    /// User of the workers, when the master is root.
    pub user: &'static str,
    /// The size of a /dev/shm that this nginx alone sees. It was built to log where it cannot, too.
    pub dev_shm: Option<&'static str>,
    /// The wall clock of this nginx.
    pub clock: Option<WallClock>,
}

impl Conf {
    pub fn new(place: &Place, workers: usize) -> Conf {
        let (lua, lib) = place.readable();
        Conf {
            workers,
            setup: String::new(),
            shm_path: place.path("region"),
            init: None,
            init_worker: r#"assert(require("dyups").start())"#.into(),
            code_cache: true,
            lua,
            cpath: format!("{}/?.so;;", lib.display()),
            locations: String::new(),
            http: String::new(),
            main: String::new(),
            user: if is_root() { worker_user().0 } else { "" },
            dev_shm: None,
            clock: None,
        }
    }

    /// With a JSON or nginx file of upstreams.
    pub fn files(mut self, files: &[&Path]) -> Conf {
        let files: Vec<String> = files.iter().map(|file| format!("{:?}", file.display().to_string())).collect();
        self.setup += &format!("files = {{ {} }}, ", files.join(", "));
        self
    }

    /// The file of the region.
    pub fn region_file(&self) -> PathBuf {
        dyups::shm::region::file_of(&self.shm_path, dyups::shm::layout::LAYOUT)
    }

    /// Lua: the beginning of init_by_lua.
    fn usual_init(&self) -> String {
        let (path, more) = (self.shm_path.display(), &self.setup);
        format!(
            "assert(require(\"dyups\").setup{{ shm_path = \"{path}\", shm_size = \"8m\", {more} }})
             require \"dyups.admin\"
             require \"ngx.balancer\""
        )
    }

    /// The whole configuration.
    pub fn text(&self, traffic: SocketAddr, admin: SocketAddr) -> String {
        let mut main: String = place::nginx().1.iter().map(|module| format!("load_module {module};\n")).collect();
        if is_root() {
            main += &format!("user {};\n", self.user);
        }
        main += &self.main;
        main += &self.clock.as_ref().map(WallClock::directives).unwrap_or_default();
        let init = self.init.clone().unwrap_or_else(|| self.usual_init());
        include_str!("proxy.conf")
            .replace("@main@", &main)
            .replace("@workers@", &self.workers.to_string())
            .replace("@lua@", &self.lua.display().to_string())
            .replace("@cpath@", &self.cpath)
            .replace("@code_cache@", if self.code_cache { "" } else { "lua_code_cache off;" })
            .replace("@init@", &init)
            .replace("@init_worker@", &self.init_worker)
            .replace("@traffic@", &traffic.to_string())
            .replace("@admin@", &admin.to_string())
            .replace("@locations@", &self.locations)
            .replace("@http@", &self.http)
    }
}

/// A running nginx.
pub struct Nginx {
    prefix: PathBuf,
    dev_shm: Option<&'static str>,
    clock: Option<WallClock>,
    child: Child,
    workers: usize,
    pub traffic: SocketAddr,
    pub admin: SocketAddr,
}

const PLAIN: &str = "
    worker_processes 1;
    daemon off;
    pid nginx.pid;
    error_log error.log warn;
    events { worker_connections 1024; }
    http {
        access_log off;
        client_body_temp_path body;
        proxy_temp_path       proxy;
        fastcgi_temp_path     fastcgi;
        uwsgi_temp_path       uwsgi;
        scgi_temp_path        scgi;
        @http@
    }
";

impl Nginx {
    /// dyups's proxy in `place`.
    pub fn start(place: &Place, conf: &Conf) -> Nginx {
        let (prefix, addresses) = (place.path("proxy"), [place::free_address(), place::free_address()]);
        let outside = (conf.dev_shm, conf.clock.clone());
        Nginx::launch(&prefix, &conf.text(addresses[0], addresses[1]), conf.workers, addresses, outside)
    }

    /// Any nginx that answers at `admin`.
    pub fn with_text(prefix: &Path, text: &str, workers: usize, traffic: SocketAddr, admin: SocketAddr) -> Nginx {
        Nginx::launch(prefix, text, workers, [traffic, admin], (None, None))
    }

    /// A plain one, with one worker and this in `http {}`, that answers at `address`.
    pub fn plain(prefix: &Path, http: &str, address: SocketAddr) -> Nginx {
        Nginx::with_text(prefix, &PLAIN.replace("@http@", http), 1, address, address)
    }

    fn launch(
        prefix: &Path,
        text: &str,
        workers: usize,
        [traffic, admin]: [SocketAddr; 2],
        (dev_shm, clock): (Option<&'static str>, Option<WallClock>),
    ) -> Nginx {
        // They may lie where the user of the workers may not go: see Place::readable and Place::clock.
        let scripts = place::scripts().display().to_string();
        assert!(!text.contains(&scripts), "this nginx would read {scripts}");
        fs::create_dir_all(prefix).expect("mkdir");
        fs::write(prefix.join("nginx.conf"), text).expect("write");
        let child = spawn(prefix, dev_shm, clock.as_ref());
        let mut nginx = Nginx { prefix: prefix.to_owned(), dev_shm, clock, child, workers, traffic, admin };
        nginx.wait_until_up();
        nginx
    }

    fn wait_until_up(&mut self) {
        let mut gone = None;
        wait_for("nginx listens", || {
            gone = self.child.try_wait().expect("wait");
            gone.is_some() || std::net::TcpStream::connect(self.admin).is_ok()
        });
        assert!(gone.is_none(), "nginx did not start ({gone:?}):\n{}", self.log());
        wait_for("workers run", || self.worker_pids().len() == self.workers);
    }

    pub fn master(&self) -> u32 {
        self.child.id()
    }

    /// Workers that take connections, in no order.
    pub fn worker_pids(&self) -> Vec<u32> {
        let mut pids = children(self.master());
        pids.retain(|(_, title)| title.starts_with("nginx: worker process") && !title.contains("shutting down"));
        pids.into_iter().map(|(pid, _)| pid).collect()
    }

    /// Writes another configuration for the next reload or restart; addresses and number of workers stay.
    pub fn configure(&self, conf: &Conf) {
        assert_eq!(conf.workers, self.workers);
        fs::write(self.prefix.join("nginx.conf"), conf.text(self.traffic, self.admin)).expect("write");
    }

    /// HUP, until all workers are new ones.
    pub fn reload(&self) {
        let old = self.worker_pids();
        assert!(signal(self.master() as i32, libc::SIGHUP), "no master");
        wait_for("new workers after HUP", || {
            let now = self.worker_pids();
            now.len() == self.workers && now.iter().all(|pid| !old.contains(pid))
        });
    }

    /// HUP, with a configuration that is wrong: the workers stay.
    pub fn reload_in_vain(&self) {
        assert!(signal(self.master() as i32, libc::SIGHUP), "no master");
    }

    /// SIGKILL for these workers, until others run in their places.
    pub fn kill_workers(&self, pids: &[u32]) {
        for &pid in pids {
            signal(pid as i32, libc::SIGKILL);
        }
        wait_for("new workers after SIGKILL", || {
            let now = self.worker_pids();
            now.len() == self.workers && now.iter().all(|pid| !pids.contains(pid))
        });
    }

    /// SIGKILL for all of it at once, master included.
    pub fn kill_all(&mut self) {
        let group = self.child.id() as i32;
        signal(-group, libc::SIGKILL);
        let _ = self.child.wait();
        assert!(wait_until(Duration::from_secs(10), || !group_lives(group)), "a process outlived SIGKILL");
    }

    /// Waits for the end of a master that was told to end.
    pub fn wait_until_gone(&mut self) {
        wait_for("nginx ends", || self.child.try_wait().expect("wait").is_some());
    }

    /// Starts it again after it was killed.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.prefix, self.dev_shm, self.clock.as_ref());
        self.wait_until_up();
    }

    /// One request to the admin server, which has to be answered.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Response {
        let answer = Client::new(self.admin).send(method, "localhost", path, body, true);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// Replaces an upstream by `servers`, in nginx's syntax.
    pub fn post(&self, upstream: &str, servers: &str) {
        let answer = self.admin("POST", &format!("/upstream/{upstream}"), servers);
        assert_eq!((answer.status, answer.body.as_str()), (200, "success"), "{:?}", answer.header("x-dyups-error"));
    }

    /// Runs Lua in a content handler: its result, as text.
    pub fn eval(&self, lua: &str) -> String {
        let answer = self.admin("POST", "/eval", lua);
        assert_eq!(answer.status, 200, "{lua}: {}\n{}", answer.body, self.log());
        answer.body
    }

    /// A change by Lua, which has to succeed.
    pub fn change(&self, lua: &str) {
        assert_eq!(self.eval(&format!("return require(\"dyups\").{lua}")), "true", "{lua}");
    }

    /// The table.
    pub fn status(&self) -> serde_json::Value {
        status(&self.admin("GET", "/status", ""))
    }

    /// The table, as each of the workers shows it.
    pub fn status_of_each_worker(&self) -> Vec<serde_json::Value> {
        let mut seen = BTreeMap::new();
        wait_for("each worker answers", || {
            let answer = self.admin("GET", "/status", "");
            seen.insert(answer.header("x-worker").map(str::to_owned), status(&answer));
            seen.len() == self.workers
        });
        seen.into_values().collect()
    }

    /// One GET through the proxy, on a fresh connection.
    pub fn get(&self, host: &str, path: &str) -> Response {
        Client::new(self.traffic).get_fresh(host, path).unwrap_or_else(|error| panic!("{host}{path}: {error}"))
    }

    /// All that was said: stderr, where the first start's init_by_lua logs since no file is open yet, and the error log.
    pub fn log(&self) -> String {
        self.read("stderr.log") + &self.error_log()
    }

    /// The error log alone.
    pub fn error_log(&self) -> String {
        self.read("error.log")
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.prefix.join(name)).unwrap_or_default()).into_owned()
    }

    pub fn wait_for_log(&self, text: &str) {
        let found = wait_until(Duration::from_secs(10), || self.log().contains(text));
        assert!(found, "the log lacks {text:?}:\n{}", self.log());
    }

    /// No worker crashed, and nothing worse than errors was logged, but for deaths by `killed` signals.
    pub fn assert_calm(&self) {
        let log = self.log();
        let bad = log.lines().find(|line| {
            ["[alert]", "[crit]", "[emerg]", "panicked", "a bug in dyups"].iter().any(|word| line.contains(word))
                && !line.contains("exited on signal 9")
        });
        assert_eq!(bad, None, "in the log");
    }
}

fn status(answer: &Response) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// nginx, perhaps one that sees another /dev/shm, and that was built to log where it cannot. The pid is its own, as everything
/// before it is replaced by exec.
fn command(prefix: &Path, dev_shm: Option<&'static str>) -> Command {
    let Some(size) = dev_shm else { return place::nginx_in(prefix) };
    let script = format!("mount -t tmpfs -o size={size} tmpfs /dev/shm && exec \"$0\" {LOGS_NOWHERE} \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(&place::nginx().0).args(place::arguments(prefix));
    command
}

fn spawn(prefix: &Path, dev_shm: Option<&'static str>, clock: Option<&WallClock>) -> Child {
    let log = fs::File::options().create(true).append(true).open(prefix.join("stderr.log")).expect("a log");
    let mut command = command(prefix, dev_shm);
    command.arg("-c").arg(prefix.join("nginx.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    command.envs(clock.map(WallClock::environment).into_iter().flatten());
    // SAFETY: between fork and exec, prctl alone, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            // A test that is killed takes its nginx along: TERM makes the master end its workers.
            match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command.spawn().expect("nginx")
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(25)..].join("\n");
            eprintln!("---- the end of the log of {}:\n{end}\n----", self.prefix.display());
        }
        let group = self.child.id() as i32;
        signal(-group, libc::SIGKILL);
        let _ = self.child.wait();
        wait_until(Duration::from_secs(10), || !group_lives(group));
    }
}
