//! Versions of one upstream whose peers say which version they are of, so that no mixture of two passes for either.

use super::support::peer;
use dyups::upstream::{Method, Upstream};

/// The upstream.
pub const NAME: &str = "api";
/// Peers of a version.
const PEERS: u64 = 3;

/// Version `number`. The texts of even ones stand in the peer's own words, those of odd ones behind them.
pub fn version(number: u64) -> Upstream {
    let peers = (0..PEERS).map(|index| peer(&server(number, index), 1)).collect();
    Upstream { name: NAME.to_owned(), method: Some(Method::Chash), peers, ..Upstream::default() }
}

fn server(number: u64, index: u64) -> String {
    let port = 1024 + (number * PEERS + index).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 50_000;
    let [.., high, middle, low] = number.to_be_bytes();
    match number % 2 {
        0 => format!("10.{high}.{middle}.{low}:{port}"),
        _ => format!("unix:/run/version/{number:08}/peer/{index}/{port:05}.sock"),
    }
}

/// Of which version a peer is; `None`: of none.
pub fn version_of(text: &str) -> Option<u64> {
    let number = match text.strip_prefix("unix:/run/version/") {
        Some(rest) => rest.split('/').next()?.parse().ok()?,
        None => {
            let mut bytes = text.split(':').next()?.split('.').map(str::parse::<u64>);
            bytes.try_fold(0, |number, byte| Some(number << 8 | byte.ok()?))? & 0xff_ffff
        }
    };
    (0..PEERS).any(|index| server(number, index) == text).then_some(number)
}
