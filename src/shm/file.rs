//! Opening files that other users must not be able to plant, read or follow us through.

use crate::error::{Code, Error, Result};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

const OURS_ALONE: u32 = 0o600;

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(OURS_ALONE).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK);
    options
}

/// Opens a file that must be there; `None` when it is not.
pub fn open_existing(path: &Path) -> Result<Option<File>> {
    match options().open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(path, &error)),
    }
}

/// Opens a file, making it with mode 0600 if it is not there.
pub fn open_or_create(path: &Path) -> Result<File> {
    options().create(true).truncate(false).open(path).map_err(|error| explain(path, &error))
}

/// Makes a file that must not be there, mode 0600.
pub fn create_new(path: &Path) -> Result<File> {
    options().create_new(true).open(path).map_err(|error| explain(path, &error))
}

/// Makes the directory `path` with mode 0700 if it is not there; one that is must be ours and nobody else's to write.
pub fn private_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(explain(path, &error)),
        _ => {}
    }
    let meta = std::fs::symlink_metadata(path).map_err(|error| explain(path, &error))?;
    let us = effective_user();
    if !meta.is_dir() || meta.uid() != us || meta.mode() & 0o022 != 0 {
        return Err(Error::new(
            Code::System,
            format!(
                "{} is not a directory of uid {us} that only uid {us} may write (owner {}, mode {:o}): remove it, or name \
                 another place with shm_path",
                path.display(),
                meta.uid(),
                meta.mode() & 0o7777
            ),
        ));
    }
    Ok(())
}

/// Refuses a file that is not a regular one with a single name, of our own user and closed to all others.
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
pub fn allocate(file: &File, size: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: an open descriptor and two numbers; the call touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size as i64) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Whether `path` still names the file with these numbers.
pub fn is_still(path: &Path, device: u64, inode: u64) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.dev() == device && meta.ino() == inode),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The user whom files must belong to.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// One sentence about a failed open: what, why, and what to do about it.
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

/// What else than making room helps before there is a region, and once there is one.
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
