//! Whether the last try of a request went over a connection that was kept, and how nginx counts such a try. The layout of nginx's
//! requests that was measured is here.
//!
//! nginx has a bit for it, in a struct whose head has not moved for years and whose tail moves. The place of the bit was
//! measured in the versions below. In others, the answer is unknown. nginx clears neither before it asks for the next peer.

use super::nginx::symbol;
use crate::version::NginxVersion;
use once_cell::sync::Lazy;
use std::ffi::{CStr, c_char, c_void};

/// Versions that were measured.
const FIRST: NginxVersion = NginxVersion::new(1, 21, 4);
const LAST: NginxVersion = NginxVersion::new(1, 31, 4);
/// From these versions on, `ngx_peer_connection_t` has two more pointers before the bit, and then another integer.
const STICKY: NginxVersion = NginxVersion::new(1, 29, 6);
const SNDBUF: NginxVersion = NginxVersion::new(1, 31, 3);
/// From this version on, OpenResty takes back a try that nginx adds for a dead connection.
const COUNTED: NginxVersion = NginxVersion::new(1, 27, 1);

/// The head of nginx's `ngx_module_t`.
#[repr(C)]
struct Module {
    indices: [usize; 2],
    name: *const c_char,
    spares: [usize; 2],
    version: usize,
    signature: *const c_char,
}

/// "HTTP": the first four bytes of each request.
const REQUEST: u32 = 0x5054_5448;
/// nginx's list of states of tries follows the pointer to the upstream.
const STATES: usize = 8;
/// The offset of `ngx_peer_connection_t` in `ngx_http_upstream_t`.
const PEER: usize = 16;

/// Offsets in the structs of this nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// The pointer to the upstream, in a request.
    upstream: usize,
    /// The word with the bit, in an upstream.
    cached: usize,
}

impl Layout {
    /// The layout of an nginx with this version and module signature, if it was measured.
    fn of(version: NginxVersion, signature: &[u8]) -> Option<Layout> {
        // After the sizes of three types come 34 features; the 32nd is the cache, the last is --with-compat.
        let features = signature.strip_prefix(b"8,4,8,")?;
        if !(FIRST..=LAST).contains(&version) || features.len() != 34 || features[33] != b'1' {
            return None;
        }
        let moved = usize::from(version >= STICKY) * 16 + usize::from(version >= SNDBUF) * 8;
        Some(Layout { upstream: if features[31] == b'1' { 72 } else { 64 }, cached: PEER + 120 + moved })
    }
}

static CORE: Lazy<Option<(NginxVersion, &'static [u8])>> = Lazy::new(|| {
    let core: *const Module = symbol(c"ngx_core_module")?.cast();
    // SAFETY: nginx's own module, which each nginx exports; its head is the same since 1.9.11.
    let core = unsafe { core.as_ref() }?;
    let version = NginxVersion::from_number(u32::try_from(core.version).ok()?)?;
    if version < FIRST || core.signature.is_null() {
        return None;
    }
    // SAFETY: a text of nginx's own, which ends with NUL.
    Some((version, unsafe { CStr::from_ptr(core.signature) }.to_bytes()))
});

static LAYOUT: Lazy<Option<Layout>> =
    Lazy::new(|| CORE.and_then(|(version, signature)| Layout::of(version, signature)));

/// OpenResty's nginx has a privileged agent; no other one has.
static COUNTS: Lazy<bool> =
    Lazy::new(|| CORE.is_some_and(|(version, _)| version >= COUNTED) && symbol(c"ngx_is_privileged_agent").is_some());

/// Whether nginx adds a try for each one that went over a dead connection.
pub fn adds_tries() -> bool {
    !*COUNTS || LAYOUT.is_none()
}

/// Whether the last try of a request, which has ended, went over a connection that had been kept; `false` where that is not
/// known.
///
/// # Safety
///
/// `request` is a request of nginx that this thread is balancing.
pub unsafe fn was_kept(request: *const c_void) -> bool {
    let Some(Layout { upstream, cached }) = *LAYOUT else { return false };
    let request: *const u8 = request.cast();
    // SAFETY: the caller's contract. The offsets are those of this version, and a request that is balanced has an upstream.
    unsafe {
        if !is_request(request.cast()) {
            return false;
        }
        let upstream: *const u8 = request.add(upstream).cast::<*const u8>().read();
        !upstream.is_null() && upstream.add(cached).cast::<u32>().read() & 1 == 1
    }
}

/// The offset of the pointer to nginx's list of states, in a request; `None`: this nginx was not measured.
pub fn states_at() -> Option<usize> {
    LAYOUT.map(|layout| layout.upstream + STATES)
}

/// Whether a request begins as nginx's requests do.
///
/// # Safety
///
/// `request` points to a request of nginx, or to as many bytes.
pub unsafe fn is_request(request: *const c_void) -> bool {
    // SAFETY: the caller's contract.
    unsafe { request.cast::<u32>().read() == REQUEST }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &[u8] = b"8,4,8,0011111111010111001111111111111111";

    fn layout(version: [u32; 3], signature: &[u8]) -> Option<(usize, usize)> {
        let [major, minor, patch] = version;
        Layout::of(NginxVersion::new(major, minor, patch), signature)
            .map(|layout| (layout.upstream, layout.cached - PEER))
    }

    #[test]
    fn the_bit_is_where_each_version_has_it_and_nowhere_in_a_version_that_was_not_measured() {
        assert_eq!(layout([1, 22, 1], DEBIAN), Some((72, 120)));
        assert_eq!(layout([1, 29, 5], DEBIAN), Some((72, 120)));
        assert_eq!(layout([1, 29, 6], DEBIAN), Some((72, 136)));
        assert_eq!(layout([1, 31, 2], DEBIAN), Some((72, 136)));
        assert_eq!(layout([1, 31, 3], DEBIAN), Some((72, 144)));
        assert_eq!(layout([1, 22, 1], b"8,4,8,0011111111010111001111111111111011"), Some((64, 120)), "without a cache");
        for (version, signature) in [
            ([1, 31, 5], DEBIAN),
            ([1, 21, 3], DEBIAN),
            ([1, 22, 1], &DEBIAN[..39]),
            ([1, 22, 1], b"8,4,8,0011111111010111001111111111111110"),
            ([1, 22, 1], b"4,4,4,0011111111010111001111111111111111"),
        ] {
            assert_eq!(layout(version, signature), None, "{version:?}");
        }
    }
}
