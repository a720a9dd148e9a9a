//! Memory of a peer and of a point of a ring in the region, beside their memory in nginx.

use crate::peers::{self, host};
use crate::place::{self, Place};
use crate::table::{Line, bytes};
use crate::worker::{Worker, lua_peers, new_region};
use dyups::shm::WORD;
use dyups::shm::layout::LAYOUT;
use dyups::shm::region::cells_of;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MOST_A_PEER: f64 = 512.0;
const MOST_A_POINT: f64 = 8.0;
const POINTS: usize = 160;

pub fn measure(place: &Place) -> Vec<Line> {
    [(10_000, 1), (10, 10_000), (1, 10_000)]
        .into_iter()
        .map(|(peers, upstreams)| a_peer(place, peers, upstreams))
        .chain([a_point(place, 10_000)])
        .collect()
}

/// Pages that the region's file and that of its cells have, after `upstreams` of `peers` peers came in, in bytes beyond those of before.
fn taken(place: &Place, method: &str, peers: usize, upstreams: usize) -> f64 {
    let file = new_region(place, "memory");
    let worker = Worker::start(place, "worker", 0, "memory", |_| ());
    let cells = cells_of(&place.path("memory"), LAYOUT);
    let of = |file: &Path| std::fs::metadata(file).expect("a region").blocks() as f64 * 512.0;
    let pages = || of(&file) + of(&cells);
    let before = pages();
    let list = lua_peers(1, peers, 8080);
    worker.order(&format!(
        "(function()
             local peers = {list}
             for i = 1, {upstreams} do
                 assert(require('dyups').set_upstream('upstream-' .. i, {{ method = '{method}', peers = peers }}))
             end
             return true
         end)()"
    ));
    // The memory of a record is taken as it is used; its bucket is there from the beginning.
    pages() - before + (upstreams * WORD) as f64
}

fn a_peer(place: &Place, peers: usize, upstreams: usize) -> Line {
    let dyups = taken(place, "rr", peers, upstreams) / (peers * upstreams) as f64;
    let zone = smallest_zone(place, peers) / peers as f64;
    let of = if upstreams == 1 { "one upstream".to_owned() } else { format!("{} upstreams", peers::count(upstreams)) };
    let what = format!("memory of a peer, {of} of {}", peers::count(peers));
    let beside = format!("nginx, smallest `zone`: {}", bytes(zone));
    Line::new(what, bytes(dyups), beside, dyups / zone).at_most(dyups, MOST_A_PEER, bytes)
}

fn a_point(place: &Place, peers: usize) -> Line {
    let ring = taken(place, "chash", peers, 1) - taken(place, "rr", peers, 1);
    let point = ring / (peers * POINTS) as f64;
    // ngx_http_upstream_chash_point_t: a number and a pointer, in every worker.
    let nginx = 16.0;
    let what = format!("memory of a point of a ring, {} peers", peers::count(peers));
    Line::new(what, bytes(point), format!("nginx, in each worker: {}", bytes(nginx)), point / nginx).at_most(
        point,
        MOST_A_POINT,
        bytes,
    )
}

/// The smallest zone, in whole pages, that nginx takes for an upstream of so many peers.
fn smallest_zone(place: &Place, peers: usize) -> f64 {
    let servers: String = (0..peers).map(|index| format!("server {}:8080; ", host(1, index))).collect();
    let takes = |pages: usize| {
        let zone = format!("upstream zone {{ zone zone {}k; {servers} }}", pages * 4);
        let text = format!("pid test.pid;\nerror_log stderr emerg;\nevents {{}}\nhttp {{ {zone} }}\n");
        let conf = place.write("zone.conf", &text);
        let mut test = place::nginx_in(&place.path("worker"));
        test.arg("-c").arg(conf).arg("-t").output().expect("nginx -t").status.success()
    };
    let (mut too_small, mut enough) = (0, 8);
    while !takes(enough) {
        (too_small, enough) = (enough, enough * 2);
    }
    while enough - too_small > 1 {
        let half = (too_small + enough) / 2;
        if takes(half) { enough = half } else { too_small = half }
    }
    enough as f64 * 4096.0
}
