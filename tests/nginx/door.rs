//! Where a backend of this process listens: clients come in until it is closed.

use super::{place, sockets};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Closed when it is dropped.
pub struct Door {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Each connection that comes in is given to `serve`, in the thread that accepts.
    pub fn open(address: SocketAddr, serve: impl Fn(TcpStream) + Send + 'static) -> Door {
        let listener = Arc::new(place::listen(address));
        let accepting = listener.clone();
        let thread = std::thread::spawn(move || {
            while let Some(stream) = accept(&accepting) {
                serve(stream);
            }
        });
        Door { listener, thread: Some(thread) }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        sockets::end(&self.listener);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The next client; none when it is closed.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept() {
        Ok((stream, _)) => Some(stream),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => None,
        Err(error) => panic!("accept: {error}"),
    }
}
