//! A spoiled worker against its master and the other workers: another user, with the mapping and the lock file that it has
//! inherited. It may spoil the table and hold up changes. No process crashes, and none waits without bound.

use crate::children::{self, Worker, hostile};
use crate::inherited::{descriptors, lock_file};
use crate::support::{
    SMALL, SOON, Scratch, is_root, locks, mount_for_this_thread, open, patch, region_file, take_all, text, upstream,
};
use dyups::balance::pick::{Ask, Handle, Picked};
use dyups::error::{Code, Result};
use dyups::shm::layout::{LAYOUT, SLOTS};
use dyups::shm::lock::{CREATION, FIRST_SLOT, WRITER, first_byte};
use dyups::table::Table;
use dyups::table::ops::Absent;
use std::io::Error;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a change waits for its turn here.
const WAIT: Duration = Duration::from_millis(100);
/// The part of a second that the tests allow for a call that waits as long.
const IN_TIME: Duration = Duration::from_secs(1);

/// A master, as far as it is one: it has mapped the region and made a table, in a directory that is its own.
struct Master {
    table: Table,
    scratch: Scratch,
    /// Of `api`, opened before anything happens.
    handle: Handle,
}

impl Master {
    fn new() -> Master {
        let scratch = Scratch::new();
        Master::within(scratch)
    }

    fn within(scratch: Scratch) -> Master {
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o700)).expect("ours");
        let (table, notes) = open(&scratch.file("region"), SMALL).expect("a new region");
        assert_eq!(notes, Vec::<String>::new());
        table.set_upstream(&upstream("api", &["10.0.0.1:80", "10.0.0.2:80"]), SOON).expect("room");
        table.set_upstream(&upstream("other", &["10.0.0.3:80"]), SOON).expect("room");
        let mut master = Master { table, scratch, handle: Handle::new(b"api") };
        assert!(master.find().is_ok());
        master
    }

    /// The name that users give the region.
    fn base(&self) -> PathBuf {
        self.scratch.file("region")
    }

    /// Its file.
    fn path(&self) -> PathBuf {
        region_file(&self.base())
    }

    fn find(&mut self) -> Result<String, dyups::balance::miss::Miss> {
        find(&self.table, &mut self.handle)
    }

    /// An honest worker: `find` and `put`.
    fn worker(&self) -> Worker {
        let mut handle = Handle::new(b"api");
        let mut number = 0;
        Worker::start(move |order| match order {
            "find" => format!("{:?}", find(&self.table, &mut handle)),
            "put" => {
                number += 1;
                format!("{:?}", put(&self.table, number).map_err(|error| error.message))
            }
            _ => panic!("{order}"),
        })
    }

    /// Picks and changes, here and in another worker.
    fn all_goes_on(&mut self, other: &mut Worker) {
        assert!(self.find().is_ok_and(|text| text.starts_with("10.0.0.")));
        assert!(other.ask("find").starts_with("Ok(\"10.0.0."));
        assert_eq!(put(&self.table, 200), Ok(()));
        assert_eq!(other.ask("put"), "Ok(())");
        assert_eq!(self.table.upstream("other").map(|stored| stored.upstream.peers.len()), Ok(1));
    }
}

fn find(table: &Table, handle: &mut Handle) -> Result<String, dyups::balance::miss::Miss> {
    let mut picked = Picked::default();
    handle.pick(table, Ask::default(), false, &mut picked)?;
    Ok(String::from_utf8_lossy(&picked.text[..picked.len as usize]).into_owned())
}

fn put(table: &Table, number: u8) -> Result<()> {
    table.put_peer("api", &patch(&format!("10.0.0.{number}:80"), 1), Absent::Make, WAIT)
}

/// `ok`, or the name of the error.
fn outcome(result: i64) -> String {
    match result {
        0.. => "ok".into(),
        _ => format!("{:?}", Error::last_os_error().raw_os_error()),
    }
}

/// Locks bytes of the lock file: with the process as the owner, or the description of the file that it shares with all.
fn lock(command: i32, first: u32, count: u32) -> String {
    let lock = locks::write_lock(first, count);
    // SAFETY: an open descriptor and an initialised struct.
    outcome(unsafe { libc::fcntl(lock_file(), command, &lock) }.into())
}

/// First byte of the mapping and its size in bytes.
fn mapping(path: &Path) -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let line = maps.lines().find(|line| line.ends_with(&path.display().to_string())).expect("mapped");
    let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
    let [from, to] = [from, to].map(|address| usize::from_str_radix(address, 16).expect("hex"));
    (from, to - from)
}

pub fn a_worker_has_the_mapping_and_the_lock_file_and_nothing_else() {
    let master = Master::new();
    let (_worker, said) = hostile(|| {
        let paths = descriptors().into_iter().filter_map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok());
        let files = paths.filter(|path| path.starts_with(master.scratch.path()));
        files.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    });
    assert_eq!(said, "region.lock");
}

pub fn a_worker_cannot_reach_the_file_of_the_region() {
    if !is_root("a_worker_cannot_reach_the_file_of_the_region") {
        return;
    }
    let mut master = Master::new();
    let mut other = master.worker();
    let (path, lock) = (text(&master.path()), text(&master.scratch.file("region.lock")));
    let (new, own) = (text(&master.scratch.file("new")), text(&std::env::temp_dir().join("dyups-own")));
    let (address, size) = mapping(&master.path());
    let before = std::fs::metadata(master.path()).expect("there");
    let parent = std::process::id();
    let (_worker, said) = hostile(|| {
        let range = format!("{address:x}-{:x}", address + size);
        let proc = |rest: String| text(Path::new(&rest));
        let fd = lock_file();
        // SAFETY: system calls on NUL-terminated paths and on an open descriptor; they touch no memory of this process.
        let tries = unsafe {
            [
                ("open", libc::open(path.as_ptr(), libc::O_RDWR)),
                ("read", libc::open(path.as_ptr(), libc::O_RDONLY)),
                ("truncate", libc::truncate(path.as_ptr(), 0)),
                ("unlink", libc::unlink(path.as_ptr())),
                ("rename", libc::rename(path.as_ptr(), new.as_ptr())),
                ("link", libc::link(path.as_ptr(), own.as_ptr())),
                ("chmod", libc::chmod(path.as_ptr(), 0o666)),
                ("replace", libc::symlink(own.as_ptr(), new.as_ptr())),
                ("unlink the lock", libc::unlink(lock.as_ptr())),
                ("open the lock", libc::open(lock.as_ptr(), libc::O_RDWR)),
                ("open the lock again", libc::open(proc(format!("/proc/self/fd/{fd}")).as_ptr(), libc::O_RDWR)),
                ("chmod the lock", libc::fchmod(fd, 0o666)),
                ("chown the lock", libc::fchown(fd, libc::getuid(), libc::getgid())),
                ("map_files", libc::open(proc(format!("/proc/self/map_files/{range}")).as_ptr(), libc::O_RDWR)),
                ("the master's", libc::open(proc(format!("/proc/{parent}/map_files/{range}")).as_ptr(), libc::O_RDWR)),
                ("its memory", libc::open(proc(format!("/proc/{parent}/mem")).as_ptr(), libc::O_RDWR)),
                ("its descriptors", libc::open(proc(format!("/proc/{parent}/fd/{fd}")).as_ptr(), libc::O_RDWR)),
                ("a signal", libc::kill(parent as i32, libc::SIGTERM)),
            ]
        };
        let done = tries.into_iter().filter(|&(_, result)| result >= 0).map(|(what, _)| what);
        done.collect::<Vec<_>>().join(", ")
    });
    assert_eq!(said, "", "a worker could do that");
    let after = std::fs::metadata(master.path()).expect("there");
    let identity = |meta: &std::fs::Metadata| (meta.ino(), meta.len(), meta.mode(), meta.uid(), meta.nlink());
    assert_eq!(identity(&after), identity(&before));
    assert_eq!(master.table.region().lost(), None);
    master.all_goes_on(&mut other);
}

pub fn what_a_worker_does_to_its_own_mapping_is_its_own_affair() {
    let mut master = Master::new();
    let mut other = master.worker();
    let (address, size) = mapping(&master.path());
    let (_worker, said) = hostile(|| {
        let at = address as *mut libc::c_void;
        // SAFETY: this process does not use the mapping any more. The memory that it writes to is mapped by then.
        let results = unsafe {
            let grown = libc::mremap(at, size, 2 * size, libc::MREMAP_MAYMOVE);
            let again = libc::mremap(grown, 0, size, libc::MREMAP_MAYMOVE);
            [
                grown as i64,
                again as i64,
                libc::madvise(again, size, libc::MADV_DONTNEED).into(),
                libc::mprotect(again, size, libc::PROT_NONE).into(),
                libc::munmap(again, size).into(),
                libc::munmap(grown, 2 * size).into(),
            ]
        };
        results.map(outcome).join(" ")
    });
    assert_eq!(said, "ok ok ok ok ok ok");
    master.all_goes_on(&mut other);
}

pub fn the_writer_lock_in_a_worker_s_hands_is_a_bounded_busy_that_names_it() {
    let mut master = Master::new();
    let mut other = master.worker();
    let (worker, said) = hostile(|| lock(libc::F_SETLK, WRITER, 1));
    assert_eq!(said, "ok");
    let busy = format!("busy, held by pid {}", worker.pid());
    let begun = Instant::now();
    let error = put(&master.table, 9).expect_err("held");
    assert_eq!((error.code, &*error.message), (Code::Busy, &*busy));
    assert_eq!(other.ask("put"), format!("Err({busy:?})"));
    assert!(begun.elapsed() < 2 * WAIT + IN_TIME, "{:?}", begun.elapsed());
    assert!(master.find().is_ok() && other.ask("find").starts_with("Ok"), "readers do not notice");
    drop(worker);
    master.all_goes_on(&mut other);
}

pub fn the_creation_lock_in_a_worker_s_hands_is_a_bounded_busy_that_names_it() {
    let master = Master::new();
    let (worker, said) = hostile(|| lock(libc::F_SETLK, CREATION, 1));
    assert_eq!(said, "ok");
    assert_eq!(next_start(&master), format!("{}: busy, held by pid {}", master.base().display(), worker.pid()));
    drop(worker);
    assert_eq!(next_start(&master), "");
}

/// The message of the next nginx when it opens the region.
fn next_start(master: &Master) -> String {
    let base = master.base();
    children::said_by(|| open(&base, SMALL).map_or_else(|error| error.to_string(), |(_, notes)| notes.join("; ")))
}

pub fn slots_in_a_worker_s_hands_are_all_taken_until_it_ends() {
    let mut master = Master::new();
    let mut other = master.worker();
    let (worker, said) = hostile(|| lock(libc::F_SETLK, FIRST_SLOT, SLOTS as u32));
    assert_eq!(said, "ok");
    let error = master.table.region().claim_slot().expect_err("taken");
    assert!(error.message.starts_with("all 512 worker slots are taken"), "{error}");
    let workers = master.table.region().workers(None).expect("readable");
    assert_eq!(workers, [], "none of them says since when it lives");
    drop(worker);
    assert_eq!(master.table.region().claim_slot(), Ok(0));
    master.all_goes_on(&mut other);
}

/// A lock of the open file, which all processes share, and not of a process: it outlives the one that took it.
pub fn a_lock_that_outlives_the_worker_that_took_it_is_taken_back() {
    let mut master = Master::new();
    let mut other = master.worker();
    for first in [CREATION, WRITER, FIRST_SLOT, first_byte(LAYOUT + 1)] {
        let (worker, said) = hostile(|| lock(libc::F_OFD_SETLK, first, 1));
        assert_eq!(said, "ok");
        drop(worker);
        master.all_goes_on(&mut other);
        assert_eq!(next_start(&master), "");
    }
    assert_eq!(master.table.region().claim_slot(), Ok(0));
}

pub fn a_lock_file_that_a_worker_cuts_or_fills_locks_as_before() {
    let mut master = Master::new();
    let mut other = master.worker();
    for size in [0, 64 << 10, 1 << 40, 1] {
        let (_worker, said) = hostile(|| {
            // SAFETY: an open descriptor and numbers.
            let cut = unsafe { libc::ftruncate(lock_file(), size) };
            // SAFETY: as above; the bytes are a literal's.
            let written = unsafe { libc::pwrite(lock_file(), c"spoiled".as_ptr().cast(), 7, size / 2) };
            format!("{} {}", outcome(cut.into()), outcome(written as i64))
        });
        assert_eq!(said, "ok ok");
        master.all_goes_on(&mut other);
        let held = master.table.writer(SOON).expect("free");
        assert!(other.ask("put").contains(&format!("busy, held by pid {}", std::process::id())));
        drop(held);
        assert_eq!(next_start(&master), "");
    }
}

/// Has a worker take pages out of the file: a process that reads them finds zeros.
fn punch(address: usize, size: usize) {
    let (_worker, said) = hostile(|| {
        // SAFETY: changes the content of the mapping, to which this process holds no reference.
        outcome(unsafe { libc::madvise(address as *mut libc::c_void, size, libc::MADV_REMOVE) }.into())
    });
    assert_eq!(said, "ok");
}

/// Whether it is an error, the number of peers that were there, or nothing.
fn is_an_answer(answer: &Result<Option<usize>, Code>) -> bool {
    matches!(answer, Ok(None | Some(1)) | Err(Code::NotFound | Code::Damaged | Code::Changing))
}

pub fn holes_are_errors_or_nothing_and_a_repair_makes_a_table_of_them() {
    const PAGE: usize = 4096;
    for (from, pages) in [(0, 64), (0, 1), (1, 8), (9, 1), (10, 2), (12, 1), (13, 1), (12, 52), (40, 24)] {
        let mut master = Master::new();
        let mut other = master.worker();
        let (address, _) = mapping(&master.path());
        let table = &master.table;
        punch(address + from * PAGE, pages * PAGE);
        let found = find(table, &mut master.handle);
        assert!(found.as_ref().map_or(true, |text| text.starts_with("10.0.0.")), "{found:?}");
        let _ = find(table, &mut Handle::new(b"other"));
        let peers = table.get("other").map(|stored| stored.map(|stored| stored.upstream.peers.len()));
        assert!(is_an_answer(&peers.map_err(|error| error.code)), "{from} {pages}");
        assert!(other.ask("find").len() > 1, "it lives");
        let _ = (table.all(), table.names(), dyups::status::json(table, None, None));
        let changed = (put(table, 7).map_err(|error| error.code), other.ask("put"));
        assert!(matches!(changed.0, Ok(()) | Err(Code::Damaged | Code::Changing | Code::Full)), "{changed:?}");
        let writer = table.writer(SOON).expect("free");
        table.repair(&writer).expect("a table");
        drop(writer);
        for name in ["api", "other"] {
            table.set_upstream(&upstream(name, &["10.0.0.3:80"]), SOON).expect("usable");
        }
        master.all_goes_on(&mut other);
        crate::support::assert_no_leak_of_heap(&master.table);
    }
}

pub fn holes_in_a_full_file_system_kill_nobody() {
    let scratch = Scratch::new();
    if !mount_for_this_thread("holes_in_a_full_file_system_kill_nobody", scratch.path(), "1m") {
        return;
    }
    let mut master = Master::within(scratch);
    let mut other = master.worker();
    let (address, size) = mapping(&master.path());
    punch(address, size);
    take_all(&master.scratch.file("ballast"));
    let found = master.find();
    assert!(found.is_err(), "{found:?}");
    assert!(other.ask("find").starts_with("Err"));
    let error = put(&master.table, 7).expect_err("nothing can be written");
    assert!(matches!(error.code, Code::Full | Code::Damaged), "{error}");
    assert!(other.ask("put").starts_with("Err"));
}
