//! The file that this library was loaded from. A reload goes on with the loaded library, even if the file was replaced.

use once_cell::sync::OnceCell;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Its path, and the device and inode of the file at the first call.
static LOADED: OnceCell<Option<(PathBuf, (u64, u64))>> = OnceCell::new();

/// A message for the operator where another file lies at the path than at the first call.
pub(super) fn replaced() -> Option<String> {
    let (path, loaded) = LOADED.get_or_init(first_look).as_ref()?;
    (identity(path) != Some(*loaded)).then(|| {
        format!(
            "{} was replaced: a reload goes on with the library that is loaded, version {}: restart nginx, or upgrade it by \
             USR2, to use the new one",
            path.display(),
            env!("CARGO_PKG_VERSION")
        )
    })
}

fn first_look() -> Option<(PathBuf, (u64, u64))> {
    let path = std::path::absolute(loaded_from()?).ok()?;
    let identity = identity(&path)?;
    Some((path, identity))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The path by which this library was loaded.
fn loaded_from() -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: the address of a function of this library, and a place for the answer.
    if unsafe { libc::dladdr(loaded_from as *const libc::c_void, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: dladdr has filled it.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated, and it lives as long as the library is loaded; the library is never unloaded.
    let name = unsafe { CStr::from_ptr(name) };
    Some(OsStr::from_bytes(name.to_bytes()).into())
}
