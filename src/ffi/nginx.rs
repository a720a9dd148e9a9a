//! Functions and data that nginx exports. The library finds them by name in the process, so that it loads without nginx too.

use crate::shm::WORD;
use once_cell::sync::Lazy;
use std::ffi::{CStr, c_void};

/// nginx's `ngx_str_t`.
#[repr(C)]
struct Str {
    len: usize,
    data: *const u8,
}

/// nginx's `ngx_variable_value_t`: four flags above a length of 28 bits.
#[repr(C)]
struct Value {
    bits: u32,
    data: *const u8,
}

const LEN: u32 = (1 << 28) - 1;
const NOT_FOUND: u32 = 1 << 30;

/// nginx's `ngx_http_cleanup_t`.
#[repr(C)]
struct Cleanup {
    handler: Option<extern "C" fn(*mut c_void)>,
    data: *mut c_void,
    next: *mut Cleanup,
}

/// The head of nginx's `ngx_module_t`: the place of its configuration among those of its kind.
#[repr(C)]
struct Module {
    ctx_index: usize,
}

type AddCleanup = unsafe extern "C" fn(*mut c_void, usize) -> *mut Cleanup;
type GetVariable = unsafe extern "C" fn(*mut c_void, *const Str, usize) -> *const Value;

/// The functions that were found.
struct Nginx {
    add_cleanup: AddCleanup,
    get_variable: GetVariable,
}

static NGINX: Lazy<Option<Nginx>> = Lazy::new(|| {
    // SAFETY: the types are those of nginx's headers, from 1.0 to 1.31.
    unsafe {
        Some(Nginx {
            add_cleanup: std::mem::transmute::<*mut c_void, AddCleanup>(symbol(c"ngx_http_cleanup_add")?),
            get_variable: std::mem::transmute::<*mut c_void, GetVariable>(symbol(c"ngx_http_get_variable")?),
        })
    }
});

/// The address of an exported symbol of the process.
pub(super) fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a NUL-terminated name, looked up in all that is loaded.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The word by which nginx marks that its upstream is over with a request. A version that does not mark it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch(usize);

/// The number of cleanups in which to look for nginx's own. It is the last one, unless others were added since the upstream
/// began. Since then nginx has run a few lines.
const MOST_BETWEEN: usize = 8;

/// Has `handler` called with `request` when the request ends, in any way. Call it when nginx begins with an upstream. It
/// answers the word that shows when nginx is over with that upstream. `None`: nginx has no memory for that, or is not here.
///
/// # Safety
///
/// `request` is a request of nginx that is being processed by this thread.
pub unsafe fn at_the_end(request: *mut c_void, handler: extern "C" fn(*mut c_void)) -> Option<Watch> {
    let nginx = NGINX.as_ref()?;
    // SAFETY: the caller's contract.
    let cleanup = unsafe { (nginx.add_cleanup)(request, 0).as_mut() }?;
    cleanup.handler = Some(handler);
    cleanup.data = request;
    let mut next = cleanup.next;
    for _ in 0..MOST_BETWEEN {
        // SAFETY: nginx's list of cleanups of one request, which lives as long as that.
        let Some(other) = (unsafe { next.as_ref() }) else { break };
        if other.data == request && other.handler.is_some_and(|other| other as usize != handler as usize) {
            return Some(Watch(next as usize));
        }
        next = other.next;
    }
    Some(Watch::default())
}

impl Watch {
    /// Whether nginx is over with the upstream: it has given the connection back by then, and only that matters to a peer. The
    /// request may go on for long, for a slow client, or as a part of another one.
    ///
    /// # Safety
    ///
    /// The request has not ended yet.
    pub unsafe fn is_over(self) -> bool {
        // SAFETY: the caller's contract: the cleanup lies in the request's pool.
        let cleanup = unsafe { (self.0 as *const Cleanup).as_ref() };
        // ngx_http_upstream_finalize_request first takes its cleanup back.
        cleanup.is_some_and(|cleanup| cleanup.handler.is_none())
    }
}

/// Offsets in bytes, the same in each version from 1.21.4 on: the upstream of a request, its configuration of `http {}`, and in
/// that all blocks `upstream {}`. Without a cache, the upstream lies one word before.
const UPSTREAM_OF_REQUEST: usize = 72;
const MAIN_CONF_OF_REQUEST: usize = 24;
const BLOCKS: usize = 16;
const CONF_OF_BLOCK: usize = 24;

/// The range of offsets, by version, in which an upstream of a request has the pointer to its block.
const BLOCK_OF_UPSTREAM: std::ops::RangeInclusive<usize> = 320..=392;

/// More blocks than any configuration has.
const MOST_BLOCKS: usize = 1 << 20;

/// How many connections nginx itself keeps for the block `upstream {}` of a request, whatever their names. That is the number
/// of the directive `keepalive`, or its default. `None`: the library cannot tell.
///
/// # Safety
///
/// As [`at_the_end`], while the request is balanced.
pub unsafe fn kept_by_address(request: *mut c_void) -> Option<usize> {
    let has_cache = symbol(c"ngx_http_file_cache_open").is_some();
    let upstreams: *const Module = symbol(c"ngx_http_upstream_module")?.cast();
    let keepalive: Option<*const Module> =
        symbol(c"ngx_http_upstream_keepalive_module").map(|module| module.cast_const().cast());
    let Some(keepalive) = keepalive else { return Some(0) };
    // SAFETY: the caller's contract, and nginx's own structures, whose first words lie where they did in each version from
    // 1.21.4 to 1.31.4. The code follows a word of an upstream only if nginx lists it as a block.
    unsafe {
        let word = |at: usize| (at as *const usize).read();
        let request = request as usize;
        let upstream = word(request + UPSTREAM_OF_REQUEST - if has_cache { 0 } else { WORD });
        let main = word(word(request + MAIN_CONF_OF_REQUEST) + WORD * (*upstreams).ctx_index);
        let (blocks, count) = (word(main + BLOCKS), word(main + BLOCKS + WORD));
        if upstream == 0 || blocks == 0 || count > MOST_BLOCKS {
            return None;
        }
        let blocks = std::slice::from_raw_parts(blocks as *const usize, count);
        let mut own = BLOCK_OF_UPSTREAM.step_by(WORD).map(|at| word(upstream + at));
        let block = own.find(|word| *word != 0 && blocks.contains(word))?;
        // A block that `proxy_pass` makes by itself has no configuration.
        match word(block + CONF_OF_BLOCK) {
            0 => Some(0),
            confs => Some(word(word(confs + WORD * (*keepalive).ctx_index))),
        }
    }
}

/// Calls `read` with the value of a variable, if it has one.
///
/// # Safety
///
/// As [`at_the_end`]; also while it ends.
pub unsafe fn variable(request: *mut c_void, name: &str, read: &mut dyn FnMut(&[u8])) {
    let Some(nginx) = &*NGINX else { return };
    let key = name.bytes().fold(0usize, |key, byte| key.wrapping_mul(31).wrapping_add(byte.into()));
    let name = Str { len: name.len(), data: name.as_ptr() };
    // SAFETY: the caller's contract; the name outlives the call, and the value lies in the request's pool.
    let value = unsafe { (nginx.get_variable)(request, &raw const name, key).as_ref() };
    if let Some(value) = value.filter(|value| value.bits & NOT_FOUND == 0 && !value.data.is_null()) {
        // SAFETY: nginx says so.
        read(unsafe { std::slice::from_raw_parts(value.data, (value.bits & LEN) as usize) });
    }
}
