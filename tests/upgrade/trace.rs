//! Deaths at system calls: all that another process can see of a region that is being made happens there.

use crate::common::{Helper, say, wait_for};

/// Says who this thread is, and lets the one that started this process watch it. It stands then, until that one lets it go on.
pub fn me() {
    // SAFETY: takes nothing and cannot fail.
    say(format_args!("ok {}", unsafe { libc::gettid() }));
    // SAFETY: two calls that take numbers; the tracer is the thread that started us.
    unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0), 0, "{}", std::io::Error::last_os_error());
        libc::raise(libc::SIGSTOP);
    }
}

/// Gives `helper` an order and kills it as it enters or leaves its `nth` system call. False: it carried the order out.
pub fn dies_at(mut helper: Helper, order: &str, nth: u32) -> bool {
    let thread: i32 = helper.ok("trace").parse().expect("a thread");
    // It cannot be waited for before.
    wait_for("it is traced", || {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    });
    wait_until_it_stands(thread);
    helper.send(order);
    for _ in 0..nth {
        // SAFETY: the process stands, and this thread watches it.
        let went_on = unsafe { libc::ptrace(libc::PTRACE_SYSCALL, thread, 0, 0) };
        assert_eq!(went_on, 0, "{}", std::io::Error::last_os_error());
        wait_until_it_stands(thread);
        if is_writing(thread) {
            // It answers: it has done all.
            kill(helper, thread);
            return false;
        }
    }
    kill(helper, thread);
    true
}

fn kill(mut helper: Helper, thread: i32) {
    helper.signal(libc::SIGKILL);
    // A watched thread is not gone before its watcher knows.
    let mut status = 0;
    // SAFETY: waits for a thread that this one watches and writes its status into a live integer.
    unsafe { libc::waitpid(thread, &mut status, libc::__WALL) };
    helper.kill();
}

fn wait_until_it_stands(thread: i32) {
    let mut status = 0;
    // SAFETY: waits for a child of this thread and writes its status into a live integer.
    assert_eq!(unsafe { libc::waitpid(thread, &mut status, libc::__WALL) }, thread);
    assert!(libc::WIFSTOPPED(status), "{status}");
}

/// Whether it stands before a write to its standard output.
fn is_writing(thread: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default();
    call.starts_with(&format!("{} 0x1 ", libc::SYS_write))
}
