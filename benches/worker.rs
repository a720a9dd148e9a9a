//! An nginx with one worker, on a CPU of its own, that gets its orders in Lua.

use crate::cpu;
use crate::place::{Place, root};
use crate::server::{Conf, Nginx};
use crate::{peers, place};
use dyups::shm::layout::LAYOUT;
use dyups::shm::region::{file_of, lock_of};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Worker {
    pub nginx: Nginx,
    pid: u32,
}

impl Worker {
    /// The first one, on a region of its own.
    pub fn alone(place: &Place) -> Worker {
        Worker::start(place, "worker", 0, "region", |_| ())
    }

    /// `name` is its directory. Workers with the same `region` share that file. `more` changes the rest of its configuration.
    pub fn start(place: &Place, name: &str, cpu: usize, region: &str, more: impl FnOnce(&mut Conf)) -> Worker {
        let dir = native(place);
        let mut conf = Conf::new(place, 1);
        conf.shm_path = place.path(region);
        conf.setup = "shm_size = \"256m\", ".into();
        more(&mut conf);
        prepare(&mut conf, &dir, &cpu.to_string());
        let (traffic, admin) = (place::free_address(), place::free_address());
        let nginx = Nginx::with_text(&place.path(name), &conf.text(traffic, admin), 1, traffic, admin);
        let pid = nginx.worker_pids()[0];
        Worker { nginx, pid }
    }

    /// The value of a Lua expression, as text.
    pub fn ask(&self, lua: &str) -> String {
        self.nginx.eval(&format!("return {lua}"))
    }

    /// A Lua expression that gives a number.
    pub fn number(&self, lua: &str) -> f64 {
        let answer = self.ask(lua);
        answer.parse().unwrap_or_else(|_| panic!("{lua}: {answer}"))
    }

    /// A Lua expression that has to give true.
    pub fn order(&self, lua: &str) {
        assert_eq!(self.ask(lua), "true", "{lua}");
    }

    /// The CPU time of the worker so far, in ns.
    pub fn cpu(&self) -> f64 {
        cpu::of(self.pid)
    }
}

/// Lua that finds the modules of this directory, whose copy is `dir`; and a CPU for each worker, as a Lua expression.
pub fn prepare(conf: &mut Conf, dir: &str, cpu: &str) {
    conf.init = Some(format!(
        "package.path = \"{dir}/benches/?.lua;\" .. package.path
         assert(require(\"dyups\").setup{{ shm_path = \"{}\", {} }})
         require \"dyups.admin\"
         require \"ngx.balancer\"",
        conf.shm_path.display(),
        conf.setup
    ));
    conf.init_worker = format!("assert(require(\"dyups\").start()) require(\"native\").load(\"{dir}\", {cpu})");
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.nginx.assert_calm();
        }
    }
}

/// The file of a region that does not exist: files that another worker left under this name are gone.
pub fn new_region(place: &Place, name: &str) -> PathBuf {
    let base = place.path(name);
    let file = file_of(&base, LAYOUT);
    for file in [&file, &lock_of(&base)] {
        let _ = fs::remove_file(file);
    }
    file
}

/// Puts the files that the workers load where their user may read them; answers the directory.
pub fn native(place: &Place) -> String {
    let library = place.path("native.so");
    if !library.exists() {
        place::copy(root(), place.dir(), &["benches"]);
        let source = root().join("benches/native.c");
        let status = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(status.expect("cc").success(), "cc benches/native.c");
        let page = place.write("page", "");
        fs::write(&page, [0; 4096]).and_then(|()| all_may_write(&page)).expect("a page to share");
    }
    place.dir().to_str().expect("UTF-8").to_owned()
}

fn all_may_write(path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// Peers as a Lua list.
pub fn lua_peers(table: u8, count: usize, port: u16) -> String {
    let list: Vec<String> =
        (0..count).map(|index| format!("{{host=\"{}\",port={port}}}", peers::host(table, index))).collect();
    format!("{{{}}}", list.join(","))
}
