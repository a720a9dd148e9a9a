//! Versions, the cdef, and what a process does once.

use super::changes::told;
use super::edge::{bytes, guard, remember};
use crate::config::setup::Setup;
use crate::process;
use crate::quote::plain;
use std::cell::RefCell;
use std::ffi::c_char;

/// Version of this ABI. It changes when a function or a struct of `dyups.h` changes in a way that an old caller would not survive.
pub const DYUPS_ABI: u32 = 1;

thread_local! {
    static NOTES: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The version of the ABI, `DYUPS_ABI` of the header that the library was built with.
///
/// Arguments: none. Returns: the version; a caller who was made for another one must not call anything else.
/// Errors: none. It does nothing else, so benchmarks use it as the empty call.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_abi() -> u32 {
    DYUPS_ABI
}

/// The version of the library, such as `0.1.0`, NUL-terminated, for the life of the process.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The declarations of `dyups.h` in the form that LuaJIT's `ffi.cdef` takes, NUL-terminated, for the life of the process.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_cdef() -> *const c_char {
    static CDEF: once_cell::sync::Lazy<String> =
        once_cell::sync::Lazy::new(|| cdef(include_str!("../../include/dyups.h")) + "\0");
    CDEF.as_ptr().cast()
}

/// The header without what only a preprocessor understands: directives, and what stands between them for C++ alone.
fn cdef(header: &str) -> String {
    let mut for_cpp = false;
    let mut cdef = String::with_capacity(header.len());
    for line in header.lines() {
        match line {
            "#ifdef __cplusplus" => for_cpp = true,
            _ if line.starts_with("#endif") => for_cpp = false,
            _ if for_cpp || line.starts_with('#') => {}
            _ => {
                cdef.push_str(line);
                cdef.push('\n');
            }
        }
    }
    cdef
}

/// Maps the region, making it if it is not there, and loads the files with upstreams. To be called in nginx's master
/// (`init_by_lua`), so that all workers inherit it; again at each reload; harmless to call more often.
///
/// Arguments: `conf`, `len`: a JSON object with `shm_path` (text: the region is `shm_path.vN`, N for its layout, its lock file
/// `shm_path.lock`), `shm_size` (bytes, or a text like `"64m"`, 256 KiB to
/// 4 GiB, default `"128m"`), `files` (a path or a list of paths: JSON, or nginx's `upstream` blocks), `overwrite` (bool),
/// `healthcheck` (as `dyups_healthcheck` takes it: that of all upstreams of which neither a file nor a call says what it is; default
/// `false`), `admin` (an object with `hosts`, a list of names: those that the HTTP interface may be called by, beside addresses and
/// `localhost`), `prefix` (text: where relative paths start, default `/`), `nginx_version` (nginx's own number,
/// such as 1022001 for 1.22.1; left out: not known, and nothing is refused that some version of nginx takes).
///
/// Returns: 0. `dyups_notes` then has what an operator should read, also after an error.
///
/// Errors: `DYUPS_INVALID` (a field, a file), `DYUPS_SYSTEM` (owner, mode, permission, a foreign file, another layout),
/// `DYUPS_FULL` (file system or region), `DYUPS_BUSY` (another process is at it). The region stays mapped when only the files
/// are wrong.
///
/// # Safety
///
/// `conf` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_setup(conf: *const c_char, len: usize) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let conf = Setup::read(unsafe { bytes(conf, len, "conf") }?);
        let mut notes: Vec<String> = super::library::replaced().into_iter().collect();
        let done = conf.and_then(|conf| told("setup", || process::setup(&conf, &mut notes)));
        // Also when it failed: that a damaged region was set aside is said once.
        NOTES.set(
            notes.iter().map(|note| plain(note.as_bytes()).into_owned() + "\n").chain(["\0".to_string()]).collect(),
        );
        done.map(|()| 0)
    })
}

/// What the last `dyups_setup` of this thread, also one that failed, wants an operator to read: lines, each with a newline at its end,
/// NUL-terminated. Returns: never NULL; valid until the next `dyups_setup` of this thread.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_notes() -> *const c_char {
    NOTES.with_borrow_mut(|notes| {
        if notes.is_empty() {
            notes.push('\0');
        }
        notes.as_ptr().cast()
    })
}

/// Claims a worker slot for the life of this process, and counts its connections there. To be called once in each worker
/// (`init_worker_by_lua`); harmless to call again. What keeps it from counting, `dyups_tick` says, and tries again.
///
/// Arguments: none. Returns: the number of the slot, 0 to 511.
/// Errors: `DYUPS_NOT_SET_UP`, `DYUPS_FULL` when all slots are taken.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_start() -> i32 {
    guard(|| Ok(process::start()? as i32))
}

/// Whether a file of the region was deleted or replaced under its users.
///
/// Arguments: none. Returns: 0 if all is well; 1 if it was, and `dyups_error` then says what that means.
/// Errors: `DYUPS_NOT_SET_UP`. It reads the file system: not for the request path.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_lost() -> i32 {
    guard(|| {
        Ok(match process::table()?.region().lost() {
            None => 0,
            Some(message) => {
                remember(&message);
                1
            }
        })
    })
}
