//! Pages that are gone. A file can be cut short by root, and a worker can punch holes into it through its mapping; where the
//! file system is full by then, the next touch of such a page is answered by SIGBUS, in every process, root's master too.
//!
//! Here that touch finds zeros instead: the handler puts an empty page in that place, of this process alone, and says that
//! the mapping is torn. From then on this process refuses to change anything, and its reads find less than there was, never
//! something else. All other SIGBUS go where they went before.

use super::mem::PAGE;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings that can be watched at once. A process has one, and a second one while it makes that anew; only tests have more.
const MOST: usize = 64;

/// One of them; for a handler of signals there are statics alone.
struct Watched {
    /// 0: free.
    base: AtomicUsize,
    bytes: AtomicUsize,
    torn: AtomicBool,
}

static ALL: [Watched; MOST] =
    [const { Watched { base: AtomicUsize::new(0), bytes: AtomicUsize::new(0), torn: AtomicBool::new(false) } }; MOST];

/// What SIGBUS did before.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written once, under `Once`, before the handler that reads it is installed.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::uninit()));

/// A mapping that is watched as long as this value lives.
#[derive(Debug)]
pub struct Watch(Option<&'static Watched>);

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("torn", &self.torn).finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches `bytes` bytes from `base` on, which are a mapping.
    pub fn over(base: usize, bytes: usize) -> Watch {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(install);
        let free =
            |watched: &&Watched| watched.base.compare_exchange(0, base, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let watched = ALL.iter().find(free);
        if let Some(watched) = watched {
            watched.torn.store(false, Ordering::Relaxed);
            watched.bytes.store(bytes, Ordering::Release);
        }
        Watch(watched)
    }

    /// Whether one of its pages is gone.
    pub fn is_torn(&self) -> bool {
        self.0.is_some_and(|watched| watched.torn.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watched) = self.0 {
            watched.bytes.store(0, Ordering::Relaxed);
            watched.base.store(0, Ordering::Release);
        }
    }
}

fn install() {
    // SAFETY: zeros are a valid sigaction; all pointers are to live values; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, std::ptr::null(), (*BEFORE.0.get()).as_mut_ptr());
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn on_bus(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    let inside = |watched: &&Watched| {
        let (base, bytes) = (watched.base.load(Ordering::Relaxed), watched.bytes.load(Ordering::Relaxed));
        base != 0 && address.wrapping_sub(base) < bytes
    };
    if let Some(watched) = ALL.iter().find(inside)
        && replace(address / PAGE * PAGE)
    {
        watched.torn.store(true, Ordering::Relaxed);
        return;
    }
    // Not ours: the touch happens again, and this time goes where it would have gone.
    // SAFETY: written before this handler was installed.
    unsafe { libc::sigaction(libc::SIGBUS, (*BEFORE.0.get()).as_ptr(), std::ptr::null_mut()) };
}

/// Puts an empty page of this process alone in the place of one of a watched mapping.
fn replace(page: usize) -> bool {
    // SAFETY: the page belongs to a mapping that is accessed by atomics only and never trusted; it stays mapped and readable.
    let new = unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    new as usize == page
}
