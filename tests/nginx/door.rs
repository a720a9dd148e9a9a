//! Where a backend of this process listens: clients come in, wait in vain, or find it closed.

use super::{place, sockets};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// That of the standard library.
const BACKLOG: i32 = 128;

/// On loopback a connection is made within the call, if it is made at all.
const AT_ONCE: Duration = Duration::from_millis(200);

/// Closed when it is dropped.
pub struct Door {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    listener: TcpListener,
    crowd: Mutex<Crowd>,
    heard: Condvar,
}

/// Connections of its own that make it deaf: no one accepts them, so there is no room for others.
#[derive(Default)]
struct Crowd {
    deaf: bool,
    own: HashMap<SocketAddr, TcpStream>,
}

impl Door {
    /// Each connection that comes in is given to `serve`, in the thread that accepts.
    pub fn open(address: SocketAddr, serve: impl Fn(TcpStream) + Send + 'static) -> Door {
        let (listener, heard) = (place::listen(address), Condvar::new());
        let shared = Arc::new(Shared { listener, crowd: Mutex::default(), heard });
        let accepting = shared.clone();
        let thread = std::thread::spawn(move || {
            while let Some(stream) = accepting.accept() {
                serve(stream);
            }
        });
        Door { address, shared, thread: Some(thread) }
    }

    /// From now on connections are neither made nor refused. Those that are being made now may still be.
    pub fn deafen(&self) {
        let mut crowd = self.shared.lock();
        crowd.deaf = true;
        sockets::set_backlog(&self.shared.listener, 1);
        while let Ok(stream) = TcpStream::connect_timeout(&self.address, AT_ONCE) {
            crowd.own.insert(stream.local_addr().expect("connected"), stream);
        }
    }

    /// The end of that.
    pub fn hear(&self) {
        let mut crowd = self.shared.lock();
        crowd.deaf = false;
        sockets::set_backlog(&self.shared.listener, BACKLOG);
        self.shared.heard.notify_all();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // In this order: it accepts no client that was waiting.
        sockets::end(&self.shared.listener);
        self.shared.lock().deaf = false;
        self.shared.heard.notify_all();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Crowd> {
        self.crowd.lock().expect("no panic")
    }

    /// The next client from this machine; none when it is closed.
    fn accept(&self) -> Option<TcpStream> {
        loop {
            // A backend that accepts at once has a client already when it becomes deaf.
            sockets::wait_for_client(&self.listener);
            let mut crowd = self.heard.wait_while(self.lock(), |crowd| crowd.deaf).expect("no panic");
            match self.listener.accept() {
                Ok((stream, source)) => {
                    if crowd.own.remove(&source).is_none() && source.ip().is_loopback() {
                        return Some(stream);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return None,
                Err(error) => panic!("accept: {error}"),
            }
        }
    }
}
