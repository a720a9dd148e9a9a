//! Pages that are gone. root can cut a file short, and a worker can punch holes into it through its mapping. Where the file
//! system is full by then, the next touch of such a page is answered by SIGBUS, in every process, root's master too.
//!
//! Here that touch finds zeros instead. The handler puts an empty page in that place, of this process alone, and marks the
//! mapping as torn. From then on this process refuses to change anything, and reads the rest as it reads any spoiled region.
//! All other SIGBUS go to the handler that was there before.

use super::units::PAGE;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings that can be watched at once. A process has four: a region, its cells, its history and its statistics. It has some more while it opens
/// them, and only tests have many.
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

/// The handler of SIGBUS that was there before.
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

impl Watch {
    /// Ends the watch. The caller calls it before it unmaps the memory.
    pub fn end(&mut self) {
        if let Some(watched) = self.0.take() {
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

extern "C" fn on_bus(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let inside = |watched: &&Watched| {
        let (base, bytes) = (watched.base.load(Ordering::Relaxed), watched.bytes.load(Ordering::Relaxed));
        base != 0 && address.wrapping_sub(base) < bytes
    };
    // Only the kernel uses this code. A process that sends a signal can make up an address.
    if code == libc::BUS_ADRERR
        && let Some(watched) = ALL.iter().find(inside)
        && replace(address / PAGE * PAGE)
    {
        watched.torn.store(true, Ordering::Relaxed);
        return;
    }
    pass_on(signal, info, context);
}

/// Has SIGBUS take its former effect, and stays in place if the process lives on.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Handler = extern "C" fn(i32);
    type InfoHandler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    // SAFETY: written before this handler was installed, and never again.
    let before = unsafe { (*BEFORE.0.get()).assume_init_ref() };
    // SAFETY: the kernel's siginfo, as above.
    let sent = unsafe { (*info).si_code } <= 0;
    match before.sa_sigaction {
        libc::SIG_IGN if sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // The touch happens again and ends the process, as it would have; and so does the signal, sent once more.
            // SAFETY: plain calls on live values, both async-signal-safe.
            unsafe {
                libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut());
                if sent {
                    libc::raise(signal);
                }
            }
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the code that installed it with SA_SIGINFO promises such a function.
            let handler: InfoHandler = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: the code that installed it without SA_SIGINFO promises such a function.
            let handler: Handler = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}

/// Puts an empty page of this process alone in the place of one of a watched mapping.
fn replace(page: usize) -> bool {
    // SAFETY: the page belongs to a watched mapping, which is unmapped only when it is not watched any more. It is accessed by
    // atomics only and never trusted, and stays mapped and readable.
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
