//! Probing: what is due, what to send, and what comes of it. The connections are the caller's.

use super::edge::{bytes, guard, guard_code, out, refused};
use super::show::Text;
use crate::error::Result;
use crate::health::prober::{News, Orders, Prober, Stage};
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
    /// Names it in the calls that follow.
    pub id: u32,
    /// Where to connect to: an IPv4 address, an IPv6 address in brackets, or `unix:/path`, which has no port.
    pub host: Text,
    /// 0: none.
    pub port: i32,
    /// 0: no TLS; 1: TLS; 2: and the certificate is verified.
    pub tls: i32,
    /// The name that TLS asks for and verifies; may be empty.
    pub name: Text,
    /// The certificate to show, in PEM, with those of who signed it; empty: none.
    pub cert: Text,
    /// Its key, in PEM.
    pub key: Text,
    /// Another number for each content of `cert`.
    pub cert_id: u32,
    /// The same of `key`.
    pub key_id: u32,
    /// What to send; may be empty.
    pub request: Text,
    /// Milliseconds for all of it.
    pub timeout: i32,
    /// 1: an answer is waited for.
    pub answers: i32,
}

/// What an operator should know of the probes.
#[derive(Debug)]
#[repr(C)]
pub struct ProbeNews {
    /// All of it in a line, for a log.
    pub line: Text,
    /// 0: a warning, and nothing below is set. 1: a peer has come up or gone down.
    pub is_change: i32,
    /// After how many results in a row.
    pub after: i32,
    /// The upstream.
    pub upstream: Text,
    /// The peer's address.
    pub server: Text,
    /// `up` or `down`: what it was.
    pub from: Text,
    /// And what it is.
    pub to: Text,
    /// What the last probe found.
    pub why: Text,
}

/// What the structs of this worker's last calls point to.
#[derive(Default)]
struct Kept {
    prober: Option<Prober>,
    orders: Option<Orders>,
    news: [Vec<u8>; 6],
    listeners: Listeners,
}

/// How many handlers of events each Lua VM of this worker has: that of `http {}`, and that of `stream {}`. `None`: it has not said.
#[derive(Clone, Copy, Default)]
struct Listeners([Option<u32>; 2]);

impl Listeners {
    /// Which of the two is told the news: one alone, so that each event is delivered once. That of `http {}`, unless only the other has
    /// handlers.
    fn told(self) -> usize {
        match self.0 {
            [None, Some(_)] | [Some(0), Some(1..)] => 1,
            _ => 0,
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Looks which probes are due. To be called in one thread of each worker, again and again: after it `dyups_probe_next` gives those
/// that are due, each of which is a connection to be made and ends with `dyups_probe_end`; and `dyups_probe_news` says what that
/// has changed. A worker without a slot probes nothing. A number of a probe is good in the thread that it was given in.
///
/// Arguments: none. Returns: milliseconds until it should be called again. Errors: `DYUPS_NOT_SET_UP`, `DYUPS_CHANGING`,
/// `DYUPS_DAMAGED`.
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

/// What `of` makes of this worker's prober; `None`: it has not ticked yet.
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
/// Arguments: `orders`: what to do; its texts are valid until the next call of this function in this thread. Returns: 1; or 0 when
/// nothing is due, or as many are under way as may be. Errors: `DYUPS_INVALID`, and as `dyups_probe_tick`.
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

/// How many probes may begin, as of the last `dyups_probe_tick`: where it is 0, `dyups_probe_next` has none.
///
/// Arguments: none. Returns: the number. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probes_due() -> i32 {
    number(|prober| prober.due())
}

/// Gives a probe what its peer answers.
///
/// Arguments: `id`: as `dyups_probe_next` says; `data`, `len`: the next bytes. Returns: milliseconds that are
/// left for the rest; 0: it is over, and `dyups_probe_end` is next, as it is for a probe that there is not. Errors: `DYUPS_INVALID`,
/// `DYUPS_NOT_SET_UP`.
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
/// Arguments: `id`. Returns: milliseconds; 0: it is over. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probe_left(id: u32) -> i32 {
    number(|prober| prober.left(id, exact_ms()) as usize)
}

/// A probe is over, and its connection closed.
///
/// Arguments: `id`; `stage`: where it ended, 0: all was said, 1: connecting, 2: TLS, 3: sending, 4: receiving, 5: before it began,
/// by the fault of this worker, so that nothing is known of the peer; `error`, `len`: what nginx says of it, `closed` and
/// `timeout` among others. Returns: 0, also when what it found does not count any more. Errors:
/// `DYUPS_INVALID`, and as `dyups_probe_tick`.
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

/// What an operator should know, one thing a call.
///
/// Arguments: `news`: its texts are valid until the next call of this function in this thread. Returns: 1; or 0 when there is
/// nothing more. Errors: `DYUPS_INVALID`, `DYUPS_NOT_SET_UP`.
///
/// # Safety
///
/// `news` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dyups_probe_news(news: *mut ProbeNews) -> i32 {
    guard(|| {
        // SAFETY: the caller's contract.
        let given = unsafe { out(news, "news")? };
        let Some(news) = with(|_, prober| prober.news())?.flatten() else { return Ok(0) };
        let line = plain(news.to_string().as_bytes()).into_owned();
        let (is_change, after, texts) = match news {
            News::Warning(_) => (0, 0, [const { String::new() }; 5]),
            News::Peer(peer) => {
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

/// Says how many handlers of events a Lua VM of this worker has, and asks whether that VM takes the news. A worker may have two VMs, that
/// of `http {}` and that of `stream {}`. Both may probe; one alone takes the news of both.
///
/// Arguments: `vm`: 0: `http {}`, 1: `stream {}`; `handlers`: how many. Returns: 1: it is to call `dyups_probe_news`; or 0. Errors:
/// `DYUPS_INVALID`.
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

/// Probes no more: what is under way counts for nothing, and this worker's peers are the others'. To be called when a worker shuts
/// down; `dyups_probe_tick` begins again.
///
/// Arguments: none. Returns: 0. Errors: as `dyups_probe_tick`.
#[unsafe(no_mangle)]
pub extern "C" fn dyups_probe_stop() -> i32 {
    guard(|| with(|table, prober| prober.stop(table, exact_ms()))?.transpose().map(|_| 0))
}

/// How many probes of this worker are under way.
///
/// Arguments: none. Returns: the number. Errors: none.
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
