//! Tiny upstreams, and what writers and readers do with them.

use dyups::balance::miss::Miss;
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::shm::layout::Geometry;
use dyups::shm::{Cells, Memory, Writing};
use dyups::table::commit::{self, Build, CellPlan, RingPlan};
use dyups::table::directory::{self, Directory};
use dyups::table::snapshot::{Flags, Group, build_ring, encode};
use dyups::upstream::{Address, Peer, Upstream};
use std::path::Path;

/// Version `number` of an upstream: nothing of it is as in another one.
pub fn version(name: &str, number: u16) -> Upstream {
    let server = format!("10.0.{number}.{number}:{}", 8000 + number);
    let address = Address::from_server(&server).expect("an address");
    let peer = Peer { max_fails: number.into(), ..Peer::new(address) };
    Upstream { name: name.to_owned(), peers: vec![peer], ..Upstream::default() }
}

fn number_of(address: &Address) -> u16 {
    address.port().expect("a port") - 8000
}

/// The first names that hash into one of `buckets`.
pub fn names_in_bucket<const COUNT: usize>(bucket: u32, buckets: usize) -> [String; COUNT] {
    let in_bucket = |name: &String| directory::hash(name.as_bytes()) % buckets as u32 == bucket;
    let mut names = (0..).map(|i| format!("u{i}")).filter(in_bucket);
    std::array::from_fn(|_| names.next().expect("there is no end of them"))
}

/// The right to change the table in `mem`.
pub fn change<'a, M: Memory>(mem: &'a M, geometry: &'a Geometry) -> Writing<'a, M> {
    Writing::new(mem, geometry, Path::new("model"))
}

/// Puts a version in the place of the one that is there, if any.
pub fn put<M: Memory>(mem: &M, geometry: &Geometry, upstream: &Upstream) {
    put_with(mem, geometry, upstream, RingPlan::None);
}

/// The same with a ring, of which every version has another one.
pub fn put_with_ring<M: Memory>(mem: &M, geometry: &Geometry, upstream: &Upstream) {
    let ring = build_ring(upstream, Group::Primary).expect("not too large").expect("of one peer");
    put_with(mem, geometry, upstream, RingPlan::Build(ring));
}

fn put_with<M: Memory>(mem: &M, geometry: &Geometry, upstream: &Upstream, ring: RingPlan) {
    let old = Directory::over(mem, geometry).find(upstream.name.as_bytes()).expect("readable");
    let build = Build {
        image: encode(upstream, Flags::default()).expect("readable"),
        rings: [ring, RingPlan::None],
        must: true,
        cells: CellPlan::default(),
    };
    commit::put(&change(mem, geometry), &upstream.name, build, old).expect("room");
}

/// Ends an upstream.
pub fn remove<M: Memory>(mem: &M, geometry: &Geometry, name: &str) {
    let (record, old) = Directory::over(mem, geometry).find(name.as_bytes()).expect("readable").expect("there");
    commit::remove(&change(mem, geometry), record, &old).expect("sound");
}

/// Picks a peer as a request does: all of it is that of one version, or there is none.
pub fn pick<M: Memory>(mem: &M, geometry: &Geometry, handle: &mut Handle) -> Option<u16> {
    pick_by(mem, geometry, handle, None)
}

/// The same, by chash where there is a key.
pub fn pick_by<M: Memory>(mem: &M, geometry: &Geometry, handle: &mut Handle, key: Option<&[u8]>) -> Option<u16> {
    let mut picked = Picked::default();
    let ask = Ask { key, ..Ask::default() };
    let index = match handle.pick_in(mem, geometry, None::<Cells<'_, M>>, ask, false, &mut picked) {
        Ok(index) => index,
        Err(Miss::NotFound) => return None,
        Err(miss) => panic!("{miss:?}"),
    };
    let text = std::str::from_utf8(&picked.text[..picked.len as usize]).expect("UTF-8");
    let address = Address::from_server(text).unwrap_or_else(|_| panic!("{text:?}"));
    let number = number_of(&address);
    let peer = &version("any", number).peers[0];
    assert_eq!((index, picked.peers, text, picked.ident), (0, 1, peer.address.text(), peer.address.ident()));
    Some(number)
}

/// All versions that a listing finds, each one whole.
pub fn list<M: Memory>(mem: &M, geometry: &Geometry) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    Directory::over(mem, geometry).each(|view| view.decode(mem), |upstream| found.push(upstream)).expect("readable");
    let whole = |upstream: Upstream| {
        let number = number_of(&upstream.peers[0].address);
        assert_eq!(upstream, version(&upstream.name, number));
        (upstream.name, number)
    };
    found.into_iter().map(whole).collect()
}
