//! The points of a peer: CRC-32 of the text that identifies it, continued over the previous point.

use crc32fast::Hasher;

use crate::upstream::{Address, HashId};

/// Points on the ring for each unit of weight.
pub const POINTS_PER_WEIGHT: usize = 160;

/// Where a key lies on the ring: its CRC-32 (IEEE), as nginx and lua-resty-chash have it.
///
/// ```
/// assert_eq!(dyups::order::chash::key_hash(b"123456789"), 0xcbf4_3926);
/// ```
#[inline]
pub fn key_hash(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

/// The points of the peer at `address`: [`POINTS_PER_WEIGHT`] a unit of weight, in the order in which they follow from
/// each other. A larger weight continues the points of a smaller one.
///
/// ```
/// use dyups::upstream::HashId;
/// use dyups::order::chash::points;
/// use dyups::upstream::Address;
///
/// let address = Address::from_server("10.0.0.1:80").unwrap();
/// let of_one: Vec<u32> = points(&address, HashId::Nginx, 1).collect();
/// assert_eq!(of_one[0], crc32fast::hash(b"10.0.0.1\x0080\0\0\0\0"));
/// assert_eq!(of_one.len(), 160);
/// assert!(points(&address, HashId::Nginx, 2).take(160).eq(of_one));
/// ```
pub fn points(address: &Address, hash_id: HashId, weight: u16) -> impl Iterator<Item = u32> {
    Base::of(address, hash_id).points(weight)
}

/// The base of all points of a peer: the state of its CRC-32 before the previous point is added.
///
/// The ring needs nothing else of an address. So a caller that keeps it in place of the text can do without the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base(pub u32);

impl Base {
    /// The base of an address.
    pub fn of(address: &Address, hash_id: HashId) -> Base {
        match hash_id {
            HashId::Nginx => Base::nginx(address.server().as_bytes()),
            HashId::HostPort => Base::host_port(address.text().as_bytes()),
        }
    }

    /// For [`HashId::Nginx`]: the host, a NUL and the port of `server`, an address as written.
    ///
    /// nginx's parse. Of `unix:` (in any case) and a path, the path is the host. Else digits behind the last colon are the
    /// port. Else all of it is the host. Without a port the NUL is hashed all the same.
    pub fn nginx(server: &[u8]) -> Base {
        let (host, port) = split(server);
        let mut hasher = Hasher::new();
        hasher.update(host);
        hasher.update(&[0]);
        hasher.update(port);
        Base::continued(hasher)
    }

    /// For [`HashId::HostPort`]: `text`, mostly `host:port`, as it is.
    pub fn host_port(text: &[u8]) -> Base {
        let mut hasher = Hasher::new();
        hasher.update(text);
        Base::continued(hasher)
    }

    fn continued(hasher: Hasher) -> Base {
        // The last step of a CRC-32 inverts its state; to go on, that is taken back.
        Base(!hasher.finalize())
    }

    /// The points of a peer with this base, see [`points`]. Fastest by `for_each` or `fold`.
    #[inline]
    pub fn points(self, weight: u16) -> impl Iterator<Item = u32> {
        let mut lanes = [0; LANES];
        let mut previous = 0;
        for lane in &mut lanes {
            previous = !through(&STEP, self.0 ^ previous);
            *lane = previous;
        }
        // Point n + 4 is the same step from point n as point 4 is from 0, and steps are linear. So four points are made at
        // once, and their look-ups overlap.
        let fourth = previous;
        (0..usize::from(weight) * POINTS_PER_WEIGHT / LANES).flat_map(move |_| {
            let points = lanes;
            lanes = lanes.map(|point| through(&FOUR_STEPS, point) ^ fourth);
            points
        })
    }
}

/// Host and port as nginx's ring takes them.
fn split(server: &[u8]) -> (&[u8], &[u8]) {
    if let Some((prefix, path)) = server.split_at_checked(5)
        && prefix.eq_ignore_ascii_case(b"unix:")
    {
        return (path, b"");
    }
    let digits = server.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    match server.len().checked_sub(digits + 1) {
        Some(colon) if server[colon] == b':' => (&server[..colon], &server[colon + 1..]),
        _ => (server, b""),
    }
}

/// How many points are made side by side. Each follows from another, so one by one they would wait for their look-ups.
const LANES: usize = 4;
const _: () = assert!(POINTS_PER_WEIGHT.is_multiple_of(LANES));

/// A linear function of 32 bits, as a table for each byte.
type Linear = [[u32; 256]; 4];

/// The effect of four bytes on the state of a CRC-32, as a function of the state exclusive-or these bytes (in little-endian
/// order).
static STEP: Linear = step();

/// [`STEP`], [`LANES`] times.
static FOUR_STEPS: Linear = repeated(&step(), LANES);

#[inline]
const fn through(function: &Linear, value: u32) -> u32 {
    let [a, b, c, d] = value.to_le_bytes();
    function[0][a as usize] ^ function[1][b as usize] ^ function[2][c as usize] ^ function[3][d as usize]
}

const fn step() -> Linear {
    let mut step = [[0; 256]; 4];
    let mut at = 0;
    while at < 4 * 256 {
        let mut state = (at as u32 % 256) << (8 * (at / 256));
        let mut bit = 0;
        while bit < 32 {
            // The IEEE polynomial, lowest bit first.
            state = (state >> 1) ^ (0xedb8_8320 * (state & 1));
            bit += 1;
        }
        step[at / 256][at % 256] = state;
        at += 1;
    }
    step
}

const fn repeated(function: &Linear, times: usize) -> Linear {
    let mut result = *function;
    let mut at = 0;
    while at < 4 * 256 * (times - 1) {
        let value = &mut result[at / 256 % 4][at % 256];
        *value = through(function, *value);
        at += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By the book: CRC-32 of the identity and the previous point, from the start each time.
    fn plain(identity: &[u8], count: usize) -> Vec<u32> {
        let mut previous = 0;
        let point = |_| {
            previous = crc32fast::hash(&[identity, &u32::to_le_bytes(previous)].concat());
            previous
        };
        (0..count).map(point).collect()
    }

    fn nginx(server: &str) -> Vec<u32> {
        Base::nginx(server.as_bytes()).points(1).collect()
    }

    #[test]
    fn identities_are_nginx_s() {
        for (server, identity) in [
            ("10.0.0.1:8080", "10.0.0.1\x008080"),
            ("10.0.0.1", "10.0.0.1\0"),
            ("[::1]:80", "[::1]\x0080"),
            ("[::1]", "[::1]\0"),
            ("unix:/run/a.sock", "/run/a.sock\0"),
            ("Unix:/run/a:80", "/run/a:80\0"),
            ("unix:", "\0"),
            ("host:", "host\0"),
            (":80", "\x0080"),
            ("a:80:90", "a:80\x0090"),
            ("a:80x", "a:80x\0"),
            ("80", "80\0"),
            ("", "\0"),
        ] {
            assert_eq!(nginx(server), plain(identity.as_bytes(), 160), "{server}");
        }
    }

    #[test]
    fn an_address_is_hashed_as_its_hash_id_says() {
        let address = Address::from_server("10.0.0.1").unwrap();
        assert!(points(&address, HashId::Nginx, 2).eq(plain(b"10.0.0.1\0", 320)));
        assert!(points(&address, HashId::HostPort, 2).eq(plain(b"10.0.0.1:80", 320)));
        assert_eq!(points(&address, HashId::Nginx, 0).count(), 0);
        assert_eq!(points(&address, HashId::Nginx, u16::MAX).count(), 10_485_600);
    }

    proptest! {
        #[test]
        fn a_point_is_a_crc32(server: Vec<u8>) {
            let points: Vec<u32> = Base::host_port(&server).points(1).collect();
            prop_assert_eq!(points, plain(&server, 160));
        }
    }
}
