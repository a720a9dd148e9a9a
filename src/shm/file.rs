//! Opening files that other users must not be able to plant, read or follow us through.

use crate::error::{Code, Error, Result};
use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const OURS_ALONE: u32 = 0o600;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(OURS_ALONE).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK);
    options
}

/// Opens a file that must be there; `None` when it is not.
///
/// # Errors
///
/// [`Code::System`]: the file cannot be opened, or is a symbolic link.
pub fn open_existing(path: &Path) -> Result<Option<File>> {
    match options().open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(path, &error)),
    }
}

/// Opens a file, making it with mode 0600 if it is not there.
///
/// # Errors
///
/// [`Code::System`]: the file cannot be opened or made, or is a symbolic link.
pub fn open_or_create(path: &Path) -> Result<File> {
    options().create(true).truncate(false).open(path).map_err(|error| explain(path, &error))
}

/// Makes a file that must not be there, mode 0600.
///
/// # Errors
///
/// [`Code::System`]: the file cannot be made, mostly since it is there.
pub fn create_new(path: &Path) -> Result<File> {
    options().create_new(true).open(path).map_err(|error| explain(path, &error))
}

/// Makes the directory `path` with mode 0700 if it is not there. An existing one must belong to this user, and no other may
/// write to it. Answers a message for the operator.
///
/// In a directory where every user may write, another user can make it first. root sets aside such a directory, so no
/// other user can keep root from starting. Any other user cannot, and is refused.
///
/// # Errors
///
/// [`Code::System`]: the directory cannot be made or looked at, or it is not this user's alone and cannot be set aside.
pub fn private_directory(path: &Path) -> Result<Option<String>> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(explain(path, &error)),
        _ => {}
    }
    match why_not_private(path)? {
        None => Ok(None),
        Some(why) if effective_user() == 0 => replace_directory(path, &why).map(Some),
        Some(why) => Err(not_private(path, &why)),
    }
}

/// Why `path` is not a directory that is ours alone. It is looked at through a descriptor that follows no link.
fn why_not_private(path: &Path) -> Result<Option<String>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let is_dir = match options.open(path) {
        Ok(directory) => Ok(directory.metadata().map_err(|error| explain(path, &error))?),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
            Err(std::fs::symlink_metadata(path))
        }
        Err(error) => return Err(explain(path, &error)),
    };
    let us = effective_user();
    Ok(match is_dir {
        Ok(meta) if meta.uid() == us && meta.mode() & 0o022 == 0 => None,
        Ok(meta) => Some(format!("owner {}, mode {:o}", meta.uid(), meta.mode() & 0o7777)),
        Err(Ok(meta)) => Some(format!("no directory, owner {}, mode {:o}", meta.uid(), meta.mode() & 0o7777)),
        Err(Err(_)) => Some("gone".to_owned()),
    })
}

fn not_private(path: &Path, why: &str) -> Error {
    let us = effective_user();
    Error::new(
        Code::System,
        format!(
            "{} is not a directory of uid {us} that only uid {us} may write ({why}): have its owner or root remove it, or name another \
             place with shm_path",
            path.display()
        ),
    )
}

/// How often another process may put something in the way again.
const PLANTED: usize = 16;

/// Puts a directory of this user in the place of the file at `path`, in one step, so that no other process comes between. The
/// old file then has a name beside it that no one could guess.
fn replace_directory(path: &Path, why: &str) -> Result<String> {
    for _ in 0..PLANTED {
        let number = RandomState::new().build_hasher().finish();
        let aside = with_suffix(path, &format!(".set-aside-{number:016x}"));
        DirBuilder::new().mode(0o700).create(&aside).map_err(|error| explain(&aside, &error))?;
        let done = rename(&aside, path, libc::RENAME_EXCHANGE);
        if done.is_ok() && why_not_private(path)?.is_none() {
            let (path, aside) = (path.display(), aside.display());
            return Ok(format!("{path} was somebody else's ({why}): it was set aside as {aside} and is made anew"));
        }
        // Where it is gone by now, ours takes its place, unless another one is there already.
        if matches!(&done, Err(error) if error.kind() == ErrorKind::NotFound)
            && rename(&aside, path, libc::RENAME_NOREPLACE).is_ok()
        {
            return Ok(format!("{} was somebody else's ({why}), and is made anew", path.display()));
        }
        let _ = std::fs::remove_dir(&aside);
        match done {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(explain(path, &error)),
            _ => {}
        }
    }
    Err(not_private(path, why))
}

fn rename(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    let (from, to) = (text(from)?, text(to)?);
    // SAFETY: two NUL-terminated paths that outlive the call.
    match unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `path` with `suffix` behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Refuses a file that is not a regular one with a single name, of our own user and closed to all others.
///
/// # Errors
///
/// [`Code::System`]: the file is not like that, or cannot be looked at.
pub fn check_owned(file: &File, path: &Path) -> Result<()> {
    let meta = file.metadata().map_err(|error| explain(path, &error))?;
    let refuse = |what: String, todo: &str| {
        Err(Error::new(Code::System, format!("{} {what}: {todo}, or name another file with shm_path", path.display())))
    };
    let us = effective_user();
    if !meta.is_file() {
        return refuse("is not a regular file".into(), "remove it");
    }
    if meta.uid() != us {
        return refuse(
            format!("belongs to uid {}, not to uid {us}", meta.uid()),
            "remove it or start nginx as its owner",
        );
    }
    if meta.mode() & 0o077 != 0 {
        return refuse(
            format!("has mode {:o}: others may open it", meta.mode() & 0o7777),
            "chmod it to 600 if you trust its content",
        );
    }
    if meta.nlink() > 1 {
        return refuse(format!("has {} names (hard links)", meta.nlink()), "remove the others");
    }
    Ok(())
}

/// Has the file system set aside all `size` bytes of `file`.
///
/// # Errors
///
/// That of posix_fallocate(3): `ENOSPC` where the file system is full.
pub fn allocate(file: &File, size: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: an open descriptor and two numbers; the call touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size as i64) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Whether `path` still names the file with these numbers.
///
/// # Errors
///
/// The operating system does not let this process look at `path`.
pub fn is_still(path: &Path, device: u64, inode: u64) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.dev() == device && meta.ino() == inode),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The user to which files must belong.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// One sentence about a failed open: the file, the reason, and the way out.
pub fn explain(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    let message = match error.raw_os_error() {
        Some(libc::ELOOP) => format!("{path} is a symbolic link: remove it, or name the file itself with shm_path"),
        Some(libc::EACCES | libc::EPERM) => {
            format!(
                "no permission for {path} as uid {}: call dyups.setup in init_by_lua (it runs as the master's user), or \
                 name another file with shm_path",
                effective_user()
            )
        }
        Some(libc::ENOENT) => format!("{path} cannot be made: its directory does not exist"),
        Some(libc::ENXIO | libc::EISDIR) => {
            format!("{path} is not a regular file: remove it, or name another file with shm_path")
        }
        Some(libc::ENOSPC) => {
            format!("{path}: the file system is full: make room there, or {ELSEWHERE}")
        }
        _ => format!("{path}: {error}"),
    };
    Error::new(Code::System, message)
}

/// Advice beside making room, before there is a region and once there is one.
pub const ELSEWHERE: &str = "name another place with shm_path";
/// See [`ELSEWHERE`].
pub const FEWER: &str = "delete upstreams";

/// One sentence about memory that could not be had: why, and that making room helps, or `else_do`.
pub fn full(path: &Path, error: &io::Error, else_do: &str) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => Error::new(
            Code::Full,
            format!("the file system of {} is full: make room there, or {else_do}", path.display()),
        ),
        _ => explain(path, error),
    }
}
