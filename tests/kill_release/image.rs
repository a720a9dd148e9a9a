//! The files of a region at one instant, as a death at this instant would leave them.

use super::support::{layout_1, region_file};
use dyups::shm::cells::Plan;
use dyups::shm::layout::{fixed, state};
use dyups::shm::{Mem, Memory, WORD};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name that users give the region in its directory.
pub const BASE: &str = "region";
/// Its lock file.
pub const LOCK: &str = "region.lock";

/// The region's file.
fn region() -> String {
    region_file(Path::new(BASE)).into_os_string().into_string().expect("UTF-8")
}

/// That of its cells.
fn cells() -> String {
    region() + CELLS
}

/// The file of one that is being made.
fn unborn() -> String {
    region() + ".new"
}

/// How the name of the file with the cells ends, and which of its words has their number.
const CELLS: &str = ".cells";
const COUNT: usize = 2;

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    size: u64,
    /// Of cells, the bytes before the rows: no call that is looked at counts.
    bytes: Vec<u8>,
}

impl Content {
    fn of(path: &Path) -> Content {
        let file = File::open(path).expect("readable");
        let size = file.metadata().expect("metadata").len();
        let mut read = size as usize;
        if path.to_str().expect("UTF-8").ends_with(CELLS) {
            let mut count = [0; WORD];
            file.read_exact_at(&mut count, (COUNT * WORD) as u64).expect("a header");
            let count = u64::from_ne_bytes(count) as usize;
            read = read.min(Plan::for_cells(count).words_until(count) * WORD);
        }
        let mut bytes = vec![0; read];
        file.read_exact_at(&mut bytes, 0).expect("readable");
        Content { size, bytes }
    }
}

/// All files of the directory but the lock file, of which it knows the inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    lock: u64,
    files: BTreeMap<String, Content>,
}

impl Image {
    pub fn of(dir: &Path) -> Image {
        let mut image = Image { lock: inode(&dir.join(LOCK)), ..Image::default() };
        for entry in fs::read_dir(dir).expect("readable") {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            if name != LOCK {
                let content = Content::of(&dir.join(&name));
                image.files.insert(name, content);
            }
        }
        image
    }

    /// A region of layout 1, made in `dir`.
    pub fn of_layout_1(dir: &Path) -> Image {
        fs::create_dir_all(dir).expect("mkdir");
        layout_1::made(&dir.join(BASE));
        Image::of(dir)
    }

    /// Makes these the files of `dir`. A file that is there is written over in place, since a process may have it mapped.
    pub fn place(&self, dir: &Path) {
        fs::create_dir_all(dir).expect("mkdir");
        write_over(&dir.join(LOCK), 0, &[]);
        let lock = inode(&dir.join(LOCK));
        for name in Image::of(dir).files.into_keys().filter(|name| !self.files.contains_key(name)) {
            fs::remove_file(dir.join(name)).expect("remove");
        }
        for (name, content) in &self.files {
            write_over(&dir.join(name), content.size, &self.with_lock(&content.bytes, lock));
        }
    }

    /// Whether there is a region under its name that a process of `size` may have mapped.
    pub fn has_sound_region(&self, size: u64) -> bool {
        let sound =
            |region: &Content| region.size == size && word(&region.bytes, fixed::CHECKSUM) == checksum(&region.bytes);
        self.files.get(&region()).is_some_and(sound)
    }

    /// Whether the region says that a change is under way.
    pub fn is_writing(&self) -> bool {
        self.files.get(&region()).is_some_and(|region| word(&region.bytes, state::WRITING) != 0)
    }

    /// Whether one is being made, or was when its maker died.
    pub fn has_unborn(&self) -> bool {
        self.files.contains_key(&unborn())
    }

    /// With a header that makes no sense.
    pub fn damaged(mut self) -> Image {
        self.files.get_mut(&region()).expect("a region").bytes[fixed::CHECKSUM * WORD] ^= 1;
        self
    }

    /// A header names the lock file by its inode. One that names this image's names the new one instead, and says so
    /// correctly if it was correct before.
    fn with_lock(&self, content: &[u8], lock: u64) -> Vec<u8> {
        let mut content = content.to_owned();
        let header = (fixed::CHECKSUM + 1) * WORD;
        if content.len() >= header && word(&content, fixed::LOCK) == self.lock {
            let whole = word(&content, fixed::CHECKSUM) == checksum(&content);
            set_word(&mut content, fixed::LOCK, lock);
            if whole {
                let checksum = checksum(&content);
                set_word(&mut content, fixed::CHECKSUM, checksum);
            }
        }
        content
    }
}

fn word(content: &[u8], index: usize) -> u64 {
    u64::from_ne_bytes(content[index * WORD..][..WORD].try_into().expect("a word"))
}

fn set_word(content: &mut [u8], index: usize, value: u64) {
    content[index * WORD..][..WORD].copy_from_slice(&value.to_ne_bytes());
}

fn checksum(content: &[u8]) -> u64 {
    u64::from(crc32fast::hash(&content[..fixed::CHECKSUM * WORD]))
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.ino())
}

fn write_over(path: &Path, size: u64, content: &[u8]) {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path).expect("open");
    if file.metadata().expect("metadata").len() != size {
        file.set_len(size).expect("size");
    }
    file.write_all_at(content, 0).expect("write");
}

/// Notices each change of the files in which a region and its cells live or are made.
pub struct Watch([Watched; 4]);

impl Watch {
    pub fn new(dir: &Path) -> Watch {
        let names = [region(), unborn(), cells(), cells() + ".new"];
        let mut watch = Watch(names.map(|name| Watched::new(dir.join(name))));
        watch.changed();
        watch
    }

    /// Whether they have changed since this was asked last.
    pub fn changed(&mut self) -> bool {
        // Asks all files, always: each remembers the changes that it has shown.
        self.0.iter_mut().filter_map(|file| file.changed().then_some(())).count() > 0
    }
}

/// Words of a file with cells that are watched: the first hundred cells are, of which no call takes more.
const WATCHED: usize = 2048;

struct Watched {
    path: PathBuf,
    /// Inode and size of the file that has the name.
    identity: Option<(u64, u64)>,
    mem: Option<Mem>,
    seen: Vec<u64>,
    now: Vec<u64>,
}

impl Watched {
    fn new(path: PathBuf) -> Watched {
        Watched { path, identity: None, mem: None, seen: Vec::new(), now: Vec::new() }
    }

    fn changed(&mut self) -> bool {
        let identity = fs::metadata(&self.path).ok().map(|meta| (meta.ino(), meta.size()));
        let renamed = identity != self.identity;
        if renamed {
            self.map(identity);
        }
        if let Some(mem) = &self.mem {
            mem.load_all(0, &mut self.now).expect("inside");
        }
        let written = self.now != self.seen;
        if written {
            self.seen.copy_from_slice(&self.now);
        }
        renamed || written
    }

    fn map(&mut self, identity: Option<(u64, u64)>) {
        self.identity = identity;
        self.mem = identity.filter(|&(_, size)| size > 0).map(|(_, size)| {
            let file = File::options().read(true).write(true).open(&self.path).expect("it was there");
            Mem::map(&file, size as usize).expect("map")
        });
        let mut words = self.mem.as_ref().map_or(0, Memory::words);
        if self.path.to_str().expect("UTF-8").contains(CELLS) {
            words = words.min(WATCHED);
        }
        self.seen = vec![0; words];
        self.now = vec![0; words];
    }
}
