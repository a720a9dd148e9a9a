//! All peers of an upstream replaced under load: the time of the last request to the old ones, and the cost.

use crate::backend::Backend;
use crate::cpu;
use crate::load::{Connections, Load};
use crate::measure::{Run, alternate};
use crate::peers::{self, servers};
use crate::place::{Place, free_address};
use crate::plain::Plain;
use crate::server::{Conf, Nginx};
use crate::table::{Line, time};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const SIZES: [usize; 2] = [4, 10_000];
const ROUNDS: usize = 9;
const CLIENTS: usize = 2;
/// Answers that have to come after the last old one before it is taken for the last.
const AFTERWARDS: usize = 300;
/// Changes of which the cost is the mean.
const CHANGES: usize = 5;

/// Tables of peers, by the second byte of their addresses; and the addresses that begin so.
const TABLES: [(u8, &str); 2] = [(1, "127.1."), (2, "127.2.")];

pub fn measure(place: &Place) -> Vec<Line> {
    let backend = Backend::start(place);
    SIZES.into_iter().flat_map(|size| sized(place, &backend, size)).collect()
}

fn sized(place: &Place, backend: &Backend, size: usize) -> Vec<Line> {
    let versions = TABLES.map(|(table, _)| servers(table, size, backend.port));
    let plain = Plain::start(place, "plain", "", &versions[0]);
    let dyups = start(place);
    dyups.post("reload", &versions[0]);
    let reload = |to: usize| {
        let old = plain.nginx.worker_pids();
        plain.change(&versions[to]);
        plain.wait_for_others(&old);
    };
    let post = |to: usize| dyups.post("reload", &versions[to]);
    let cost = || -> f64 {
        let from = cpu::of_nginx(dyups.master());
        (0..CHANGES).for_each(|change| post(change % 2));
        (cpu::of_nginx(dyups.master()) - from) / CHANGES as f64
    };
    // Each turn goes to the table that is not there.
    let turn = |traffic: SocketAddr, change: &dyn Fn(usize), at: &mut usize| {
        let from = std::mem::replace(at, 1 - *at);
        until_the_last(traffic, TABLES[from].1, || change(1 - from))
    };
    let (mut plain_at, mut dyups_at) = (0, 0);
    let [slow, fast]: [_; 2] = alternate(
        ROUNDS,
        [
            Box::new(|| turn(plain.nginx.traffic, &reload, &mut plain_at)) as Run<'_>,
            Box::new(|| turn(dyups.traffic, &post, &mut dyups_at)),
        ],
    );
    let [costly, cheap] = alternate(ROUNDS, [Box::new(|| plain.cost(&versions, CHANGES)) as Run<'_>, Box::new(cost)]);
    let count = peers::count(size);
    let beside = |ns| format!("nginx, reload: {}", time(ns));
    vec![
        Line::new(
            format!("{count} peers replaced by HTTP, until all requests use it"),
            time(fast.median()),
            beside(slow.median()),
            fast.of(&slow),
        ),
        Line::new(
            format!("{count} peers replaced by HTTP, CPU"),
            time(cheap.median()),
            beside(costly.median()),
            cheap.of(&costly),
        ),
    ]
}

fn start(place: &Place) -> Nginx {
    let conf = Conf { setup: "shm_size = \"64m\", ".into(), ..Conf::new(place, 2) };
    let (traffic, admin) = (free_address(), free_address());
    Nginx::with_text(&place.path("dyups"), &conf.text(traffic, admin), conf.workers, traffic, admin)
}

/// From just before `change` to the last answer of an old peer, in ns.
fn until_the_last(traffic: SocketAddr, old: &'static str, change: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    let last = Arc::new(AtomicU64::new(0));
    let noted = last.clone();
    let load = Load::start(traffic, CLIENTS, move |worker| {
        let Some(answer) = worker.get("reload", Connections::Kept) else { return };
        if answer.body.starts_with(old) {
            noted.fetch_max(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    });
    load.wait_for_more(AFTERWARDS);
    let from = begin.elapsed().as_nanos() as u64;
    change();
    loop {
        let before = last.load(Ordering::Relaxed);
        load.wait_for_more(AFTERWARDS);
        if last.load(Ordering::Relaxed) == before {
            break;
        }
    }
    load.stop().assert_all_good();
    last.load(Ordering::Relaxed).saturating_sub(from) as f64
}
