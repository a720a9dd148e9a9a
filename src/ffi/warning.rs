//! Warnings that the budget of retries is spent: once in ten seconds for each upstream and worker.

use super::edge::remember;
use crate::config::balance::BalanceOptions;
use crate::shm::clock::now_ms;
use std::cell::RefCell;
use std::collections::HashMap;

/// The time between two warnings of one upstream.
const PAUSE_MS: u64 = 10_000;

/// The number of upstreams that are remembered. When there are more, those that are due again are forgotten.
const MANY: usize = 1024;

thread_local! {
    /// When each upstream was last named, in milliseconds since the boot.
    static NAMED: RefCell<HashMap<Box<[u8]>, u64>> = RefCell::default();
}

/// Whether a warning about this upstream is due. If so, the warning is the message of `dyups_error`.
#[cold]
pub fn of_budget(name: &[u8], options: &BalanceOptions) -> bool {
    if !NAMED.with_borrow_mut(|named| is_due(named, name, now_ms())) {
        return false;
    }
    let (percent, floor) = (options.retry_percent, options.retry_floor);
    let name = std::str::from_utf8(name).unwrap_or("?");
    remember(&format_args!(
        "upstream {name}: too many retries: {percent} for a hundred requests of the last ten seconds, or {floor}, are spent \
         (retry_percent, retry_floor); a request whose try fails now ends with that"
    ));
    true
}

/// Whether `name` was not named within the pause. If so, names it now.
fn is_due(named: &mut HashMap<Box<[u8]>, u64>, name: &[u8], now: u64) -> bool {
    match named.get_mut(name) {
        Some(last) if now < *last + PAUSE_MS => return false,
        Some(last) => *last = now,
        None => {
            if named.len() >= MANY {
                named.retain(|_, last| now < *last + PAUSE_MS);
            }
            if named.len() < MANY {
                named.insert(name.into(), now);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_upstream_is_named_once_in_ten_seconds() {
        let mut named = HashMap::new();
        let mut due = |name: &str, now| is_due(&mut named, name.as_bytes(), now);
        assert!(due("a", 5) && due("b", 6));
        assert!(!due("a", 5) && !due("a", 10_004) && due("a", 10_005));
        assert!(!due("b", 10_005) && !due("a", 20_004) && due("a", 20_005));
    }

    #[test]
    fn names_that_are_due_again_are_forgotten() {
        let mut named = HashMap::new();
        (0..MANY as u64).for_each(|number| assert!(is_due(&mut named, &number.to_le_bytes(), number)));
        assert!(is_due(&mut named, b"one more", 10_500) && !is_due(&mut named, b"one more", 10_500));
        assert!(named.len() < MANY);
    }
}
