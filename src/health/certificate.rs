//! The certificates that probes show, and their keys: in the private memory of a process, by their paths.
//!
//! A process reads a file when its path is given. In `init_by_lua` that process is nginx's master, so the file may be root's
//! alone; the workers inherit the bytes. A worker reads a path that is given at run time, as its own user. The region holds
//! paths alone: a master reads the files that its configuration names, and never those that a writer has put into the table.

use crate::error::{Code, Error};
use crate::upstream::Check;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// Bytes of a file at most.
const MAX_BYTES: u64 = 256 << 10;
/// Files that a process keeps at most.
const MOST: usize = 1024;

/// The content of a file of PEM.
#[derive(Clone)]
pub struct Pem {
    /// Another one for each content.
    pub id: u32,
    /// The file, byte for byte.
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pem({})", self.id)
    }
}

/// The certificate that a probe shows, and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, followed by those of its signers.
    pub cert: Pem,
    /// The key.
    pub key: Pem,
}

#[derive(Default)]
struct Files {
    last_id: u32,
    files: HashMap<String, Pem>,
}

static KEPT: Mutex<Option<Files>> = Mutex::new(None);

/// Checks the path of a file; the error says why not.
///
/// # Errors
///
/// Why not: the path is not absolute, or has a control byte.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("not an absolute path");
    }
    if path.chars().any(char::is_control) {
        return Err("it has a control byte");
    }
    Ok(())
}

/// Reads the files that a check names, and keeps their content in place of any older one.
///
/// # Errors
///
/// The option, the file, and why it cannot be read.
pub fn keep(check: &Check) -> Result<(), String> {
    for (option, path) in [("ssl_cert", &check.ssl_cert), ("ssl_key", &check.ssl_key)] {
        if let Some(path) = path {
            keep_file(path).map_err(|why| format!("{option}: \"{}\": {why}", path.escape_debug()))?;
        }
    }
    Ok(())
}

/// As [`keep`], if there is a check; `at` is its path in messages.
///
/// # Errors
///
/// [`Code::System`], with the option, the file, and why it cannot be read.
pub fn keep_for(check: Option<&Check>, at: &str) -> crate::error::Result<()> {
    check.map_or(Ok(()), keep).map_err(|why| Error::new(Code::System, format!("{at}.{why}")))
}

/// Reads one file, and keeps its content.
///
/// # Errors
///
/// Why it cannot be read; unless it is kept since a process read it that was allowed to.
pub fn keep_file(path: &str) -> Result<(), String> {
    let read = read(path);
    let mut kept = KEPT.lock();
    let kept = kept.get_or_insert_default();
    match read {
        Ok(bytes) => kept.put(path, bytes),
        Err((ErrorKind::PermissionDenied, _)) if kept.files.contains_key(path) => Ok(()),
        Err((_, why)) => Err(why),
    }
}

impl Files {
    fn put(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), String> {
        if self.files.get(path).is_some_and(|old| *old.bytes == *bytes) {
            return Ok(());
        }
        if self.files.len() >= MOST && !self.files.contains_key(path) {
            return Err(format!("more files than the {MOST} that are allowed"));
        }
        self.last_id += 1;
        self.files.insert(path.to_string(), Pem { id: self.last_id, bytes: bytes.into() });
        Ok(())
    }
}

/// The identity that a probe by `check` shows; `None`: it shows none. Reads a file that is not kept.
///
/// # Errors
///
/// As [`keep`].
pub fn of(check: &Check) -> Result<Option<Identity>, String> {
    let (Some(cert), Some(key)) = (&check.ssl_cert, &check.ssl_key) else { return Ok(None) };
    let found = || {
        let kept = KEPT.lock();
        let files = &kept.as_ref()?.files;
        Some(Identity { cert: files.get(cert)?.clone(), key: files.get(key)?.clone() })
    };
    if let Some(found) = found() {
        return Ok(Some(found));
    }
    keep(check)?;
    Ok(found())
}

fn read(path: &str) -> Result<Vec<u8>, (ErrorKind, String)> {
    let unreadable = |error: std::io::Error| (error.kind(), error.to_string());
    // A process that opens a pipe would wait for its other end.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = file.map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err((ErrorKind::Other, "not a regular file".to_string()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let begins = b"-----BEGIN ";
    if bytes.len() as u64 > MAX_BYTES {
        return Err((ErrorKind::Other, format!("more than {MAX_BYTES} bytes")));
    }
    if !bytes.windows(begins.len()).any(|part| part == begins) {
        return Err((ErrorKind::Other, "there is no PEM in it".to_string()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cert: &str, key: &str) -> Check {
        Check { ssl_cert: Some(cert.into()), ssl_key: Some(key.into()), ..Check::default() }
    }

    fn file(name: &str, content: &str) -> String {
        let path = std::env::temp_dir().join(format!("dyups-{}-{name}.pem", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_string()
    }

    #[test]
    fn what_a_file_had_when_it_was_given_is_shown_until_it_is_given_again() {
        let cert = file("cert", "-----BEGIN CERTIFICATE-----\none");
        let key = file("key", "-----BEGIN PRIVATE KEY-----\none");
        let check = check(&cert, &key);
        assert!(of(&Check::default()).unwrap().is_none());
        let first = of(&check).unwrap().unwrap();
        assert!(first.cert.bytes.ends_with(b"one") && first.cert.id != first.key.id);
        file("cert", "-----BEGIN CERTIFICATE-----\ntwo");
        assert_eq!(of(&check).unwrap().unwrap().cert.id, first.cert.id);
        keep(&check).unwrap();
        let second = of(&check).unwrap().unwrap();
        assert!(second.cert.bytes.ends_with(b"two") && second.cert.id != first.cert.id);
        assert_eq!(second.key.id, first.key.id, "the same as before");
        assert!(!format!("{second:?}").contains("BEGIN"), "no log has it");
        for path in [cert, key] {
            std::fs::remove_file(path).unwrap();
        }
        assert!(keep(&check).is_err(), "it is gone");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_the_reason() {
        let (good, bad) = (file("good", "-----BEGIN CERTIFICATE-----"), file("bad", "no"));
        let long = file("long", &"-----BEGIN X-----".repeat(20_000));
        for (cert, key, why) in [
            ("/none", &*good, r#"ssl_cert: "/none": No such file or directory (os error 2)"#),
            (&*good, "/dev", r#"ssl_key: "/dev": not a regular file"#),
            (&*good, &*bad, &format!("ssl_key: \"{bad}\": there is no PEM in it")),
            (&*long, &*good, &format!("ssl_cert: \"{long}\": more than 262144 bytes")),
        ] {
            assert_eq!(of(&check(cert, key)).unwrap_err(), why);
        }
        // Whole, however long it is: a part of a path says nothing.
        let path = format!("/{}\u{202e}", "x".repeat(100));
        let why = of(&check(&path, &good)).unwrap_err();
        assert!(why.starts_with(&format!("ssl_cert: \"/{}\\u{{202e}}\": No such file", "x".repeat(100))), "{why}");
        for path in [&good, &bad, &long] {
            assert!(check_path(path).is_ok());
        }
        [good, bad, long].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }

    #[test]
    fn a_path_is_absolute_and_on_one_line() {
        assert_eq!(check_path("/a b"), Ok(()));
        for path in ["a", "", "./a", "/a\nb", "/a\0"] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
    }
}
