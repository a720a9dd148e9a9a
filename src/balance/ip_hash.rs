//! nginx's `ip_hash` (src/http/modules/ngx_http_upstream_ip_hash_module.c): the first three bytes of an IPv4 address, or all of
//! an IPv6 address, lead to a peer by weight. Where that one cannot be picked, the same bytes are hashed on.

use super::candidates::Candidates;
use super::miss::Miss;
use std::net::IpAddr;

/// Peers that it leads to before it is whose turn it is, as in nginx: the 21st that cannot be picked ends it.
const TRIES: usize = 21;

/// The bytes of a client's address that are hashed. `key`: an address as text, or as nginx's `$binary_remote_addr` has it; of anything
/// else all bytes count.
fn hashed(key: &[u8]) -> ([u8; 16], usize) {
    let mut bytes = [0; 16];
    // Four bytes may be a short text as well, `::12`. But callers that pass text have longer ones.
    let text = if key.len() == 4 { None } else { std::str::from_utf8(key).ok() };
    let parsed = text.and_then(|text| text.parse().ok());
    let len = match (parsed, key.len()) {
        (Some(IpAddr::V4(address)), _) => put(&mut bytes, &address.octets()[..3]),
        (Some(IpAddr::V6(address)), _) => put(&mut bytes, &address.octets()),
        (None, 4) => put(&mut bytes, &key[..3]),
        (None, 16) => put(&mut bytes, key),
        // As nginx has it of a client without an address.
        (None, _) if key == b"unix:" => put(&mut bytes, &[0; 3]),
        (None, _) => put(&mut bytes, &crc32fast::hash(key).to_be_bytes()),
    };
    (bytes, len)
}

fn put(bytes: &mut [u8; 16], from: &[u8]) -> usize {
    bytes[..from.len()].copy_from_slice(from);
    from.len()
}

/// Picks for `key`; after many that cannot be picked, the one whose turn is `count`.
///
/// # Errors
///
/// - [`Miss::Changing`]: other workers have become the trials of too many peers meanwhile.
/// - [`Miss::Damaged`]: the version or a cell makes no sense.
pub fn pick(among: &impl Candidates, key: &[u8], count: u64) -> Result<Option<u32>, Miss> {
    let (bytes, len) = hashed(key);
    match look(among, &bytes[..len], TRIES)? {
        None => among.take_in_turn(count),
        some => Ok(some),
    }
}

/// The first peer that can be taken of those to which `bytes` lead.
fn look(among: &impl Candidates, bytes: &[u8], tries: usize) -> Result<Option<u32>, Miss> {
    let total = among.weight_of_all()?;
    let mut hash = 89;
    for _ in 0..if total == 0 { 0 } else { tries } {
        hash = bytes.iter().fold(hash, |hash, &byte| (hash * 113 + u64::from(byte)) % 6271);
        if let Some(index) = among.peer_of_unit(hash % total)?
            && among.take(index)?
        {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{Fake, Nginx, fakes, is_right, without_losses};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_nginx(fake in without_losses(), addresses in prop::collection::vec(any::<[u8; 4]>(), 1..30), count: u64) {
            let mut nginx = Nginx::of(&fake);
            for address in addresses {
                let (mine, its) = (pick(&fake, &address, count).expect("sound"), nginx.ip_hash(&address[..3]));
                prop_assert!(is_right(&fake, mine), "{mine:?}");
                match its {
                    Some(_) => prop_assert_eq!(mine, its),
                    // Its round robin, which is one of its own; here it is whose turn it is.
                    None => {
                        prop_assert_eq!(mine.is_some(), nginx.round_robin().is_some());
                        prop_assert_eq!(mine, fake.take_in_turn(count).expect("sound"));
                    }
                }
            }
        }

        #[test]
        fn is_nginx_with_ipv6(fake in without_losses(), address: [u8; 16]) {
            if let Some(its) = Nginx::of(&fake).ip_hash(&address) {
                prop_assert_eq!(pick(&fake, &address, 0), Ok(Some(its)));
                let text = std::net::Ipv6Addr::from(address).to_string();
                prop_assert_eq!(pick(&fake, text.as_bytes(), 0), Ok(Some(its)));
            }
        }

        #[test]
        fn whoever_can_be_taken_is(fake in fakes(), address: [u8; 4], count: u64) {
            let picked = pick(&fake, &address, count).expect("sound");
            prop_assert!(is_right(&fake, picked), "{picked:?} of {fake:?}");
        }
    }

    #[test]
    fn the_last_look_of_nginx_is_the_last_here() {
        // One of 200 fits: where the bytes lead to it late, nginx's last look finds it, or none does.
        let fake = Fake::of_weights([1; 200]);
        fake.members.iter().for_each(|member| member.fits.set(false));
        let mut late = 0;
        for at in 0..200 {
            fake.members[at].fits.set(true);
            for third in 0..=255 {
                let address = [192, 0, third, 1];
                fake.claimed.borrow_mut().clear();
                let its = Nginx::of(&fake).ip_hash(&address[..3]);
                let mine = (0..TRIES).find(|&tries| within(&fake, &address, tries + 1) == Some(at as u32));
                assert_eq!(its.is_some(), mine.is_some(), "{at} {address:?}");
                late += u32::from(mine == Some(TRIES - 1));
            }
            fake.members[at].fits.set(false);
        }
        assert!(late > 0, "nobody was found by the last look");
    }

    /// The peer that the first `tries` looks find.
    fn within(fake: &Fake, key: &[u8], tries: usize) -> Option<u32> {
        let (bytes, len) = hashed(key);
        look(fake, &bytes[..len], tries).expect("sound")
    }

    #[test]
    fn of_nobody_there_is_nobody() {
        assert_eq!(pick(&Fake::of_weights([]), b"10.0.0.1", 3), Ok(None));
        assert_eq!(pick(&Fake::of_weights([1]), b"", 3), Ok(Some(0)));
    }

    #[test]
    fn an_address_is_the_same_as_text_and_in_binary() {
        assert_eq!(hashed(b"10.1.2.3"), hashed(&[10, 1, 2, 99]), "of IPv4 three bytes count");
        let six: std::net::Ipv6Addr = "2001:db8::1:2:33".parse().expect("an address");
        assert_eq!("2001:db8::1:2:33".len(), 16, "as long as one in binary");
        assert_eq!(hashed(b"2001:db8::1:2:33"), hashed(&six.octets()));
        assert_ne!(hashed(b"a user"), hashed(b"another user"));
    }
}
