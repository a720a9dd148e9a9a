//! A region that another process spoils without a pause, while this one uses it.

use crate::children::{fork, wait};
use crate::inherited::become_worker;
use crate::region::Bench;
use crate::support::Random;
use dyups::shm::{Mem, Memory};
use std::time::Duration;

/// How long.
const TIME: Duration = Duration::from_secs(4);
/// How long the other process rests after each word: else there is not one right word to be read.
const REST: Duration = Duration::from_micros(50);

/// Bounded calls, no crash; and when it stops, a repair makes a table of it.
pub fn a_region_that_is_spoiled_while_it_is_used_is_survived() {
    let bench = Bench::new();
    let mem = bench.mem();
    let spoiler = fork(|| {
        become_worker(&[]);
        spoil(mem);
    });
    let acts = bench.act_for(TIME);
    // SAFETY: a signal to our own child, which has not been waited for.
    unsafe { libc::kill(spoiler, libc::SIGKILL) };
    assert!(libc::WIFSIGNALED(wait(spoiler)), "it ended by itself");
    println!("{acts} calls");
    bench.finish();
}

/// Stores for ever: any word, a word from elsewhere, or the word that is there with another bit. Mostly it stores into the
/// table.
fn spoil(mem: &Mem) {
    let mut random = Random(0);
    let words = mem.words() as u64;
    let mut any = move |end: u64| random.below(end);
    loop {
        // No process that has the region mapped finds the first words again.
        let among = if any(4) == 0 { words - 8 } else { words / 4 };
        let word = 8 + any(among) as usize;
        let old = mem.load(word).expect("inside");
        let new = match any(5) {
            0 => any(u64::MAX),
            1 => any(70),
            2 => mem.load(any(words) as usize).expect("inside"),
            _ => old ^ 1 << any(64),
        };
        mem.store(word, new).expect("inside");
        std::thread::sleep(REST);
    }
}
