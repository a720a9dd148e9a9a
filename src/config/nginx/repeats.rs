//! Servers with one address, which nginx takes for peers of their own. dyups has one peer for them, which gets the requests of
//! all.

use super::reading::Reading;
use super::tokens::Place;
use crate::config::addresses::Addresses;
use crate::config::fields::WEIGHT;
use crate::error::Result;
use crate::upstream::{Method, Peer, Status};

/// The servers of a block so far.
#[derive(Default)]
pub(super) struct Servers {
    peers: Vec<Peer>,
    places: Vec<Place>,
    /// For each of them the first one with its address.
    firsts: Vec<usize>,
    seen: Addresses,
}

impl Servers {
    /// None so far, with room for `count`.
    pub(super) fn with_capacity(count: usize) -> Servers {
        Servers {
            peers: Vec::with_capacity(count),
            places: Vec::with_capacity(count),
            firsts: Vec::with_capacity(count),
            seen: Addresses::with_capacity(count),
        }
    }

    /// Adds the next one.
    pub(super) fn add(&mut self, peer: Peer, place: Place) {
        self.peers.push(peer);
        self.places.push(place);
        let peers = &self.peers;
        self.firsts.push(self.seen.add(peers.len() - 1, |index| &peers[index].address));
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }
}

/// A peer and all the lines that have made it.
struct Joined {
    peer: Peer,
    /// The weights of all lines that count.
    weight: u64,
    /// The place of the first line.
    place: Place,
}

/// One peer for each address, in the order of its first lines, and a warning for each further line.
///
/// # Errors
///
/// The weights of an address are together more than a peer may have.
pub(super) fn merge(servers: Servers, method: Option<Method>, reading: &mut Reading<'_>) -> Result<Vec<Peer>> {
    let Servers { peers, places, firsts, .. } = servers;
    if firsts.iter().enumerate().all(|(index, &first)| first == index) {
        return Ok(peers);
    }
    // Where the peer of a first line is.
    let mut at = vec![0; peers.len()];
    let mut all: Vec<Joined> = Vec::with_capacity(peers.len());
    for (index, (peer, place)) in peers.into_iter().zip(places).enumerate() {
        if firsts[index] == index {
            at[index] = all.len();
            all.push(Joined { weight: peer.weight.into(), peer, place });
            continue;
        }
        let joined = &mut all[at[firsts[index]]];
        let (server, first) = (peer.address.server().to_owned(), joined.place.seen_from(&place));
        let how = join(joined, peer, method);
        reading.warn(&place, format_args!("server {server}: the same address as on {first}: {how}"));
        if WEIGHT.kind.number::<u16>(joined.weight as i64).is_none() {
            let (weight, allowed) = (joined.weight, WEIGHT.kind.allowed());
            return Err(place.error(format_args!("weight: {weight} with that on {first}: allowed: {allowed}")));
        }
    }
    Ok(all.into_iter().map(|joined| Peer { weight: joined.weight as u16, ..joined.peer }).collect())
}

/// Adds a line, and says how. A line that takes traffic counts before one that takes none, a primary before a backup.
fn join(joined: &mut Joined, peer: Peer, method: Option<Method>) -> String {
    let rank = |peer: &Peer| (peer.status == Status::Up, !peer.backup);
    let (before, now) = (rank(&joined.peer), rank(&peer));
    if now == before {
        joined.weight = match method {
            // nginx's ring has the points of one text once, however often it is there.
            Some(Method::Chash) if peer.address == joined.peer.address => joined.weight.max(peer.weight.into()),
            _ => joined.weight + u64::from(peer.weight),
        };
        let limits = [joined.peer.max_conns, peer.max_conns];
        joined.peer.max_conns = if limits.contains(&0) { 0 } else { limits[0].saturating_add(limits[1]) };
        return format!("one peer, of weight {}", joined.weight);
    }
    let which = if now.0 != before.0 { "the line that is up" } else { "the primary" };
    if now > before {
        joined.weight = peer.weight.into();
        let address = joined.peer.address.clone();
        joined.peer = Peer { address, ..peer };
    }
    format!("{which} alone counts")
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;

    /// The peers of a block, as a text, and the warnings.
    fn read(body: &str) -> (Vec<String>, Vec<String>) {
        let (upstream, warnings) = block("api", body.as_bytes(), "b", None).unwrap();
        let shown = |peer: &Peer| {
            let backup = if peer.backup { " backup" } else { "" };
            format!("{} {} {}{backup}", peer.address.server(), peer.weight, peer.status.name())
        };
        (upstream.peers.iter().map(shown).collect(), warnings)
    }

    fn peers(body: &str) -> Vec<String> {
        read(body).0
    }

    #[test]
    fn weights_of_one_address_are_added() {
        let (peers, warnings) = read("server 1.1.1.1 weight=2;\nserver 1.1.1.2;\n\nserver 1.1.1.1:80 weight=3;");
        assert_eq!(peers, ["1.1.1.1 5 up", "1.1.1.2 1 up"]);
        assert_eq!(warnings, ["b:4: server 1.1.1.1:80: the same address as on line 1: one peer, of weight 5"]);
        let (peers, warnings) = read("server unix:/a;server unix:/a;server unix:/a weight=0;");
        assert_eq!((peers, warnings.len()), (vec!["unix:/a 2 up".to_string()], 2));
    }

    #[test]
    fn a_primary_counts_before_a_backup() {
        for body in
            ["server 1.1.1.1 weight=2; server 1.1.1.1 backup;", "server 1.1.1.1 backup; server 1.1.1.1 weight=2;"]
        {
            let (peers, warnings) = read(body);
            assert_eq!(peers, ["1.1.1.1 2 up"], "{body}");
            assert_eq!(warnings, ["b:1: server 1.1.1.1: the same address as on line 1: the primary alone counts"]);
        }
        assert_eq!(peers("server 1.1.1.2; server 1.1.1.1 backup; server 1.1.1.1 backup;")[1], "1.1.1.1 2 up backup");
    }

    #[test]
    fn a_line_that_takes_no_traffic_adds_none() {
        assert_eq!(peers("server 1.1.1.1 down weight=5; server 1.1.1.1;"), ["1.1.1.1 1 up"]);
        assert_eq!(peers("server 1.1.1.1; server 1.1.1.1 drain weight=5;"), ["1.1.1.1 1 up"]);
        assert_eq!(peers("server 1.1.1.1 down; server 1.1.1.1 backup;"), ["1.1.1.1 1 up backup"], "as in nginx");
        assert_eq!(peers("server 1.1.1.1 down; server 1.1.1.1 drain;"), ["1.1.1.1 2 down"]);
    }

    #[test]
    fn limits_of_one_address_are_added_too() {
        let max_conns = |body: &str| block("api", body.as_bytes(), "b", None).unwrap().0.peers[0].max_conns;
        assert_eq!(max_conns("server 1.1.1.1 max_conns=2; server 1.1.1.1 max_conns=3;"), 5);
        assert_eq!(max_conns("server 1.1.1.1 max_conns=2; server 1.1.1.1;"), 0, "no limit");
        assert_eq!(max_conns("server 1.1.1.1 max_conns=4294967295; server 1.1.1.1 max_conns=3;"), u32::MAX);
    }

    #[test]
    fn a_ring_has_the_points_of_one_text_once_as_nginxs_has() {
        let body = "server 1.1.1.1 weight=2; server 1.1.1.1 weight=3; hash $uri consistent;";
        assert_eq!(peers(body), ["1.1.1.1 3 up"]);
        assert_eq!(peers("hash $uri consistent; server 1.1.1.1; server 1.1.1.1:80;"), ["1.1.1.1 2 up"]);
    }

    #[test]
    fn weights_that_are_too_much_together_are_refused() {
        let body = "server 1.1.1.1 weight=65535;\nserver 1.1.1.1;";
        assert_eq!(
            block("api", body.as_bytes(), "b", None).unwrap_err().message,
            "b:2: weight: 65536 with that on line 1: allowed: an integer from 0 to 65535"
        );
    }
}
