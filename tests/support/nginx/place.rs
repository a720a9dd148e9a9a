//! Where things are, and a place for each test.

pub use crate::support::shipped::{LIBRARY, library, root};
use crate::support::system::{is_root, passable, wait_for, worker_user};
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tempfile::{Builder, TempDir};

/// The tests that run side by side hold it to read, one that runs alone to write.
static TURN: RwLock<()> = RwLock::new(());
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);
static NEXT_PORT_EVERYWHERE: AtomicU16 = AtomicU16::new(30_000);

/// Where the Lua files of these tests are. The user of the workers may be unable to read them.
pub fn scripts() -> PathBuf {
    root().join("tests/support/nginx")
}

/// Copies `names` out of one directory into another, which is made.
pub fn copy(from: &Path, to: &Path, names: &[&str]) {
    fs::create_dir_all(to).expect("mkdir");
    for name in names {
        let status = Command::new("cp").arg("-r").arg(from.join(name)).arg(to).status().expect("cp");
        assert!(status.success(), "cp -r {name}");
    }
}

/// nginx by its absolute path, and the modules that it has to load to speak Lua, from tools/nginx.sh.
pub fn nginx() -> &'static (PathBuf, Vec<String>) {
    static FOUND: OnceLock<(PathBuf, Vec<String>)> = OnceLock::new();
    FOUND.get_or_init(|| {
        let script = r#". tools/nginx.sh; find_nginx && find_lua_modules && printf '%s\n' "$nginx" "${modules[@]}""#;
        let out = Command::new("bash").args(["-c", script]).current_dir(root()).output().expect("bash");
        assert!(out.status.success(), "no nginx that speaks Lua: make deps installs it");
        let mut lines = std::str::from_utf8(&out.stdout).expect("paths").lines().map(str::to_owned);
        let nginx = lines.next().expect("a path").into();
        (nginx, lines.filter(|module| !module.is_empty()).collect())
    })
}

/// nginx with this prefix. Until it has read its configuration it logs to stderr, as Debian's does. Others log into a file in a
/// directory that may be missing, or into another user's.
pub fn nginx_in(prefix: &Path) -> Command {
    let mut command = Command::new(&nginx().0);
    command.args(arguments(prefix));
    command
}

/// The first arguments of [`nginx_in`].
pub fn arguments(prefix: &Path) -> [&OsStr; 4] {
    ["-p".as_ref(), prefix.as_os_str(), "-e".as_ref(), "stderr".as_ref()]
}

/// Arguments that make an nginx one that was built to log where it cannot, as long as none of the next say where.
pub const LOGS_NOWHERE: &str = "-e nowhere/error.log";

/// Whether other tests run meanwhile.
enum Turn {
    SideBySide { _held: RwLockReadGuard<'static, ()> },
    Alone { _held: RwLockWriteGuard<'static, ()> },
}

/// A directory and a turn of one test. Dropped last, it takes the directory away.
pub struct Place {
    dir: TempDir,
    /// For files that cannot lie in a directory whose path is long.
    short: OnceLock<TempDir>,
    _turn: Turn,
}

impl Place {
    /// Of a test that others may run beside.
    pub fn new(name: &str) -> Place {
        let held = TURN.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        Place::with(name, Turn::SideBySide { _held: held })
    }

    /// Of a test that runs alone, since it measures, or takes things that others need too.
    pub fn alone(name: &str) -> Place {
        let held = TURN.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        Place::with(name, Turn::Alone { _held: held })
    }

    fn with(name: &str, turn: Turn) -> Place {
        let library = library();
        let target = library.ancestors().nth(2).expect("a target directory");
        // Root's workers are another user, which may not enter everything.
        let (base, prefix) = match !is_root() || passable(target) {
            true => (target.join("t-nginx"), format!("{name}-")),
            false => (std::env::temp_dir(), format!("dyups-t-{name}-")),
        };
        Place { dir: open_directory(&base, &prefix), short: OnceLock::new(), _turn: turn }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// An absolute path in this place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The same as text for a configuration.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Directories of the Lua files and of the library that the workers may read. They are the checkout's, or else copies under
    /// a name that no test uses.
    pub fn readable(&self) -> (PathBuf, PathBuf) {
        let library = library();
        let release = library.parent().expect("a directory");
        let (mut lua, mut lib) = (root().join("lua"), release.to_owned());
        if is_root() && !(passable(&lua) && passable(&lib)) {
            let copies = self.path("readable");
            (lua, lib) = (copies.join("lua"), copies.join("lib"));
            if !copies.exists() {
                copy(root(), &copies, &["lua"]);
                copy(release, &lib, &[LIBRARY]);
            }
        }
        (lua, lib)
    }

    /// The clock of these tests as a Lua file in this place: workers may be unable to read the checkout.
    pub fn clock(&self) -> PathBuf {
        self.write("clock.lua", include_str!("clock.lua"))
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("write");
        path
    }

    /// A directory that the workers' user may write.
    pub fn workers_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("mkdir");
        if is_root() {
            let (_, uid, gid) = worker_user();
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
        }
        path
    }

    /// A path for a unix socket, which has to be short.
    pub fn socket(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        if path.as_os_str().len() < 100 {
            return path;
        }
        let short = self.short.get_or_init(|| open_directory(&std::env::temp_dir(), "dyups-s-"));
        short.path().join(name)
    }
}

/// A new directory below `base`, which other users may enter. It goes when the value goes.
fn open_directory(base: &Path, prefix: &str) -> TempDir {
    fs::create_dir_all(base).expect("a directory for tests");
    let dir = Builder::new().prefix(prefix).tempdir_in(base).expect("a directory for the test");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// A loopback address of this process alone. Connections go out from 127.0.0.1, so a port here is never taken by one.
pub fn host(last: u8) -> Ipv4Addr {
    let pid = std::process::id();
    Ipv4Addr::new(127, 16 + (pid / 250 % 200) as u8, 1 + (pid % 250) as u8, last)
}

/// A listener at a free address. A child that another test is just starting may hold the socket that showed that it is free,
/// until it executes its program.
pub fn listen(address: SocketAddr) -> TcpListener {
    let mut listener = None;
    wait_for("the address is free", || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.expect("waited for")
}

/// A free port there.
pub fn free_address() -> SocketAddr {
    free(host(1), &NEXT_PORT, 0)
}

/// A port that is free at every address, where no process looks for one of a single address.
pub fn free_everywhere() -> SocketAddr {
    free(Ipv4Addr::UNSPECIFIED, &NEXT_PORT_EVERYWHERE, std::process::id() % 250 * 10)
}

fn free(host: Ipv4Addr, next: &AtomicU16, more: u32) -> SocketAddr {
    for _ in 0..1000 {
        let address = SocketAddr::from((host, next.fetch_add(1, Ordering::Relaxed) + more as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port on {host}");
}
