//! Regions of older layouts beside the one that is being opened, and the choice of the one whose table counts.

use super::find::{Found, find};
use super::header::{self, Header};
use super::{Content, Region, file_of};
use crate::checksum::Checksum;
use crate::error::{Code, Error, Result};
use crate::shm::layout::{LAYOUT, Shape, fixed};
use crate::shm::lock::{Guard, LockFile, writer_byte};
use crate::shm::memory::Memory;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the writer of an older layout may take to come to its end. Less than others wait for the creation lock.
const WRITER_WAIT: Duration = Duration::from_secs(2);

/// All regions that were found. No process changes them as long as this lives: it holds their writer locks.
#[derive(Debug, Default)]
pub struct OlderLayouts<'a> {
    /// In the order of their layouts.
    regions: Vec<Region>,
    _writers: Vec<Guard<'a>>,
}

impl<'a> OlderLayouts<'a> {
    /// The regions beside `base` of all layouts before ours. One that cannot be used is a note.
    ///
    /// # Errors
    ///
    /// [`Code::Busy`]: the writer of an older layout does not come to its end in time.
    /// [`Code::System`]: a file cannot be opened or mapped, or is not this user's alone; or the operating system refuses to lock.
    /// [`Code::Full`]: there is no memory for the words of a region that must be there in any case.
    /// [`Code::Damaged`]: a word lies outside of a region.
    pub fn hold(base: &Path, lock: &'a Arc<LockFile>, notes: &mut Vec<String>) -> Result<Self> {
        let mut older = OlderLayouts::default();
        for &shape in Shape::KNOWN.iter().filter(|shape| shape.layout < LAYOUT) {
            let path = file_of(base, shape.layout);
            let region = match find(base, shape, lock)? {
                Found::Region(region) => region,
                Found::Nothing | Found::Other(Header::OtherBoot) => continue,
                Found::Other(header) => {
                    notes.push(format!("{} {header}: its table is not taken over", path.display()));
                    continue;
                }
            };
            if region.mem().load(fixed::LOCK)? != lock.inode() {
                let at = path.display();
                notes.push(format!("{at}: its lock file was replaced: what others change in it from now on is lost"));
            }
            let writer = lock.lock(writer_byte(shape.layout), WRITER_WAIT);
            older._writers.push(writer.map_err(|error| error.within(path.display()))?);
            older.regions.push(region);
        }
        Ok(older)
    }

    /// The region whose table counts instead of that of `own`, if there is one: the last to be made. But if its origin has
    /// changed since, and no process uses the later one any more, it is the origin.
    ///
    /// # Errors
    ///
    /// [`Code::System`]: the operating system refuses to tell.
    /// [`Code::Damaged`]: a word lies outside of a region.
    pub fn heir_of(&self, own: Option<&Region>, content: &impl Content) -> Result<Option<&Region>> {
        let Some(mut latest) = own.or(self.regions.last()) else { return Ok(None) };
        while let Some(origin) = self.changed_origin(latest, content)? {
            latest = origin;
        }
        Ok(self.regions.iter().find(|region| std::ptr::eq(*region, latest)))
    }

    /// The origin of `region`'s table, if it has changed since. It is older than `region`, so repeated calls come to an end.
    fn changed_origin(&self, region: &Region, content: &impl Content) -> Result<Option<&Region>> {
        let origin = header::origin(region.mem())?;
        let from = self.regions.iter().find(|from| from.layout() == origin.layout && origin.layout < region.layout());
        let Some(from) = from else { return Ok(None) };
        // One that was made anew and in which nothing ever happened has not changed.
        let changed = digest(from, content)?.is_some_and(|digest| digest != origin.digest);
        Ok((changed && !region.is_alive()?).then_some(from))
    }
}

/// A digest of the table of `region` as it is now, in this very file; `None`: there was never anything in it.
///
/// # Errors
///
/// As [`Content::digest`].
pub fn digest(region: &Region, content: &impl Content) -> Result<Option<u64>> {
    let file = u64::from(Checksum::of(&[region.inode()]));
    Ok(content.digest(region)?.map(|digest| digest ^ file))
}

/// Refuses to open a region where this process has one of another layout open. That one belongs to another copy of this
/// library, which a reload has replaced by this one. Its layout would be superseded for as long as the master lives, even if
/// the reload fails.
///
/// # Errors
///
/// [`Code::System`]: this process has a region of another layout open.
pub fn refuse_company(base: &Path) -> Result<()> {
    let maps = std::fs::read("/proc/self/maps").unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    let real = real(base);
    let prefix = format!("{}.v", real.display());
    let layouts = maps.lines().filter_map(|line| {
        let path = line.get(line.find('/')?..)?.trim_end_matches(" (deleted)");
        path.strip_prefix(prefix.as_str())?.parse::<u32>().ok()
    });
    match layouts.into_iter().find(|&layout| layout != LAYOUT) {
        None => Ok(()),
        Some(theirs) => Err(Error::new(
            Code::System,
            format!(
                "{}: layout {theirs} is in use in this process, this library has layout {LAYOUT}: a reload cannot change \
                 it: restart nginx, or upgrade it by USR2",
                base.display()
            ),
        )),
    }
}

/// `base` as the kernel calls it.
fn real(base: &Path) -> PathBuf {
    match (base.parent().map(Path::canonicalize), base.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => base.to_owned(),
    }
}
