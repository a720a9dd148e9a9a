//! System calls one by one: all that other processes can see of a region that is being made happens in them.

use crate::support::{Helper, say, wait_for};

/// Prints the number of this thread, and lets the process that started this one trace it. The thread stands until the tracer
/// lets it go on.
pub fn me() {
    // SAFETY: takes nothing and cannot fail.
    say(format_args!("ok {}", unsafe { libc::gettid() }));
    // SAFETY: two calls that take numbers; the tracer is the thread that started us.
    unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0), 0, "{}", std::io::Error::last_os_error());
        libc::raise(libc::SIGSTOP);
    }
}

/// Has `helper` carry out an order. Whenever it enters or leaves a system call, `goes_on` is asked with how often that was;
/// where the answer is no, it dies there. Answers the helper that has done all and is about to say so.
pub fn watched(helper: Helper, order: &str, mut goes_on: impl FnMut(u32) -> bool) -> Option<Helper> {
    let mut helper = helper;
    let thread: i32 = helper.ok("trace").parse().expect("a thread");
    // It cannot be waited for before.
    wait_for("it is traced", || {
        let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    });
    wait_until_it_stands(thread);
    helper.send(order);
    for nth in 1.. {
        ptrace(libc::PTRACE_SYSCALL, thread);
        wait_until_it_stands(thread);
        if is_answering(thread) {
            ptrace(libc::PTRACE_DETACH, thread);
            return Some(helper);
        }
        if !goes_on(nth) {
            break;
        }
    }
    helper.signal(libc::SIGKILL);
    // A watched thread is not gone before its watcher knows.
    wait(thread);
    helper.kill();
    None
}

fn ptrace(request: libc::c_uint, thread: i32) {
    // SAFETY: the thread stands, and this one watches it.
    assert_eq!(unsafe { libc::ptrace(request, thread, 0, 0) }, 0, "{}", std::io::Error::last_os_error());
}

fn wait_until_it_stands(thread: i32) {
    let status = wait(thread);
    assert!(libc::WIFSTOPPED(status), "{status}");
}

fn wait(thread: i32) -> i32 {
    let mut status = 0;
    // SAFETY: waits for a thread that this one watches and writes its status into a live integer.
    assert_eq!(unsafe { libc::waitpid(thread, &mut status, libc::__WALL) }, thread);
    status
}

/// Whether it stands before a write to its standard output.
fn is_answering(thread: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default();
    call.starts_with(&format!("{} 0x1 ", libc::SYS_write))
}
