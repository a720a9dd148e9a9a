//! A Lua VM that has dyups loaded as nginx has it: lua/ in package.path, and the library that ships in package.cpath.

use crate::support::Scratch;
pub use crate::support::shipped::{LIBRARY, library, root};
use mlua::{FromLuaMulti, Lua};

/// A VM that can `require "dyups"`. It loads a copy of the library by a path of its own, so its table is its own too.
pub struct Vm {
    pub lua: Lua,
    pub scratch: Scratch,
}

impl Vm {
    pub fn new() -> Vm {
        let scratch = Scratch::executable();
        std::fs::copy(library(), scratch.path().join(LIBRARY)).expect("copy the library");
        // SAFETY: dyups needs ffi, which the safe constructor leaves out; all code that runs in this VM is ours.
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
