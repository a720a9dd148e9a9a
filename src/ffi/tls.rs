//! Whether a TLS handshake with a peer began in the last try of a request.
//!
//! nginx does not show it: a handshake that failed looks like a connection that was refused. But OpenSSL reports when it frees
//! an SSL object. nginx frees that of a try just before it asks for the next peer. A pointer leads from the object to nginx's
//! connection, and another one from the connection of a try to the request.

use super::nginx::symbol;
use once_cell::sync::Lazy;
use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::ptr::null_mut;

thread_local! {
    /// The request whose SSL object was freed last, by its address.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

/// OpenSSL's `CRYPTO_EX_free`; the first argument is the SSL object.
type Freed = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, c_int, c_long, *mut c_void);
type NewIndex = unsafe extern "C" fn(c_int, c_long, *mut c_void, Option<Freed>, Option<Freed>, Option<Freed>) -> c_int;
type GetData = unsafe extern "C" fn(*const c_void, c_int) -> *mut c_void;
type IsServer = unsafe extern "C" fn(*const c_void) -> c_int;

/// OpenSSL's `CRYPTO_EX_INDEX_SSL`.
const OF_SSL: c_int = 0;

/// The functions that read an SSL object.
#[derive(Debug)]
struct OpenSsl {
    get_data: GetData,
    is_server: IsServer,
    /// The index under which nginx keeps its connection.
    connection_at: c_int,
}

static OPENSSL: Lazy<Option<OpenSsl>> = Lazy::new(|| {
    // SAFETY: the types are those of OpenSSL's headers, from 1.1.0 to 3.6, and of nginx's.
    let (openssl, new_index) = unsafe {
        let openssl = OpenSsl {
            get_data: std::mem::transmute::<*mut c_void, GetData>(symbol(c"SSL_get_ex_data")?),
            is_server: std::mem::transmute::<*mut c_void, IsServer>(symbol(c"SSL_is_server")?),
            connection_at: symbol(c"ngx_ssl_connection_index")?.cast::<c_int>().read(),
        };
        (openssl, std::mem::transmute::<*mut c_void, NewIndex>(symbol(c"CRYPTO_get_ex_new_index")?))
    };
    // SAFETY: `freed` may be called at any time from now on: the library stays for the life of the process.
    let own = unsafe { new_index(OF_SSL, 0, null_mut(), None, None, Some(freed)) };
    (own >= 0 && openssl.connection_at >= 0).then_some(openssl)
});

/// An SSL object is being freed.
unsafe extern "C" fn freed(ssl: *mut c_void, _: *mut c_void, _: *mut c_void, _: c_int, _: c_long, _: *mut c_void) {
    // While the statics are made this thread frees nothing.
    let Some(openssl) = Lazy::get(&OPENSSL).and_then(Option::as_ref) else { return };
    // SAFETY: the object and its data live until OpenSSL has called all handlers such as this one.
    unsafe {
        if ssl.is_null() || (openssl.is_server)(ssl) != 0 {
            return;
        }
        let connection = (openssl.get_data)(ssl, openssl.connection_at).cast::<usize>();
        if let Some(&request) = connection.as_ref() {
            // The first field of nginx's `ngx_connection_t` says whose it is.
            LAST.set(request);
        }
    }
}

/// Begins to look. To be called in each worker before the first try.
pub fn watch() {
    Lazy::force(&OPENSSL);
}

/// Whether the SSL object that was freed last was that of a try of this request; asked once.
pub fn began(request: *const c_void) -> bool {
    LAST.replace(0) == request as usize
}
