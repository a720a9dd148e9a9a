//! Functions of sockets that the standard library does not have.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Closing it will reset the connection.
pub fn reset_on_close(stream: &TcpStream) {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    let fd = stream.as_raw_fd();
    // SAFETY: a live descriptor, and a live struct of that size.
    let done = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const now).cast(), size) };
    assert_eq!(done, 0, "SO_LINGER");
}

/// Waits for a connection, and takes none; or for the end of the listener.
pub fn wait_for_client(listener: &TcpListener) {
    let mut polled = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live struct.
    unsafe { libc::poll(&raw mut polled, 1, -1) };
}

/// How many connections may wait for it from now on.
pub fn set_backlog(listener: &TcpListener, length: i32) {
    // SAFETY: a live descriptor and a number.
    let done = unsafe { libc::listen(listener.as_raw_fd(), length) };
    assert_eq!(done, 0, "listen");
}

/// Refuses connections from now on, for all that have the descriptor, and resets those that were not accepted.
pub fn end(listener: &TcpListener) {
    // SAFETY: a live descriptor and a number.
    let done = unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
    assert_eq!(done, 0, "shutdown");
}
