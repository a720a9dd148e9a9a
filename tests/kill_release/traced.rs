//! Another process, stopped after each of its instructions.

use std::io;

/// It is traced by the thread that attached to it.
pub struct Traced(i32);

/// Where it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After an instruction, or at a system call.
    Trap,
    /// It has sent SIGSTOP to itself, of which nothing comes.
    Mark,
}

impl Traced {
    pub fn attach(pid: i32) -> io::Result<Traced> {
        let traced = Traced(pid);
        traced.ptrace(libc::PTRACE_ATTACH)?;
        assert_eq!(traced.wait(), Stop::Mark, "attaching stops it in the same way");
        Ok(traced)
    }

    /// Lets it run to its next mark.
    pub fn to_mark(&self) {
        assert_eq!(self.go(libc::PTRACE_CONT), Stop::Mark);
    }

    /// To the beginning or the end of the next system call.
    pub fn to_system_call(&self) -> Stop {
        self.go(libc::PTRACE_SYSCALL)
    }

    /// To the next instruction.
    pub fn step(&self) -> Stop {
        self.go(libc::PTRACE_SINGLESTEP)
    }

    fn go(&self, request: libc::c_uint) -> Stop {
        self.ptrace(request).expect("it is traced and stands");
        self.wait()
    }

    fn ptrace(&self, request: libc::c_uint) -> io::Result<()> {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these requests take no address and no signal, and act on another process.
        match unsafe { libc::ptrace(request, self.0, none, none) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn wait(&self) -> Stop {
        let mut status = 0;
        // SAFETY: waits for a process that this thread traces and writes its status into a live integer.
        assert_eq!(unsafe { libc::waitpid(self.0, &mut status, libc::__WALL) }, self.0);
        match libc::WIFSTOPPED(status).then(|| libc::WSTOPSIG(status)) {
            Some(libc::SIGTRAP) => Stop::Trap,
            Some(libc::SIGSTOP) => Stop::Mark,
            _ => panic!("it was to be traced, and has ended or got a signal: {status:x}"),
        }
    }
}

impl Drop for Traced {
    /// A traced process that dies has to be waited for by its tracer: so it is let go first.
    fn drop(&mut self) {
        let _ = self.ptrace(libc::PTRACE_DETACH);
    }
}
