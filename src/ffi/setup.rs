//! Versions, the cdef, and the calls that a process makes once.

use super::changes::told;
use super::edge::{bytes, guard, remember};
use crate::config::setup::Setup;
use crate::process;
use crate::quote::plain;
use std::cell::RefCell;
use std::ffi::c_char;

/// Version of this ABI. It changes when a function or a struct of `dyups.h` changes in a way that breaks an old caller.
pub const DYUPS_ABI: u32 = 1;

thread_local! {
    static NOTES: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The version of the ABI: `DYUPS_ABI` of the header that the library was built with. It does nothing else, so
/// benchmarks use it as the empty call.
///
/// # Returns
///
/// The version. A caller that was built for another version must not call any other function.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// if (dyups_abi() != DYUPS_ABI) return 1;
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_abi() -> u32 {
    DYUPS_ABI
}

/// The version of the library.
///
/// # Returns
///
/// A text such as `0.1.0`, NUL-terminated, valid for the life of the process.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// puts(dyups_version());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The declarations of `dyups.h` in the form that LuaJIT's `ffi.cdef` takes.
///
/// # Returns
///
/// A text, NUL-terminated, valid for the life of the process.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// puts(dyups_cdef());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_cdef() -> *const c_char {
    static CDEF: once_cell::sync::Lazy<String> =
        once_cell::sync::Lazy::new(|| cdef(include_str!("../../include/dyups.h")) + "\0");
    CDEF.as_ptr().cast()
}

/// The header without directives of the preprocessor, and without the lines between them that are for C++ alone.
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

/// Maps the region, or makes it if it is not there, and loads the files with upstreams. Call it in nginx's master
/// (`init_by_lua`), so that all workers inherit the mapping, and again at each reload. More calls are harmless.
///
/// # Arguments
///
/// - `conf`, `len`: a JSON object. All its fields are optional:
///   - `shm_path` (text): the region is `shm_path.vN`, N for its layout, and its lock file `shm_path.lock`
///   - `shm_size` (bytes, or a text like `"64m"`): 256 KiB to 4 GiB, default `"128m"`
///   - `statistics` (bool, default `true`): tries are counted, for `dyups_report`
///   - `stats_size` (as `shm_size`): the size of their file, 64 KiB to 16 GiB, default `"64m"`
///   - `files` (a path or a list of paths): JSON, or nginx's `upstream` blocks
///   - `overwrite` (bool, default `false`): the files win over changes at run time
///   - `routes` (bool, default `false`): for the caller, which looks for a route before it picks: see `dyups_route`
///   - `healthcheck` (as in `dyups_healthcheck`, default `false`): for upstreams whose file and callers set none
///   - `admin` (an object with `hosts`, a list of names): names by which clients may call the HTTP interface, beside
///     addresses and `localhost`
///   - `prefix` (text, default `/`): where relative paths start
///   - `nginx_version` (nginx's own number, such as 1022001 for 1.22.1): without it, nothing is refused that some
///     version of nginx takes
///
/// # Returns
///
/// 0. Afterwards, also after an error, `dyups_notes` has messages for the operator.
///
/// # Errors
///
/// - `DYUPS_INVALID`: a field, or a file of upstreams. The region stays mapped when only the files are wrong.
/// - `DYUPS_SYSTEM`: owner, mode, permission, a foreign file, another layout.
/// - `DYUPS_FULL`: the file system or the region.
/// - `DYUPS_BUSY`: another process is writing.
///
/// # Example
///
/// ```c
/// const char *conf = "{\"shm_path\": \"/dev/shm/example\", \"files\": \"upstreams.json\"}";
/// if (dyups_setup(conf, strlen(conf)) < 0) fprintf(stderr, "%s\n", dyups_error());
/// ```
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
        // Also after an error: the message that a damaged region was set aside comes once.
        NOTES.set(
            notes.iter().map(|note| plain(note.as_bytes()).into_owned() + "\n").chain(["\0".to_string()]).collect(),
        );
        done.map(|()| 0)
    })
}

/// Messages of the last `dyups_setup` of this thread for the operator, also of one that failed.
///
/// # Returns
///
/// Lines, each with a newline at its end, NUL-terminated. Never NULL; valid until the next `dyups_setup` of this
/// thread.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// fputs(dyups_notes(), stderr);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_notes() -> *const c_char {
    NOTES.with_borrow_mut(|notes| {
        if notes.is_empty() {
            notes.push('\0');
        }
        notes.as_ptr().cast()
    })
}

/// Claims a worker slot for the life of this process, and counts its connections there. Call it once in each worker
/// (`init_worker_by_lua`). More calls are harmless. Where there is no memory to count in, `dyups_tick` says so, and
/// tries again.
///
/// # Returns
///
/// The number of the slot, 0 to 511.
///
/// # Errors
///
/// - `DYUPS_NOT_SET_UP`
/// - `DYUPS_FULL`: all slots are taken.
///
/// # Example
///
/// ```c
/// if (dyups_start() < 0) fprintf(stderr, "%s\n", dyups_error());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_start() -> i32 {
    guard(|| Ok(process::start()? as i32))
}

/// Whether a file of the region was deleted or replaced under its users. It reads the file system, so do not call it in
/// the path of a request.
///
/// # Returns
///
/// 0: all is well. 1: a file was, and `dyups_error` tells the consequence.
///
/// # Errors
///
/// - `DYUPS_NOT_SET_UP`
///
/// # Example
///
/// ```c
/// if (dyups_lost() == 1) fprintf(stderr, "%s\n", dyups_error());
/// ```
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
