//! The library pins itself: a Lua VM that closes (nginx's does at each reload) may dlclose it, but its statics hold the
//! mapping, the lock file and the worker's slot.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
