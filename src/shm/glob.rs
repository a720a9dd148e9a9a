//! The names of files by a pattern, by glob(3), as nginx's `include` has them.

use crate::error::{Code, Error, Result};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Whether nginx takes `name` for a pattern.
pub fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// The files in `directory` that match `pattern`, in nginx's order, that of their bytes; none is no error. The directory's own name
/// is no pattern. An absolute pattern stands for itself.
///
/// # Errors
///
/// [`Code::Invalid`]: a NUL in a name. [`Code::System`]: there is no memory.
pub fn glob(directory: &Path, pattern: &[u8]) -> Result<Vec<PathBuf>> {
    let whole = if pattern.starts_with(b"/") { pattern.to_vec() } else { below(directory, pattern) };
    let whole = CString::new(whole).map_err(|_| Error::invalid("a NUL: allowed: the name of a file"))?;
    // SAFETY: all bytes zero is a glob_t that glob may write; it holds counts and pointers alone.
    let mut found: libc::glob_t = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated pattern, no function, and a glob_t of our own.
    let code = unsafe { libc::glob(whole.as_ptr(), 0, None, &raw mut found) };
    let paths = match code {
        // SAFETY: glob has answered with success, and nothing has changed `found` since.
        0 => Ok(unsafe { names(&found) }),
        libc::GLOB_NOMATCH => Ok(Vec::new()),
        _ => Err(Error::new(Code::System, "cannot look for files")),
    };
    // SAFETY: glob has filled `found` in, also when it failed on its way. It is given back once.
    unsafe { libc::globfree(&raw mut found) };
    paths
}

/// # Safety
///
/// `found` is as a successful glob(3) has left it.
unsafe fn names(found: &libc::glob_t) -> Vec<PathBuf> {
    let names = (0..found.gl_pathc).map(|index| {
        // SAFETY: gl_pathv holds gl_pathc pointers to NUL-terminated texts.
        unsafe { CStr::from_ptr(*found.gl_pathv.add(index)) }
    });
    names.map(|name| OsStr::from_bytes(name.to_bytes()).into()).collect()
}

fn below(directory: &Path, pattern: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    for byte in directory.to_path_buf().into_os_string().into_vec() {
        if matches!(byte, b'*' | b'?' | b'[' | b'\\') {
            whole.push(b'\\');
        }
        whole.push(byte);
    }
    whole.push(b'/');
    whole.extend_from_slice(pattern);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_match_in_the_order_of_their_names() {
        let directory = std::env::temp_dir().join(format!("dyups-glob-[x]*{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("sub")).unwrap();
        for name in ["b.conf", "a.conf", "B.conf", ".hidden.conf", "a.json", "sub/c.conf"] {
            std::fs::write(directory.join(name), "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let paths = glob(&directory, pattern.as_bytes()).unwrap();
            let short = |path: PathBuf| path.strip_prefix(&directory).unwrap().to_str().unwrap().to_owned();
            paths.into_iter().map(short).collect()
        };
        assert_eq!(found("*.conf"), ["B.conf", "a.conf", "b.conf"]);
        assert_eq!(found("[ab].*"), ["a.conf", "a.json", "b.conf"]);
        assert_eq!(found("*/?.conf"), ["sub/c.conf"]);
        assert_eq!(found("none*"), [""; 0]);
        let absolute = [directory.as_os_str().as_bytes(), b"/a.conf"].concat();
        assert_eq!(glob(Path::new("/elsewhere"), &absolute).unwrap().len(), 0, "its brackets are a pattern");
        assert!(glob(&directory, b"a\0*").is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
