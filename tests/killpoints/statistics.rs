//! The counting of tries, in statistics of this process alone: a dead process loses them, and nothing else.

use crate::support::tries;
use dyups::shm::sections::{Sections, title};
use dyups::shm::units::{PAGE, WORD};
use dyups::shm::{Mem, Memory};
use dyups::state::events::Standing;
use dyups::stats::ended::Ended;
use dyups::stats::place::Places;
use dyups::stats::tally::{Tally, Try};
use dyups::table::Table;
use dyups::upstream::Upstream;

/// Room for an upstream and some peers.
const BYTES: usize = 11 * PAGE;

/// A try at the first peer that ends well, and one at the second that does not; the second gets a section that was given back.
pub fn count_tries(table: &Table, subject: &Upstream) {
    let file = tempfile::tempfile().expect("room");
    file.set_len(BYTES as u64).expect("room");
    let mem = Mem::map_by_chunks(&file, BYTES, PAGE / WORD).expect("mapped");
    mem.reserve(0, PAGE / WORD).expect("room");
    let sections = Sections::over(&mem);
    sections.write_header(&title(BYTES, 1, [2, 3])).expect("inside");
    let places = Places::with(table.region(), sections).expect("there are cells");
    let mut tally = Tally::default();
    let tries = if subject.peers.is_empty() { Vec::new() } else { tries(table, &subject.name) };
    for (one, ended) in tries.into_iter().zip([
        Ended { status: 200, connect_ms: Some(0), header_ms: Some(1), response_ms: Some(2), ..Ended::default() },
        Ended { status: 502, response_ms: Some(0), ..Ended::default() },
    ]) {
        tally.add(Try { ended, ..one }, &places);
        tally.flush(&places);
        // The next peer finds no section that was never used.
        let taken: Vec<_> = std::iter::from_fn(|| sections.take(1, 99, |_, _| false).expect("inside")).collect();
        taken.last().into_iter().for_each(|&last| sections.give_back(last, 1, 99).expect("inside"));
        places.turned(one.cell, one.generation, [Standing::Up, Standing::Unavail]);
        places.turned(one.cell, one.generation, [Standing::Unavail, Standing::Up]);
        places.probed(one.cell, one.generation, true);
    }
    sections.add_uncounted(1).expect("inside");
}
