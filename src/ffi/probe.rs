//! Probes: which are due, the bytes to send, and the results. The caller makes the connections.

use super::edge::{bytes, guard, guard_code, out, refused};
use super::text::Text;
use crate::error::Result;
use crate::health::prober::{Notice, Orders, Prober, Stage};
use crate::http::response::Rules;
use crate::process;
use crate::quote::plain;
use crate::shm::clock::{exact_ms, spent_ms};
use crate::table::store::Table;
use std::cell::RefCell;
use std::ffi::c_char;

/// A probe to be made.
#[derive(Debug)]
#[repr(C)]
pub struct ProbeOrders {
    /// The number of the probe, for the calls that follow.
    pub id: u32,
    /// The host to connect to: an IPv4 address, an IPv6 address in brackets, or `unix:/path`, which has no port.
    pub host: Text,
    /// 0: none.
    pub port: i32,
    /// 0: no TLS; 1: TLS; 2: TLS, and the certificate is verified.
    pub tls: i32,
    /// The name that TLS asks for and verifies; may be empty.
    pub name: Text,
    /// The certificate to show, in PEM, followed by those of its signers; empty: none.
    pub cert: Text,
    /// Its key, in PEM.
    pub key: Text,
    /// Another number for each content of `cert`.
    pub cert_id: u32,
    /// The same of `key`.
    pub key_id: u32,
    /// The bytes to send; may be empty.
    pub request: Text,
    /// Milliseconds for the whole probe.
    pub timeout: i32,
    /// 1: the probe reads an answer.
    pub answers: i32,
}

/// An event of the probes for the operator.
#[derive(Debug)]
#[repr(C)]
pub struct ProbeNews {
    /// The event in a line, for a log.
    pub line: Text,
    /// 0: a warning, and nothing below is set. 1: a peer has come up or gone down.
    pub is_change: i32,
    /// The number of results in a row that led to the change.
    pub after: i32,
    /// The upstream.
    pub upstream: Text,
    /// The peer's address.
    pub server: Text,
    /// The old state: `up` or `down`.
    pub from: Text,
    /// The new state.
    pub to: Text,
    /// The result of the last probe.
    pub why: Text,
}

/// The memory that the structs of this worker's last calls point to.
#[derive(Default)]
struct OfWorker {
    prober: Option<Prober>,
    orders: Option<Orders>,
    news: [Vec<u8>; 6],
    listeners: Listeners,
}

/// The number of handlers of events in the Lua VM of `http {}`, and in that of `stream {}`. `None`: not known yet.
#[derive(Clone, Copy, Default)]
struct Listeners([Option<u32>; 2]);

impl Listeners {
    /// The one VM that takes the events, so that each is delivered once: that of `http {}`, unless only the other has handlers.
    fn told(self) -> usize {
        match self.0 {
            [None, Some(_)] | [Some(0), Some(1..)] => 1,
            _ => 0,
        }
    }
}

thread_local! {
    static KEPT: RefCell<OfWorker> = RefCell::default();
}

/// Finds the probes that are due. Call it in one thread of each worker, again and again. After it, `dyups_probe_next`
/// answers the probes that are due. Each of them is a connection to make, and ends with `dyups_probe_end`.
/// `dyups_probe_news` then has the changes. A worker without a slot probes nothing. The number of a probe is valid in
/// the thread that it was given in.
///
/// # Returns
///
/// Milliseconds until the next call.
///
/// # Errors
///
/// - `DYUPS_NOT_SET_UP`, `DYUPS_CHANGING`, `DYUPS_DAMAGED`
///
/// # Example
///
/// ```c
/// int32_t ms = dyups_probe_tick();
/// if (ms < 0) fprintf(stderr, "%s\n", dyups_error());
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probe_tick() -> i32 {
    guard(|| {
        let table = process::table()?;
        let Some(slot) = process::counting_slot() else { return Ok(1000) };
        KEPT.with_borrow_mut(|kept| {
            let now = exact_ms();
            if kept.prober.as_ref().is_none_or(|prober| prober.slot() != slot) {
                let rules = process::nginx_version().map_or(Rules::NEWEST, Rules::of);
                let seed = now << 32 ^ u64::from(std::process::id());
                kept.prober = Some(Prober::new(slot, seed, rules));
            }
            let prober = kept.prober.as_mut().expect("there is one by now");
            Ok(prober.tick(table, now, spent_ms)?.min(60_000) as i32)
        })
    })
}

/// Calls `of` with this worker's prober; `None`: the worker has not ticked yet.
fn with<T>(of: impl FnOnce(&'static Table, &mut Prober) -> T) -> Result<Option<T>> {
    let table = process::table()?;
    Ok(KEPT.with_borrow_mut(|kept| kept.prober.as_mut().map(|prober| of(table, prober))))
}

/// A number that is 0 where there is no prober.
fn number(of: impl FnOnce(&mut Prober) -> usize) -> i32 {
    guard_code(|| {
        let number = with(|_, prober| of(prober)).ok().flatten().unwrap_or(0);
        i32::try_from(number).unwrap_or(i32::MAX)
    })
}

/// Takes a probe that is due.
///
/// # Arguments
///
/// - `orders`: where the probe goes; its texts are valid until the next call of this function in this thread
///
/// # Returns
///
/// 1; 0: none is due, or as many as allowed are under way.
///
/// # Errors
///
/// - `DYUPS_INVALID`
/// - Those of `dyups_probe_tick`.
///
/// # Example
///
/// ```c
/// dyups_probe probe;
/// while (dyups_probe_next(&probe) == 1) printf("%.*s:%d\n", (int)probe.host.len, probe.host.data, (int)probe.port);
/// ```
///
/// # Safety
///
/// `orders` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_probe_next(orders: *mut ProbeOrders) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let given = unsafe { out(orders, "orders")? };
        let next = with(|table, prober| prober.next(table, exact_ms()))?;
        let Some((id, orders)) = next.transpose()?.flatten() else { return Ok(0) };
        KEPT.with_borrow_mut(|kept| {
            let orders = kept.orders.insert(orders);
            let [cert, key] = match &orders.identity {
                Some(identity) => [&identity.cert, &identity.key].map(|pem| (Text::of(&pem.bytes), pem.id)),
                None => [(); 2].map(|()| (Text::of(b""), 0)),
            };
            *given = ProbeOrders {
                id,
                host: Text::of(orders.host.as_bytes()),
                port: orders.port.map_or(0, i32::from),
                tls: i32::from(orders.tls) + i32::from(orders.tls && orders.verify),
                name: Text::of(orders.name.as_bytes()),
                cert: cert.0,
                key: key.0,
                cert_id: cert.1,
                key_id: key.1,
                request: Text::of(&orders.request),
                timeout: orders.timeout as i32,
                answers: i32::from(orders.answers),
            };
        });
        Ok(1)
    })
}

/// How many probes may begin, as of the last `dyups_probe_tick`. Where it is 0, `dyups_probe_next` has none.
///
/// # Returns
///
/// The number.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// if (dyups_probes_due() > 0) puts("some probes may begin");
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probes_due() -> i32 {
    number(|prober| prober.due())
}

/// Gives a probe the next bytes of its peer's answer.
///
/// # Arguments
///
/// - `id`: from `dyups_probe_next`
/// - `data`, `len`: the bytes
///
/// # Returns
///
/// Milliseconds that are left for the rest. 0: the probe is over, or there is none of this number; call
/// `dyups_probe_end` next.
///
/// # Errors
///
/// - `DYUPS_INVALID`, `DYUPS_NOT_SET_UP`
///
/// # Example
///
/// ```c
/// const char *bytes = "HTTP/1.1 200 OK\r\n\r\n";
/// if (dyups_probe_feed(id, bytes, strlen(bytes)) == 0) puts("it is over");
/// ```
///
/// # Safety
///
/// `data` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_probe_feed(id: u32, data: *const c_char, len: usize) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let data = unsafe { bytes(data, len, "data")? };
        Ok(with(|_, prober| prober.feed(id, data, exact_ms()))?.map_or(0, |left| left as i32))
    })
}

/// How much time a probe has left.
///
/// # Arguments
///
/// - `id`: from `dyups_probe_next`
///
/// # Returns
///
/// Milliseconds; 0: it is over.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// int32_t ms = dyups_probe_left(id);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probe_left(id: u32) -> i32 {
    number(|prober| prober.left(id, exact_ms()) as usize)
}

/// Ends a probe whose connection is closed.
///
/// # Arguments
///
/// - `id`: from `dyups_probe_next`
/// - `stage`: where it ended. 0: nothing was left to do; 1: connecting; 2: TLS; 3: sending; 4: receiving; 5: before it
///   began, by the fault of this worker, so that it says nothing about the peer
/// - `error`, `len`: the error of nginx, such as `closed` and `timeout`
///
/// # Returns
///
/// 0, also when its result does not count any more.
///
/// # Errors
///
/// - `DYUPS_INVALID`
/// - Those of `dyups_probe_tick`.
///
/// # Example
///
/// ```c
/// dyups_probe_end(id, 1, "connection refused", 18);
/// ```
///
/// # Safety
///
/// `error` points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_probe_end(id: u32, stage: u32, error: *const c_char, len: usize) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let error = unsafe { bytes(error, len, "error")? };
        let stages = [Stage::Done, Stage::Connect, Stage::Handshake, Stage::Send, Stage::Receive, Stage::NotMade];
        let stage = *stages.get(stage as usize).ok_or_else(|| refused("stage", &stage.to_string(), "0 to 5"))?;
        with(|table, prober| prober.end(table, id, stage, error, exact_ms()))?.transpose()?;
        Ok(0)
    })
}

/// Takes the next event of the probes: a change of a peer, or a warning for the operator.
///
/// # Arguments
///
/// - `news`: where the event goes; its texts are valid until the next call of this function in this thread
///
/// # Returns
///
/// 1; 0: there is none.
///
/// # Errors
///
/// - `DYUPS_INVALID`, `DYUPS_NOT_SET_UP`
///
/// # Example
///
/// ```c
/// dyups_news news;
/// while (dyups_probe_news(&news) == 1) printf("%.*s\n", (int)news.line.len, news.line.data);
/// ```
///
/// # Safety
///
/// `news` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_probe_news(news: *mut ProbeNews) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let given = unsafe { out(news, "news")? };
        let Some(news) = with(|_, prober| prober.notice())?.flatten() else { return Ok(0) };
        let line = plain(news.to_string().as_bytes()).into_owned();
        let (is_change, after, texts) = match news {
            Notice::Warning(_) => (0, 0, [const { String::new() }; 5]),
            Notice::Peer(peer) => {
                let [from, to] = [peer.change.from, peer.change.to].map(|state| state.name().to_string());
                (1, peer.change.after.into(), [peer.upstream, peer.server, from, to, peer.why])
            }
        };
        KEPT.with_borrow_mut(|kept| {
            let [upstream, server, from, to, why] = texts.map(String::into_bytes);
            kept.news = [line.into_bytes(), upstream, server, from, to, why];
            let [line, upstream, server, from, to, why] = kept.news.each_ref().map(|bytes| Text::of(bytes));
            *given = ProbeNews { line, is_change, after, upstream, server, from, to, why };
        });
        Ok(1)
    })
}

/// Says how many handlers of events a Lua VM of this worker has, and asks whether that VM takes the events. A worker
/// may have two VMs, of `http {}` and of `stream {}`. Both may probe, and one alone takes the events of both.
///
/// # Arguments
///
/// - `vm`: 0: `http {}`; 1: `stream {}`
/// - `handlers`: their number
///
/// # Returns
///
/// 1: this VM has to call `dyups_probe_news`. 0: the other one does.
///
/// # Errors
///
/// - `DYUPS_INVALID`
///
/// # Example
///
/// ```c
/// if (dyups_probe_listens(0, 1) == 1) puts("this VM takes the events");
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probe_listens(vm: u32, handlers: u32) -> i32 {
    guard(|| {
        KEPT.with_borrow_mut(|kept| {
            let own = kept.listeners.0.get_mut(vm as usize).ok_or_else(|| refused("vm", &vm.to_string(), "0 or 1"))?;
            *own = Some(handlers);
            Ok(i32::from(kept.listeners.told() == vm as usize))
        })
    })
}

/// Stops probing: probes under way count for nothing, and the other workers take this worker's peers. Call it when a
/// worker shuts down. `dyups_probe_tick` begins again.
///
/// # Returns
///
/// 0.
///
/// # Errors
///
/// Those of `dyups_probe_tick`.
///
/// # Example
///
/// ```c
/// dyups_probe_stop();
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probe_stop() -> i32 {
    guard(|| with(|table, prober| prober.stop(table, exact_ms()))?.transpose().map(|_| 0))
}

/// How many probes of this worker are under way.
///
/// # Returns
///
/// The number.
///
/// # Errors
///
/// None.
///
/// # Example
///
/// ```c
/// while (dyups_probing() > 0) sleep(1);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probing() -> i32 {
    number(|prober| prober.running())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_vm_takes_the_news_and_that_is_the_one_of_http_unless_only_the_other_listens() {
        std::thread::spawn(|| {
            // A worker with one of them alone.
            assert_eq!(dyups_probe_listens(1, 0), 1);
            // Both: neither has a handler, one, the other, both.
            assert_eq!([dyups_probe_listens(0, 0), dyups_probe_listens(1, 0)], [1, 0]);
            assert_eq!([dyups_probe_listens(0, 1), dyups_probe_listens(1, 0)], [1, 0]);
            assert_eq!([dyups_probe_listens(0, 0), dyups_probe_listens(1, 2)], [1, 1]);
            assert_eq!([dyups_probe_listens(0, 0), dyups_probe_listens(1, 2)], [0, 1]);
            assert_eq!([dyups_probe_listens(0, 1), dyups_probe_listens(1, 1)], [1, 0]);
            assert!(dyups_probe_listens(2, 0) < 0);
        })
        .join()
        .expect("all of it");
    }
}
