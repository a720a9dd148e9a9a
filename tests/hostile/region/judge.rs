//! Whether a pick is right.

use dyups::balance::miss::Miss;
use dyups::balance::pick::{Picked, Tried};
use dyups::error::Result;
use dyups::order::chash::{Base, key_hash, pick_without_ring};
use dyups::table::snapshot::Group;
use dyups::upstream::{HashId, Method, Peer, Upstream};

/// The largest weight of all peers together whose keys are looked up without a ring.
const MAX_WEIGHT_WITHOUT_RING: u64 = 20_000;

/// Up to this weight the owner of a key is checked, and for the first try only. More would take too long to do it often.
const MAX_WEIGHT_TO_CHECK: u64 = 40;

/// The knowledge about an upstream.
pub enum Judge<'a> {
    /// It is this, or it is not there.
    Sure(Option<&'a Upstream>),
    InDoubt,
}

impl Judge<'_> {
    /// A pick for `key`, that had to pass over `tried`.
    pub fn pick(&self, key: &str, tried: &Tried, answer: Result<u32, Miss>, picked: &Picked) {
        if let Ok(index) = answer
            && picked.fresh != 0
        {
            assert!((index as i32) < picked.peers && picked.len as usize <= picked.text.len(), "{picked:?}");
        }
        match (self, answer) {
            (Judge::InDoubt, _) => {}
            (Judge::Sure(None), answer) => assert_eq!(answer, Err(Miss::NotFound)),
            (Judge::Sure(Some(upstream)), Ok(index)) => {
                let all = open_to(upstream, tried);
                let Some((_, peer)) = all.iter().find(|(candidate, _)| *candidate == index) else {
                    panic!("{index} of {upstream:?} is not to be picked, {tried:?}")
                };
                if picked.fresh != 0 {
                    let text = &picked.text[..picked.len as usize];
                    assert_eq!((text, picked.ident), (peer.address.text().as_bytes(), peer.address.ident()));
                }
                let by_key = !key.is_empty() && upstream.method != Some(Method::Rr);
                if by_key && tried.count == 0 && weight(&all) <= MAX_WEIGHT_TO_CHECK {
                    assert_eq!(Some(index), owner(upstream.hash_id, &all, key), "{key}");
                }
            }
            (Judge::Sure(Some(upstream)), Err(miss)) => {
                let expected = match () {
                    () if open_to(upstream, &Tried::default()).is_empty() => Miss::NoPeer,
                    () if open_to(upstream, tried).is_empty() => Miss::AllTried,
                    () if weight(&open_to(upstream, &Tried::default())) > MAX_WEIGHT_WITHOUT_RING => Miss::NoRing,
                    () => panic!("{miss:?} of {upstream:?}"),
                };
                assert_eq!(miss, expected, "{upstream:?}");
            }
        }
    }

    /// Whether it said rightly that the upstream is there.
    pub fn exists(&self, answer: &Result<()>) {
        if let Judge::Sure(expected) = self {
            assert_eq!(answer.is_ok(), expected.is_some(), "{answer:?}");
        }
    }
}

/// The peers that a pick is from: of the primaries those that were not tried, and when there is none, of the backups.
fn open_to<'u>(upstream: &'u Upstream, tried: &Tried) -> Vec<(u32, &'u Peer)> {
    let tried = &tried.idents[..tried.count as usize];
    let of = |group: Group| -> Vec<_> {
        group.members(upstream).filter(|(_, peer)| !tried.contains(&peer.address.ident())).collect()
    };
    let primaries = of(Group::Primary);
    if primaries.is_empty() { of(Group::Backup) } else { primaries }
}

fn weight(peers: &[(u32, &Peer)]) -> u64 {
    peers.iter().map(|(_, peer)| u64::from(peer.weight)).sum()
}

fn owner(hash_id: HashId, peers: &[(u32, &Peer)], key: &str) -> Option<u32> {
    let points = peers.iter().map(|&(index, peer)| (index, Base::of(&peer.address, hash_id), peer.weight));
    pick_without_ring(points, key_hash(key.as_bytes()), |_| true)
}
