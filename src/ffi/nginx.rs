//! What nginx itself exports and the library calls: found by name in the process, so that the library loads without nginx too.

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

type AddCleanup = unsafe extern "C" fn(*mut c_void, usize) -> *mut Cleanup;
type GetVariable = unsafe extern "C" fn(*mut c_void, *const Str, usize) -> *const Value;

/// What was found.
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

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a NUL-terminated name, looked up in all that is loaded.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// Has `handler` called with `request` when that ends, whatever way it does. False: nginx has no memory for that, or is not here.
///
/// # Safety
///
/// `request` is a request of nginx that is being processed by this thread.
pub unsafe fn at_the_end(request: *mut c_void, handler: extern "C" fn(*mut c_void)) -> bool {
    let Some(nginx) = &*NGINX else { return false };
    // SAFETY: the caller's contract.
    let Some(cleanup) = (unsafe { (nginx.add_cleanup)(request, 0).as_mut() }) else { return false };
    cleanup.handler = Some(handler);
    cleanup.data = request;
    true
}

/// Has `read` look at the value of a variable; `None`: there is none.
///
/// # Safety
///
/// As [`at_the_end`]; also while it ends.
pub unsafe fn variable<T>(request: *mut c_void, name: &'static str, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let nginx = NGINX.as_ref()?;
    let key = name.bytes().fold(0usize, |key, byte| key.wrapping_mul(31).wrapping_add(byte.into()));
    let name = Str { len: name.len(), data: name.as_ptr() };
    // SAFETY: the caller's contract; the name outlives the call, and the value lies in the request's pool.
    let value = unsafe { (nginx.get_variable)(request, &raw const name, key).as_ref() }?;
    if value.bits & NOT_FOUND != 0 || value.data.is_null() {
        return None;
    }
    // SAFETY: nginx says so.
    Some(read(unsafe { std::slice::from_raw_parts(value.data, (value.bits & LEN) as usize) }))
}
