//! Readers beside a writer that publishes new versions and recycles the old ones at once.

use crate::explore::{Seen, explore};
use crate::memory::{Shared, Sheet, Words, geometry};
use crate::table::{change, list, pick, pick_by, put, put_with_ring, version};
use dyups::balance::pick::Handle;
use dyups::shm::layout::Geometry;
use dyups::shm::{GRANULE_WORDS, Memory, Stamp, versioned};
use dyups::table::record::stamp_at;
use loom::thread;

/// Room for two versions of an upstream: the third one takes the block of the first. A ring of 160 points takes 14 granules.
const TWO_VERSIONS: usize = 2 * 5;
const TWO_RINGS: usize = 2 * 14;

/// A reader beside a writer that makes two more versions of an upstream.
fn beside_changes(
    name: &'static str,
    preemptions: usize,
    sights: &[&str],
    read: impl Fn(&Words, &Geometry, &Seen) + Send + Sync + 'static,
) {
    let geometry = geometry(0, 1, TWO_VERSIONS);
    let sheet = Sheet::new(&geometry);
    put(&sheet, &geometry, &version("a", 1));
    fn write<M: Memory>(mem: &M, geometry: &Geometry) {
        put(mem, geometry, &version("a", 2));
        put(mem, geometry, &version("a", 3));
    }
    let image = sheet.before(|sheet| {
        write(sheet, &geometry);
        pick(sheet, &geometry, &mut Handle::new(b"a"));
    });
    explore(name, preemptions, sights, move |seen| {
        let shared = Shared::holding(&image);
        let writer = {
            let mem = shared.writer();
            thread::spawn(move || write(&mem, &geometry))
        };
        read(&shared.reader(), &geometry, seen);
        writer.join().expect("content");
    });
}

#[test]
fn a_pick_beside_changes_is_of_one_version() {
    beside_changes("pick", 3, &["Some(1)", "Some(2)", "Some(3)"], |mem, geometry, seen| {
        seen.note(pick(mem, geometry, &mut Handle::new(b"a")));
    });
}

#[test]
fn a_pick_by_chash_beside_changes_is_of_one_version() {
    let geometry = geometry(0, 1, TWO_VERSIONS + TWO_RINGS);
    let sheet = Sheet::new(&geometry);
    put_with_ring(&sheet, &geometry, &version("a", 1));
    fn write<M: Memory>(mem: &M, geometry: &Geometry) {
        (2..=3).for_each(|number| put_with_ring(mem, geometry, &version("a", number)));
    }
    fn read<M: Memory>(mem: &M, geometry: &Geometry, handle: &mut Handle) -> Option<u16> {
        pick_by(mem, geometry, handle, Some(b"key"))
    }
    let image = sheet.before(|sheet| {
        write(sheet, &geometry);
        read(sheet, &geometry, &mut Handle::new(b"a"));
    });
    explore("pick by chash", 2, &["Some(1)", "Some(2)", "Some(3)"], move |seen| {
        let shared = Shared::holding(&image);
        let (mem, writer) = (shared.reader(), shared.writer());
        let mut handle = Handle::new(b"a");
        assert_eq!(read(&mem, &geometry, &mut handle), Some(1));
        let writer = thread::spawn(move || write(&writer, &geometry));
        seen.note(read(&mem, &geometry, &mut handle));
        writer.join().expect("content");
    });
}

/// Where there is no room, a version goes through the spare, and over the old one in the same change.
#[test]
fn a_pick_beside_a_change_in_a_full_region_is_of_one_version() {
    const GRANULES_A_VERSION: usize = TWO_VERSIONS / 2;
    let geometry = geometry(0, 1, 64 * GRANULES_A_VERSION);
    let sheet = Sheet::new(&geometry);
    put(&sheet, &geometry, &version("a", 1));
    // All behind it is taken.
    let room = geometry.granules - geometry.spare_end() - GRANULES_A_VERSION;
    change(&sheet, &geometry).allocate(&vec![0; room * GRANULE_WORDS]).expect("room");
    assert!(change(&sheet, &geometry).allocate(&[0]).is_err(), "full");
    let image = sheet.before(|sheet| {
        put(sheet, &geometry, &version("a", 2));
        pick(sheet, &geometry, &mut Handle::new(b"a"));
    });
    explore("pick, full region", 2, &["Some(1)", "Some(2)"], move |seen| {
        let shared = Shared::holding(&image);
        let (reader, writer) = (shared.reader(), shared.writer());
        let writer = thread::spawn(move || put(&writer, &geometry, &version("a", 2)));
        seen.note(pick(&reader, &geometry, &mut Handle::new(b"a")));
        writer.join().expect("content");
    });
}

#[test]
fn a_listing_beside_changes_is_of_one_version() {
    beside_changes("list", 2, &["1", "2", "3"], |mem, geometry, seen| {
        let [(_, number)] = list(mem, geometry)[..] else { panic!("one upstream") };
        seen.note(number);
    });
}

/// The promise of a publish by itself: the block of the old stamp may be written again right away, in the same change.
#[test]
fn a_block_recycled_within_one_change_is_read_as_one_version() {
    const WORDS: usize = 3;
    fn write<M: Memory>(mem: &M, geometry: &Geometry) {
        let change = change(mem, geometry);
        let mut stamp = Stamp::default();
        change.begin().expect("inside");
        for number in 1..=3 {
            let block = change.allocate(&[number; WORDS]).expect("room");
            let next = stamp.next(block).expect("generations");
            mem.publish(stamp_at(geometry, 0), next.0).expect("inside");
            if stamp.block() != 0 {
                change.free(stamp.block(), WORDS).expect("taken");
            }
            stamp = next;
        }
        change.end().expect("inside");
    }
    let geometry = geometry(0, 1, 2);
    let image = Sheet::new(&geometry).before(|sheet| write(sheet, &geometry));
    explore("recycle", 4, &["0", "1", "2", "3"], move |seen| {
        let shared = Shared::holding(&image);
        let writer = {
            let mem = shared.writer();
            thread::spawn(move || write(&mem, &geometry))
        };
        let mem = shared.reader();
        let copy = |stamp: Stamp| {
            let mut words = [0; WORDS];
            if stamp.block() != 0 {
                mem.load_all(stamp.word(), &mut words)?;
            }
            Ok(words)
        };
        let (words, stamp) =
            versioned::read(&mem, stamp_at(&geometry, 0), copy).expect("three changes are not too many");
        assert_eq!(words, [stamp.generation(); WORDS]);
        seen.note(stamp.generation());
        writer.join().expect("content");
    });
}
