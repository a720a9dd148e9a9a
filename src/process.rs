//! The state of one process: the table, mapped once, and its worker slot.
//!
//! Both live in statics of the library, which is never unloaded. So they outlast any Lua VM: nginx makes a new one at each
//! reload. No pid is kept across a fork by accident: the slot names its process.

use crate::config::setup::Setup;
use crate::error::{Code, Error, Result};
use crate::health::{self, certificate};
use crate::shm::file;
use crate::shm::lock::LockFile;
use crate::shm::region::lock_of;
use crate::source;
use crate::table::change_log;
use crate::table::store::Table;
use crate::version::NginxVersion;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

static TABLE: OnceCell<Table> = OnceCell::new();

/// The slot and the process that claimed it.
static SLOT: Mutex<Option<(u32, u32)>> = Mutex::new(None);

/// The slot again, for the request path: a worker has one from its start on, and is never forked from another that has. -1: none.
static COUNTING: AtomicI32 = AtomicI32::new(-1);

/// Where the look for idle peers goes on.
static NEXT_IDLE: AtomicUsize = AtomicUsize::new(0);

/// The version of the nginx around this process, as nginx's number. 0: not known.
static NGINX_VERSION: AtomicU32 = AtomicU32::new(0);

/// Why the last `setup` did not map a region.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// The lock files that this process has ever used. None is closed. This process may have another copy of this library, loaded
/// from another path: a close would free the locks of that copy.
static LOCK_FILES: Mutex<Vec<Arc<LockFile>>> = Mutex::new(Vec::new());

/// The names that the HTTP interface may be called by.
static ADMIN_HOSTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How long `setup` waits for another writer. It runs before the event loop, so it may.
const SETUP_WAIT: Duration = Duration::from_secs(2);

/// The version of the nginx around this process, as `setup` was told it; `None` outside of nginx.
pub fn nginx_version() -> Option<NginxVersion> {
    NginxVersion::from_number(NGINX_VERSION.load(Ordering::Relaxed))
}

/// The table of this process, if it has one.
#[inline(always)]
pub fn attached() -> Option<&'static Table> {
    TABLE.get()
}

/// The names that the HTTP interface may be called by, in lower case, as the last `setup` said.
pub fn admin_hosts() -> Vec<String> {
    ADMIN_HOSTS.lock().clone()
}

/// The table of this process.
///
/// # Errors
///
/// [`Code::NotSetUp`]: no `setup` of this process has mapped a region.
pub fn table() -> Result<&'static Table> {
    attached().ok_or_else(not_set_up)
}

/// The name of an upstream that is there, or that may be made: see [`Table::name`].
///
/// # Errors
///
/// [`Code::Invalid`]: there is none of this name, and none may be made.
pub fn name(name: &[u8]) -> Result<&str> {
    attached().map_or_else(|| crate::upstream::name::check(name), |table| table.name(name))
}

/// With the reason where there is one: at nginx's first start, setup's own error went to stderr.
fn not_set_up() -> Error {
    let failure = FAILURE.lock();
    let reason = failure.as_deref().unwrap_or("it was not called: call it in init_by_lua");
    Error::new(Code::NotSetUp, format!("dyups.setup has not succeeded in this process: {reason}"))
}

/// Maps the region, or keeps the one that is mapped, loads the files, and has all upstreams follow the default of
/// `healthcheck`. Messages for the operator go to `notes`.
///
/// # Errors
///
/// - [`Code::Invalid`]: the size of the region, the content of a file, or a setting of an upstream is not allowed.
/// - [`Code::System`]: a file cannot be read, may not be used, or the operating system refuses.
/// - [`Code::Full`]: there is no room in the file system or in the region.
/// - [`Code::Busy`]: another process is writing, or makes the region.
/// - [`Code::Changing`], [`Code::Damaged`]: the table cannot be read.
pub fn setup(conf: &Setup, notes: &mut Vec<String>) -> Result<()> {
    if let Some(version) = conf.nginx_version {
        NGINX_VERSION.store(version.number(), Ordering::Relaxed);
    }
    let table = match TABLE.get() {
        Some(table) => {
            notes.extend(table.region().still_fits(&conf.path(), conf.size()));
            table
        }
        None => TABLE
            .get_or_try_init(|| attach(conf, notes))
            .inspect_err(|error| *FAILURE.lock() = Some(error.to_string()))?,
    };
    ADMIN_HOSTS.lock().clone_from(&conf.admin_hosts);
    let read = |files| source::file::read_all(files, conf.nginx_version, notes);
    let files = conf.files.as_deref().map(read).transpose()?;
    certificate::keep_for(conf.healthcheck.as_ref(), "setup.healthcheck")?;
    for upstream in files.iter().flat_map(|files| &files.upstreams) {
        certificate::keep_for(upstream.check.as_ref(), &format!("upstream {}: healthcheck", upstream.name))?;
    }
    table.set_default_check(conf.healthcheck.clone());
    if let Some(files) = files {
        let loaded = table.load_with_routes(&files.upstreams, &files.routes, conf.overwrite, SETUP_WAIT);
        change_log::came_from(|change| {
            let file_of = if change.route.is_some() { &files.file_of_route } else { &files.file_of };
            match file_of.get(&change.upstream) {
                Some(path) => format!("file {}", path.display()),
                None => "the files, which no longer have it".to_string(),
            }
        });
        unless_superseded(loaded, "files are not loaded", notes)?;
        notes.extend(lost_targets(table)?);
    }
    unless_superseded(table.spread_default_check(SETUP_WAIT), "the default of healthcheck is not set", notes)
}

/// The routes that are mentioned one by one.
const MOST_MENTIONED: usize = 16;

/// Messages about routes whose upstreams are gone: files may take an upstream away that a route names.
fn lost_targets(table: &Table) -> Result<Vec<String>> {
    let lost = table.lost_targets()?;
    let line = |(host, upstream): &(String, String)| format!("route {host}: upstream {upstream} is not there");
    let rest = lost.len().saturating_sub(MOST_MENTIONED);
    let more = (rest > 0).then(|| format!("{rest} more upstreams that routes name are not there"));
    Ok(lost.iter().take(MOST_MENTIONED).map(line).chain(more).collect())
}

/// An old nginx starts and reloads. Otherwise there would be no way back to it.
fn unless_superseded(done: Result<()>, what: &str, notes: &mut Vec<String>) -> Result<()> {
    match done {
        Err(error) if error.code == Code::Superseded => notes.push(format!("{what}: {error}")),
        done => done?,
    }
    Ok(())
}

fn attach(conf: &Setup, notes: &mut Vec<String>) -> Result<Table> {
    if let Some(directory) = conf.own_directory() {
        notes.extend(file::private_directory(&directory)?);
    }
    let path = conf.path();
    keep_open(LockFile::open(&lock_of(&path))?);
    let (mut table, mut opened) = Table::open(&path, conf.size())?;
    notes.append(&mut opened);
    if let Some(bytes) = conf.statistics
        && let Err(error) = table.keep_statistics(bytes)
    {
        notes.push(format!("tries are not counted: {error}"));
    }
    Ok(table)
}

fn keep_open(file: Arc<LockFile>) {
    let mut kept = LOCK_FILES.lock();
    if !kept.iter().any(|known| Arc::ptr_eq(known, &file)) {
        kept.push(file);
    }
}

/// Claims a worker slot, once a process, and counts in it from now on. Answers its number.
///
/// # Errors
///
/// - [`Code::NotSetUp`]: as [`table`].
/// - [`Code::Full`]: all slots are taken.
/// - [`Code::System`]: the operating system refuses a lock.
/// - [`Code::Damaged`]: the region makes no sense.
pub fn start() -> Result<u32> {
    let table = table()?;
    let mut slot = SLOT.lock();
    let me = std::process::id();
    let number = match *slot {
        Some((number, pid)) if pid == me => number,
        _ => {
            // The number may belong to the process that this one was forked from.
            COUNTING.store(-1, Ordering::Relaxed);
            let number = table.region().claim_slot()?;
            *slot = Some((number, me));
            number
        }
    };
    drop(slot);
    // A worker that cannot count serves nevertheless. The tick tries it again, and says why it was in vain.
    let _ = count().and_then(|()| clear_up(table));
    // It may be the slot of one that has just died.
    let _ = health::mark_failures(table);
    Ok(number)
}

/// Has this worker count in its slot, if it has one.
fn count() -> Result<()> {
    let own = own_slot();
    if let Some(number) = own.filter(|_| counting_slot() != own) {
        table()?.region().count_for(number)?;
        COUNTING.store(number as i32, Ordering::Relaxed);
    }
    Ok(())
}

/// The slot in whose row this worker counts.
#[inline(always)]
pub fn counting_slot() -> Option<u32> {
    u32::try_from(COUNTING.load(Ordering::Relaxed)).ok()
}

/// The same, before this process picks a peer. One that has no slot says so ([`crate::shm::Cells::goes_unnumbered`]).
#[inline(always)]
pub fn slot_to_pick() -> Option<u32> {
    counting_slot().or_else(picks_without_a_slot)
}

#[cold]
fn picks_without_a_slot() -> Option<u32> {
    if let Some(cells) = attached().and_then(|table| table.region().cells()) {
        // Where this is outside of the mapping, so is all else.
        let _ = cells.goes_unnumbered();
    }
    None
}

/// The work of any worker once a second. It makes sure that its requests are counted, clears up behind dead workers, and marks
/// upstreams that are well again. It does all of this, even where a part fails, and answers the first error.
///
/// # Errors
///
/// - [`Code::NotSetUp`]: as [`table`].
/// - [`Code::Full`]: there is no memory to count connections in, or no room for a change or a ring.
/// - [`Code::Invalid`]: the weights of an upstream make its ring too large.
/// - [`Code::System`]: the operating system refuses a lock.
/// - [`Code::Superseded`]: a pick wants a ring, and a newer nginx takes the changes.
/// - [`Code::Changing`], [`Code::Damaged`]: the table or its cells cannot be read.
pub fn tick() -> Result<()> {
    let table = table()?;
    let counts = count().and_then(|()| table.region().has_room_to_count());
    let cleared = clear_up(table);
    let healed = health::heal(table);
    counts.and(cleared).and(healed).and(table.delete_drained(&NEXT_IDLE)).and_then(|()| table.take_lacking_ring())
}

/// Takes back the counts of dead workers, and marks the failures that they could no longer mark.
///
/// # Errors
///
/// - [`Code::System`]: the operating system refuses a lock.
/// - [`Code::Changing`]: other workers come and go in each of 16 tries.
/// - [`Code::Damaged`]: the region, an upstream or a cell makes no sense.
pub fn clear_up(table: &Table) -> Result<()> {
    if table.region().reap(own_slot())? { health::mark_failures(table) } else { Ok(()) }
}

/// The slot of this very process, not that of the one it was forked from.
pub fn own_slot() -> Option<u32> {
    let slot = *SLOT.lock();
    slot.filter(|&(_, pid)| pid == std::process::id()).map(|(number, _)| number)
}
