//! The state of one reading: the version of nginx, warnings, and files that include others.

use std::path::{Path, PathBuf};

use super::tokens::{Directive, End, Place, Reader};
use crate::error::{Error, Result};
use crate::quote::{file, quote};
use crate::version::NginxVersion;

/// How deep files may include each other.
pub const MAX_DEPTH: usize = 16;

/// Most warnings of files, which go to a log.
const MAX_WARNINGS: usize = 100;

/// Most warnings of a text that is no file: they go into a header.
const MAX_WARNINGS_OF_A_TEXT: usize = 10;

/// The identity of a file: two paths of one file have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The number of its device.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

/// Has the files that others include. This room reads none itself: a source of upstreams does.
pub trait Files {
    /// The files that `name`, which may be a pattern, stands for in `directory`; a pattern may stand for none.
    ///
    /// # Errors
    ///
    /// As the source has them.
    fn find(&self, directory: &Path, name: &str) -> Result<Vec<PathBuf>>;

    /// The content of a file without a byte order mark, and the identity of the file.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::System`]: the file cannot be read; and as the source has them.
    fn read(&mut self, path: &Path) -> Result<(Vec<u8>, FileId)>;
}

/// A reading, from its first text to the last file that is included.
pub(super) struct Reading<'a> {
    nginx: Option<NginxVersion>,
    warnings: Vec<String>,
    /// How many more warnings there were.
    left_out: usize,
    /// `None`: a text that is no file includes none.
    includes: Option<Includes<'a>>,
}

/// The files that are open.
struct Includes<'a> {
    files: &'a mut dyn Files,
    /// From the first to the one that is being read.
    open: Vec<(FileId, PathBuf)>,
}

impl<'a> Reading<'a> {
    /// The reading of a text for this version of nginx; `None`: any.
    pub(super) fn new(nginx: Option<NginxVersion>) -> Reading<'a> {
        Reading { nginx, warnings: Vec::new(), left_out: 0, includes: None }
    }

    /// The reading of a file at `path`, with the identity `id`, and of the files that it includes.
    pub(super) fn of_file(
        nginx: Option<NginxVersion>,
        path: &Path,
        id: FileId,
        files: &'a mut dyn Files,
    ) -> Reading<'a> {
        let includes = Some(Includes { files, open: vec![(id, path.to_owned())] });
        Reading { includes, ..Reading::new(nginx) }
    }

    /// The version of nginx, where it is before `version`. One that is not known is no such.
    pub(super) fn nginx_before(&self, version: NginxVersion) -> Option<NginxVersion> {
        self.nginx.filter(|nginx| *nginx < version)
    }

    /// Adds a warning for the operator. So many are kept, and of the others their number.
    pub(super) fn warn(&mut self, place: &Place, message: impl std::fmt::Display) {
        let most = if self.includes.is_some() { MAX_WARNINGS } else { MAX_WARNINGS_OF_A_TEXT };
        if self.warnings.len() < most {
            self.warnings.push(format!("{place}: {message}"));
        } else {
            self.left_out += 1;
        }
    }

    /// The warnings, at the end.
    pub(super) fn into_warnings(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.warnings.push(format!("and {} more warnings", self.left_out));
        }
        self.warnings
    }

    /// `include FILES;`: has `read` read each of them, whole.
    pub(super) fn include(
        &mut self,
        directive: &Directive,
        read: &mut dyn FnMut(&mut Reading<'a>, &mut Reader<'_>) -> Result<()>,
    ) -> Result<()> {
        let [pattern] = directive.arguments()[..] else {
            let message = "invalid number of arguments in \"include\" directive; allowed: include FILE";
            return Err(directive.error(message));
        };
        if directive.end == End::Open {
            return Err(directive.error("\"include\" is not ended by \";\""));
        }
        let within = |error: Error| directive.error(format_args!("include {}: {error}", quote(pattern)));
        let paths = self.paths(pattern).map_err(within)?;
        if paths.is_empty() {
            self.warn(&directive.place, format_args!("include {}: no file matches", quote(pattern)));
        }
        for path in paths {
            let bytes = self.open(&path).map_err(within)?;
            read(self, &mut Reader::new(&bytes, &file(&path)))?;
            self.close();
        }
        Ok(())
    }

    /// The files that `pattern` stands for, relative to the file that includes them.
    fn paths(&self, pattern: &[u8]) -> Result<Vec<PathBuf>> {
        let Some(Includes { files, open }) = &self.includes else {
            return Err(Error::invalid("allowed in files only; write the lines themselves"));
        };
        let name = std::str::from_utf8(pattern).map_err(|_| Error::invalid("not UTF-8"))?;
        if name.is_empty() || name.contains('\0') {
            return Err(Error::invalid("allowed: the name of a file, or a pattern"));
        }
        let directory = open.last().and_then(|(_, path)| path.parent()).unwrap_or(Path::new("/"));
        files.find(directory, name)
    }

    fn open(&mut self, path: &Path) -> Result<Vec<u8>> {
        let Some(Includes { files, open }) = &mut self.includes else { return Ok(Vec::new()) };
        if open.len() > MAX_DEPTH {
            return Err(Error::invalid(format!("{}: allowed: at most {MAX_DEPTH} files deep", file(path))));
        }
        let (bytes, id) = files.read(path)?;
        if let Some(first) = open.iter().position(|(other, _)| *other == id) {
            let circle: Vec<_> = open[first..].iter().map(|(_, path)| file(path)).collect();
            return Err(Error::invalid(format!("a circle: {} includes {}", circle.join(" includes "), file(path))));
        }
        if bytes.trim_ascii_start().first() == Some(&b'{') {
            let message = "JSON is not included: allowed: nginx's syntax; name a JSON file in \"files\" of setup";
            return Err(Error::invalid(message).within(file(path)));
        }
        open.push((id, path.to_owned()));
        Ok(bytes)
    }

    fn close(&mut self) {
        if let Some(Includes { open, .. }) = &mut self.includes {
            open.pop();
        }
    }
}
