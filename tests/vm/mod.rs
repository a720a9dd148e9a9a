//! A Lua VM that has dyups loaded as nginx has it: lua/ in package.path, and the library that ships in package.cpath.

#![allow(dead_code, unsafe_code)]

#[path = "../shipped/mod.rs"]
mod shipped;

use mlua::{FromLuaMulti, Lua};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use shipped::{LIBRARY, library, root};

/// A directory that goes when the value goes.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vm-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("make the scratch directory");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and tells its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("write a file");
        path.to_str().expect("UTF-8").to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A VM that can `require "dyups"`. The library's table is one a process: only one VM of a process should call setup.
pub struct Vm {
    pub lua: Lua,
    pub scratch: Scratch,
}

impl Vm {
    pub fn new() -> Vm {
        let scratch = Scratch::new();
        std::fs::copy(library(), scratch.path().join(LIBRARY)).expect("copy the library");
        // SAFETY: dyups needs ffi, which the safe constructor leaves out; what runs in this VM is ours.
        let lua = unsafe { Lua::unsafe_new() };
        let vm = Vm { lua, scratch };
        vm.set("package_path", format!("{}/lua/?.lua", root().display()));
        vm.set("package_cpath", format!("{}/?.so", vm.scratch.path().display()));
        vm.run::<()>("package.path, package.cpath = package_path, package_cpath");
        vm
    }

    /// A VM with `dyups` and `C` as globals, set up with a region of its own and started.
    ///
    /// nginx has cjson, and a VM inside this program cannot load it: `dyups.status` answers JSON here.
    pub fn set_up() -> Vm {
        let vm = Vm::new();
        vm.run::<()>(r#"package.loaded["cjson.safe"] = { decode = function(json) return json end }"#);
        vm.set("region", vm.scratch.path().join("region").to_str().expect("UTF-8"));
        vm.run::<()>(
            r#"
            dyups = require "dyups"
            C = require("dyups.library").C
            assert(dyups.setup { shm_path = region, shm_size = "16m" })
            assert(dyups.start())
            "#,
        );
        vm
    }

    /// Sets a global.
    pub fn set(&self, name: &str, value: impl mlua::IntoLua) {
        self.lua.globals().set(name, value).expect("set a global");
    }

    /// Runs a chunk that must not fail.
    pub fn run<R: FromLuaMulti>(&self, code: &str) -> R {
        self.lua.load(code).eval().unwrap_or_else(|error| panic!("{error}\nin {code}"))
    }
}
