//! The step at which the process failed, printed even when a signal ends it.

use std::cell::RefCell;
use std::io::Write;

thread_local! {
    static AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; if it panics or is ended by a signal, the message names `what`.
pub fn while_at(what: &str, body: impl FnOnce()) {
    AT.set(format!("hostile: failed at {what}\n"));
    for signal in [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGALRM] {
        // SAFETY: the handler writes to stderr and raises the signal again.
        unsafe { libc::signal(signal, say as *const () as libc::sighandler_t) };
    }
    let said = Said;
    body();
    std::mem::forget(said);
}

struct Said;

impl Drop for Said {
    fn drop(&mut self) {
        AT.with_borrow(|at| eprint!("{at}"));
    }
}

extern "C" fn say(signal: i32) {
    AT.with_borrow(|at| {
        let _ = std::io::stderr().write_all(at.as_bytes());
    });
    // SAFETY: the signal has its default effect again.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
