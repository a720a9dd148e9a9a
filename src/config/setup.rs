//! The arguments of `dyups.setup{...}`.

use super::check;
use super::fields::HEALTHCHECK;
use super::object::Object;
use super::value::{Value, parse};
use crate::error::{Code, Error, Result};
use crate::quote::quote;
use crate::shm::file;
use crate::shm::layout::{MAX_SIZE, MIN_SIZE};
use crate::shm::units::PAGE;
use crate::upstream::Check;
use crate::upstream::field::{Field, FieldType};
use crate::version::NginxVersion;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Size of a region without `shm_size`: 128 MiB, of which only the used part takes memory.
pub const DEFAULT_SIZE: u64 = 128 << 20;
/// Size of the file of statistics when `stats_size` does not say: 64 MiB, of which only used sections take memory.
const DEFAULT_STATS_SIZE: u64 = 64 << 20;
/// The smallest one: room for some 20 peers.
const MIN_STATS_SIZE: u64 = 64 << 10;
/// The largest one.
const MAX_STATS_SIZE: u64 = 16 << 30;

/// The files of the region, without the layout and `.lock`.
pub const SHM_PATH: Field = Field { name: "shm_path", kind: FieldType::Text("a path") };
/// Its size.
pub const SHM_SIZE: Field =
    Field { name: "shm_size", kind: FieldType::Text("bytes or a text like \"64m\", from 256 KiB to 4 GiB") };
/// Whether tries are counted by peer and upstream.
pub const STATISTICS: Field = Field { name: "statistics", kind: FieldType::Bool };
/// The size of the file in which they are.
pub const STATS_SIZE: Field =
    Field { name: "stats_size", kind: FieldType::Text("bytes or a text like \"64m\", from 64 KiB to 16 GiB") };
/// Files with upstreams.
pub const FILES: Field = Field { name: "files", kind: FieldType::Text("a path or a list of paths") };
/// Whether files win over changes at run time.
pub const OVERWRITE: Field = Field { name: "overwrite", kind: FieldType::Bool };
/// Whether picks look for a route first. The Lua module acts on it.
pub const ROUTES: Field = Field { name: "routes", kind: FieldType::Bool };
/// The options of the HTTP interface.
pub const ADMIN: Field = Field { name: "admin", kind: FieldType::Object };
/// Names by which it may be called.
pub const HOSTS: Field =
    Field { name: "hosts", kind: FieldType::Text("a list of at most 64 host names without a port") };
/// nginx's prefix, from which relative paths and the default name follow. The Lua module sets it.
pub const PREFIX: Field = Field { name: "prefix", kind: FieldType::Text("a path") };
/// nginx's version as its own number, such as 1022001. Set by the Lua module.
pub const NGINX_VERSION: Field =
    Field { name: "nginx_version", kind: FieldType::Integer { min: 1, max: u32::MAX as i64 } };

/// All arguments of `setup`.
pub const SETUP: &[Field] =
    &[SHM_PATH, SHM_SIZE, STATISTICS, STATS_SIZE, FILES, OVERWRITE, ROUTES, HEALTHCHECK, ADMIN, PREFIX, NGINX_VERSION];

/// The arguments of `setup`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    shm_path: Option<PathBuf>,
    shm_size: u64,
    /// The size of the file of statistics; `None`: there are none.
    pub statistics: Option<u64>,
    /// Files with upstreams. `None`: none were named.
    pub files: Option<Vec<PathBuf>>,
    /// Files win over changes at run time. Default false.
    pub overwrite: bool,
    /// Picks look for a route first. Default false.
    pub routes: bool,
    /// The check of all upstreams without a check of their own.
    pub healthcheck: Option<Check>,
    /// The version of the nginx around this process. `None`: not known.
    pub nginx_version: Option<NginxVersion>,
    /// Names that the HTTP interface may be called by, in lower case. None by default.
    pub admin_hosts: Vec<String>,
    prefix: PathBuf,
}

impl Setup {
    /// Reads the object that the Lua module sends.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`]: the message names the field, the value and the allowed values. [`Code::System`]: there is no current
    /// directory for a relative prefix.
    pub fn read(bytes: &[u8]) -> Result<Setup> {
        let value = parse(bytes)?;
        let object = Object::new(&value, "setup", SETUP)?;
        let prefix = absolute(path_text(&object, &PREFIX)?.unwrap_or("/"))?;
        Ok(Setup {
            shm_path: path_text(&object, &SHM_PATH)?.map(|path| prefix.join(path)),
            shm_size: size(&object, &SHM_SIZE, MIN_SIZE..=MAX_SIZE)?.unwrap_or(DEFAULT_SIZE),
            statistics: statistics(&object)?,
            files: files(&object)?.map(|files| files.into_iter().map(|file| prefix.join(file)).collect()),
            overwrite: object.boolean(&OVERWRITE)?.unwrap_or(false),
            routes: object.boolean(&ROUTES)?.unwrap_or(false),
            healthcheck: match object.given(&HEALTHCHECK) {
                None => None,
                Some(options) => check::merge_or_none(None, options, &object.path(&HEALTHCHECK))?,
            },
            nginx_version: object.number(&NGINX_VERSION)?.and_then(NginxVersion::from_number),
            admin_hosts: admin_hosts(&object)?,
            prefix,
        })
    }

    /// Size of the region in bytes.
    pub fn size(&self) -> u64 {
        self.shm_size
    }

    /// The path of the region without its layout: the given one. Without one, it lies in [`Setup::own_directory`], and its name
    /// follows from nginx's prefix.
    pub fn path(&self) -> PathBuf {
        self.shm_path.clone().unwrap_or_else(|| default_directory().join(self.default_name()))
    }

    /// The directory that only this user may enter, where the region lies if no path was given. `None`: one was.
    pub fn own_directory(&self) -> Option<PathBuf> {
        self.shm_path.is_none().then(default_directory)
    }

    fn default_name(&self) -> String {
        let prefix = self.prefix.to_string_lossy();
        let readable: String = prefix
            .trim_matches('/')
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .take(48)
            .collect();
        format!("{readable}-{:08x}", crc32fast::hash(prefix.trim_end_matches('/').as_bytes()))
    }
}

/// nginx's prefix may be relative (`-p .`). Then it does not identify the nginx, and after a change of directory it names
/// another place.
fn absolute(prefix: &str) -> Result<PathBuf> {
    let whole = std::path::absolute(prefix).and_then(|path| path.canonicalize().or(Ok(path)));
    whole.map_err(|error| Error::new(Code::System, format!("setup.prefix: {}: {error}", quote(prefix.as_bytes()))))
}

fn default_directory() -> PathBuf {
    format!("/dev/shm/dyups-{}", file::effective_user()).into()
}

fn path_text<'a>(object: &Object<'a>, field: &Field) -> Result<Option<&'a str>> {
    object.text(field)?.map(|text| check_path(object, field, text)).transpose()
}

fn check_path<'a>(object: &Object<'_>, field: &Field, text: &'a str) -> Result<&'a str> {
    if text.is_empty() || text.len() > 4000 || text.chars().any(char::is_control) {
        let (path, shown) = (object.path(field), quote(text.as_bytes()));
        return Err(Error::invalid(format!("{path}: {shown}: allowed: {}", field.kind.allowed())));
    }
    Ok(text)
}

fn files<'a>(object: &Object<'a>) -> Result<Option<Vec<&'a str>>> {
    let list = match object.given(&FILES) {
        None => return Ok(None),
        Some(Value::List(list)) => list.as_slice(),
        Some(Value::Map(map)) if map.is_empty() => &[],
        Some(_) => return Ok(path_text(object, &FILES)?.map(|file| vec![file])),
    };
    list.iter()
        .map(|value| match value {
            Value::Text(text) => check_path(object, &FILES, text),
            _ => Err(refused(object, &FILES, value)),
        })
        .collect::<Result<_>>()
        .map(Some)
}

/// `admin = { hosts = { ... } }`.
fn admin_hosts(object: &Object<'_>) -> Result<Vec<String>> {
    const MOST: usize = 64;
    let Some(value) = object.given(&ADMIN) else { return Ok(Vec::new()) };
    let at = object.path(&ADMIN);
    let admin = Object::new(value, &at, &[HOSTS])?;
    let list = match admin.given(&HOSTS) {
        None => return Ok(Vec::new()),
        Some(Value::List(list)) if list.len() <= MOST => list.as_slice(),
        Some(Value::Map(map)) if map.is_empty() => &[],
        Some(other) => return Err(refused(&admin, &HOSTS, other)),
    };
    let is_name = |text: &str| {
        let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        (1..=255).contains(&text.len()) && text.bytes().all(is_byte)
    };
    list.iter()
        .map(|value| match value {
            Value::Text(text) if is_name(text) => Ok(text.to_ascii_lowercase()),
            _ => Err(refused(&admin, &HOSTS, value)),
        })
        .collect()
}

fn refused(object: &Object<'_>, field: &Field, value: &Value) -> Error {
    Error::invalid(format!("{}: {value}: allowed: {}", object.path(field), field.kind.allowed()))
}

/// `shm_size`, rounded up to whole pages.
/// The size of the file of statistics, unless they are off.
fn statistics(object: &Object<'_>) -> Result<Option<u64>> {
    let bytes = size(object, &STATS_SIZE, MIN_STATS_SIZE..=MAX_STATS_SIZE)?.unwrap_or(DEFAULT_STATS_SIZE);
    Ok(object.boolean(&STATISTICS)?.unwrap_or(true).then_some(bytes))
}

fn size(object: &Object<'_>, field: &Field, allowed: RangeInclusive<u64>) -> Result<Option<u64>> {
    let Some(value) = object.given(field) else { return Ok(None) };
    let most = *allowed.end() as f64;
    let bytes = match value {
        Value::Int(bytes) => u64::try_from(*bytes).ok(),
        Value::Float(bytes) if bytes.fract() == 0.0 && (0.0..=most).contains(bytes) => Some(*bytes as u64),
        Value::Text(text) => with_unit(text),
        _ => None,
    };
    bytes
        .filter(|bytes| allowed.contains(bytes))
        .map(|bytes| Some(bytes.next_multiple_of(PAGE as u64)))
        .ok_or_else(|| refused(object, field, value))
}

/// nginx's sizes: digits, and k, m or g in either case.
fn with_unit(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of(json: &str) -> std::result::Result<u64, String> {
        Setup::read(format!("{{\"shm_size\":{json}}}").as_bytes()).map(|s| s.size()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_size_is_bytes_or_a_text_with_a_unit() {
        for (json, bytes) in [
            ("1048576", 1 << 20),
            ("1048576.0", 1 << 20),
            (r#""512k""#, 512 << 10),
            (r#""64M""#, 64 << 20),
            (r#""4g""#, 4 << 30),
        ] {
            assert_eq!(size_of(json), Ok(bytes), "{json}");
        }
        assert_eq!(size_of("300001"), Ok(74 * 4096), "whole pages");
    }

    #[test]
    fn a_size_that_cannot_be_is_refused_by_name() {
        for json in [
            "0",
            "-1",
            "1e300",
            "262143",
            "4294967297",
            r#""""#,
            r#""m""#,
            r#""-1m""#,
            r#""64 m""#,
            r#""99999999999999999999g""#,
            "true",
            "[]",
        ] {
            let error = size_of(json).expect_err(json);
            assert!(error.starts_with("setup.shm_size: ") && error.contains("256 KiB to 4 GiB"), "{error}");
        }
    }

    #[test]
    fn the_default_name_tells_prefixes_apart() {
        let of = |prefix: &str| Setup::read(format!("{{\"prefix\":\"{prefix}\"}}").as_bytes()).expect("good").path();
        assert_eq!(of("/etc/nginx/"), of("/etc/nginx"));
        assert_ne!(of("/a/b"), of("/a-b"));
    }

    #[test]
    fn a_relative_prefix_names_the_directory_that_it_stands_for() {
        let of = |prefix: &str| Setup::read(format!("{{\"prefix\":\"{prefix}\"}}").as_bytes()).expect("good").path();
        let here = std::env::current_dir().expect("a directory");
        assert_eq!(of("./"), of(here.to_str().expect("UTF-8")));
        assert_ne!(of("./"), of("../"));
    }

    #[test]
    fn relative_paths_start_at_the_prefix() {
        let setup = Setup::read(br#"{"prefix":"/p/","shm_path":"run/x","files":["a.json","/b.conf"]}"#).expect("good");
        assert_eq!(setup.path(), PathBuf::from("/p/run/x"));
        assert_eq!(setup.files, Some(vec!["/p/a.json".into(), "/b.conf".into()]));
    }

    #[test]
    fn the_names_of_the_http_interface_are_in_lower_case() {
        let hosts = |json: &str| Setup::read(json.as_bytes()).expect("good").admin_hosts;
        assert_eq!(hosts(r#"{"admin":{"hosts":["Admin.Example","b_1"]}}"#), ["admin.example", "b_1"]);
        assert!(
            [r#"{}"#, r#"{"admin":{}}"#, r#"{"admin":{"hosts":{}}}"#].into_iter().all(|json| hosts(json).is_empty())
        );
    }

    #[test]
    fn what_is_not_known_or_no_path_is_refused() {
        for (json, field) in [
            (r#"{"shm":1}"#, "setup.shm"),
            (r#"{"shm_path":1}"#, "setup.shm_path"),
            (r#"{"shm_path":""}"#, "setup.shm_path"),
            (r#"{"shm_path":"a\u0000b"}"#, "setup.shm_path"),
            (r#"{"files":[1]}"#, "setup.files"),
            (r#"{"files":7}"#, "setup.files"),
            (r#"{"overwrite":"yes"}"#, "setup.overwrite"),
            (r#"{"routes":1}"#, "setup.routes"),
            (r#"{"nginx_version":0}"#, "setup.nginx_version"),
            (r#"{"admin":[]}"#, "setup.admin"),
            (r#"{"admin":{"host":[]}}"#, "setup.admin.host"),
            (r#"{"admin":{"hosts":"a"}}"#, "setup.admin.hosts"),
            (r#"{"admin":{"hosts":[1]}}"#, "setup.admin.hosts"),
            (r#"{"admin":{"hosts":["a:80"]}}"#, "setup.admin.hosts"),
            (r#"{"admin":{"hosts":["http://a"]}}"#, "setup.admin.hosts"),
            (r#"{"admin":{"hosts":[""]}}"#, "setup.admin.hosts"),
            ("7", "setup"),
        ] {
            let error = Setup::read(json.as_bytes()).expect_err(json).to_string();
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
    }
}
