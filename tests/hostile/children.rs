//! Forked children: hostile workers, honest ones, and the checks themselves, each in a process of its own.

use crate::inherited::become_worker;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` in a child, which ends with it; whether it ended well, as the kernel says it.
pub fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: this program has one thread, so the child has all that the parent had; it ends by _exit.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let ended = catch_unwind(AssertUnwindSafe(body));
            // SAFETY: ends the child without running the functions that its parent has registered.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        child => child,
    }
}

/// The status of a child that has ended.
pub fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: our child, and a valid place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

/// The answer of a child, which is another start of nginx. It must end well.
pub fn said_by(body: impl FnOnce() -> String) -> String {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let child = fork(|| writer.write_all(body().as_bytes()).expect("somebody listens"));
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("UTF-8");
    assert_eq!(wait(child), 0, "{said}");
    said
}

/// A child that inherits the same as a worker, and carries out orders. Killed when the value goes.
pub struct Worker {
    pid: libc::pid_t,
    orders: std::io::PipeWriter,
    answers: BufReader<std::io::PipeReader>,
}

impl Worker {
    /// `obey` answers each order with one line.
    pub fn start(mut obey: impl FnMut(&str) -> String) -> Worker {
        let (orders_in, orders) = std::io::pipe().expect("a pipe");
        let (answers, mut answers_in) = std::io::pipe().expect("a pipe");
        let pid = fork(|| {
            become_worker(&[orders_in.as_raw_fd(), answers_in.as_raw_fd()]);
            for order in BufReader::new(&orders_in).lines().map_while(Result::ok) {
                writeln!(answers_in, "{}", obey(&order)).expect("the master listens");
            }
        });
        Worker { pid, orders, answers: BufReader::new(answers) }
    }

    pub fn pid(&self) -> u32 {
        self.pid as u32
    }

    pub fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("the worker listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("readable");
        assert!(answer.ends_with('\n'), "the worker died of {order:?}");
        answer.trim_end().to_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        wait(self.pid);
    }
}

/// A hostile worker that has done one thing, and stays; and its answer.
pub fn hostile(mut act: impl FnMut() -> String) -> (Worker, String) {
    let mut worker = Worker::start(move |_| act());
    let said = worker.ask("act");
    (worker, said)
}
