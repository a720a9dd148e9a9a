//! The other process: a worker that has inherited all that workers get, and has gone bad.

use crate::inherited::become_worker;
use dyups::shm::{Mem, Memory};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A forked child that stores words into the region as it is told to.
pub struct Spoiler {
    orders: OwnedFd,
    done: OwnedFd,
}

impl Spoiler {
    /// A child that has nothing but this mapping, the descriptor of the lock file, and the user of a worker.
    pub fn start(mem: &Mem) -> Spoiler {
        let ((orders_in, orders), (done, done_in)) = (pipe(), pipe());
        // SAFETY: the child runs `serve` alone, which allocates nothing, and never returns from it.
        let pid = unsafe { libc::fork() };
        assert_ne!(pid, -1, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            become_worker(&[orders_in.as_raw_fd(), done_in.as_raw_fd()]);
            serve(mem, orders_in.as_raw_fd(), done_in.as_raw_fd());
        }
        Spoiler { orders, done }
    }

    /// Has it store `value`; returns when that is done. Only calls that a signal handler may make.
    pub fn store(&self, word: usize, value: u64) {
        order(self.orders.as_raw_fd(), self.done.as_raw_fd(), word, value);
    }

    /// The descriptors that [`order`] needs.
    pub fn descriptors(&self) -> (i32, i32) {
        (self.orders.as_raw_fd(), self.done.as_raw_fd())
    }
}

/// As [`Spoiler::store`], for code that has the descriptors alone.
pub fn order(orders: i32, done: i32, word: usize, value: u64) {
    let mut order = [0; 16];
    order[..8].copy_from_slice(&(word as u64).to_ne_bytes());
    order[8..].copy_from_slice(&value.to_ne_bytes());
    file(orders).write_all(&order).expect("the other process lives");
    file(done).read_exact(&mut [0]).expect("the other process lives");
}

/// Stores words until the pipe ends with its owner.
fn serve(mem: &Mem, orders: i32, done: i32) -> ! {
    let mut order = [0; 16];
    while file(orders).read_exact(&mut order).is_ok() {
        let [word, value] = [0, 8].map(|at| u64::from_ne_bytes(*order[at..].first_chunk().expect("eight")));
        let stored = mem.store(word as usize, value).is_ok();
        if !stored || file(done).write_all(&[1]).is_err() {
            break;
        }
    }
    // SAFETY: ends the child without running the functions that its parent has registered.
    unsafe { libc::_exit(0) }
}

/// A descriptor that stays open.
fn file(descriptor: i32) -> ManuallyDrop<File> {
    // SAFETY: open for as long as its owner lives, and not closed by this value.
    ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) })
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (reader.into(), writer.into())
}
