//! The use of a library that a process loads by its path, as nginx does: through the C ABI alone.

use crate::support::{lock_bytes, orders, orphan, say};
use std::ffi::{CStr, CString, c_char, c_void};

/// A loaded library.
pub struct Library(*mut c_void);

#[repr(C)]
struct Text {
    data: *const c_char,
    len: usize,
}

type Change = unsafe extern "C" fn(*const c_char, usize, *const c_char, usize, u32) -> i32;

impl Library {
    pub fn load(path: &str) -> Library {
        let path = CString::new(path).expect("no NUL");
        // SAFETY: a NUL-terminated path; the code that the library runs when it is loaded is ours.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!library.is_null(), "{path:?} does not load");
        Library(library)
    }

    /// A function of the library as `F`, which is the type that dyups.h has for it.
    fn function<F: Copy>(&self, name: &CStr) -> F {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
        // SAFETY: a NUL-terminated name and an open library.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!at.is_null(), "no {name:?}");
        // SAFETY: a pointer to a function of this type, as the caller says.
        unsafe { std::mem::transmute_copy(&at) }
    }

    fn text(&self, name: &CStr) -> String {
        let function: unsafe extern "C" fn() -> *const c_char = self.function(name);
        // SAFETY: no arguments; the answer is NUL-terminated and valid until the next call.
        unsafe { CStr::from_ptr(function()) }.to_string_lossy().into_owned()
    }

    /// The code and the message where it failed.
    fn answer(&self, code: i32) -> Result<i32, String> {
        if code < 0 { Err(format!("{code} {}", self.text(c"dyups_error"))) } else { Ok(code) }
    }

    pub fn setup(&self, json: &str) -> Result<String, String> {
        let setup: unsafe extern "C" fn(*const c_char, usize) -> i32 = self.function(c"dyups_setup");
        // SAFETY: the bytes outlive the call.
        self.answer(unsafe { setup(json.as_ptr().cast(), json.len()) })?;
        Ok(self.text(c"dyups_notes").trim_end().replace('\n', "; "))
    }

    pub fn start(&self) -> Result<String, String> {
        let start: unsafe extern "C" fn() -> i32 = self.function(c"dyups_start");
        // SAFETY: no arguments.
        self.answer(unsafe { start() }).map(|slot| slot.to_string())
    }

    pub fn set(&self, name: &str, json: &str, wait_ms: u32) -> Result<String, String> {
        let set: Change = self.function(c"dyups_set_upstream");
        // SAFETY: the bytes outlive the call.
        let code = unsafe { set(name.as_ptr().cast(), name.len(), json.as_ptr().cast(), json.len(), wait_ms) };
        self.answer(code).map(|_| String::new())
    }

    pub fn status(&self) -> Result<serde_json::Value, String> {
        let status: unsafe extern "C" fn(*const c_char, usize, *mut Text) -> i32 = self.function(c"dyups_status");
        let mut text = Text { data: std::ptr::null(), len: 0 };
        // SAFETY: NULL for all, and a place for the answer.
        self.answer(unsafe { status(std::ptr::null(), 0, &mut text) })?;
        // SAFETY: the bytes that it has just answered.
        let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.len) };
        Ok(serde_json::from_slice(bytes).expect("JSON"))
    }

    /// All upstreams as one line, without the numbers that a version counts for itself.
    pub fn upstreams(&self) -> Result<String, String> {
        let mut upstreams = self.status()?["upstreams"].take();
        for upstream in upstreams.as_object_mut().expect("an object").values_mut() {
            upstream.as_object_mut().expect("an object").remove("generation");
        }
        Ok(upstreams.to_string())
    }

    pub fn names(&self) -> Result<String, String> {
        let status = self.status()?;
        let names: Vec<&str> = status["upstreams"].as_object().expect("an object").keys().map(String::as_str).collect();
        Ok(names.join(" "))
    }

    /// The indexes that keys 0 to `count` lead to.
    pub fn picks(&self, name: &str, count: usize) -> Result<String, String> {
        type Find = unsafe extern "C" fn(*mut c_void, *const c_char, usize, u32, *mut c_void, *mut c_void) -> i32;
        let open: unsafe extern "C" fn(*const c_char, usize) -> *mut c_void = self.function(c"dyups_open");
        let close: unsafe extern "C" fn(*mut c_void) = self.function(c"dyups_close");
        let find: Find = self.function(c"dyups_find");
        // SAFETY: the bytes outlive the call.
        let handle = unsafe { open(name.as_ptr().cast(), name.len()) };
        let mut picked = dyups::balance::pick::Picked::default();
        let picks = (0..count).map(|key| {
            let key = key.to_string();
            let out = (&raw mut picked).cast();
            // SAFETY: an open handle, a key that outlives the call, and the struct of the C ABI, which is the same in both.
            let code = unsafe { find(handle, key.as_ptr().cast(), key.len(), 2, std::ptr::null_mut(), out) };
            self.answer(code).map(|index| index.to_string())
        });
        let picks: Result<Vec<String>, String> = picks.collect();
        // SAFETY: open, and not used again.
        unsafe { close(handle) };
        Ok(picks?.join(" "))
    }
}

/// Carries out orders with the library that `args` names, or the one that was loaded last.
pub fn shell(args: &[String]) {
    let mut library = Library::load(&args[0]);
    say("ready");
    for order in orders() {
        let args: Vec<&str> = order[1..].iter().map(String::as_str).collect();
        let peer = |server: &str| format!("{{\"peers\":[{{\"server\":\"{server}\"}}]}}");
        let answer = match (order[0].as_str(), args.as_slice()) {
            ("load", [path]) => {
                library = Library::load(path);
                Ok(String::new())
            }
            ("setup", json) => library.setup(&json.join(" ")),
            ("start", []) => library.start(),
            ("set", [name, server]) => library.set(name, &peer(server), 1000),
            ("try", [name, server]) => library.set(name, &peer(server), 0),
            ("set_json", [name, json]) => library.set(name, json, 1000),
            ("upstreams", []) => library.upstreams(),
            ("list", []) => library.names(),
            ("picks", [name, count]) => library.picks(name, count.parse().expect("a number")),
            ("until_refused", [name]) => {
                until_refused(&library, name);
                continue;
            }
            ("orphan", []) => Ok(orphan().to_string()),
            ("hold", [byte, path]) => {
                lock_bytes(path.as_ref(), byte.parse().expect("a number"), 1);
                Ok(String::new())
            }
            ("trace", []) => {
                crate::trace::me();
                continue;
            }
            _ => panic!("no order {order:?}"),
        };
        match answer {
            Ok(value) => say(format_args!("ok {value}")),
            Err(error) => say(format_args!("err {error}")),
        }
    }
}

/// Gives a peer one weight after the other, until that is refused: the last one that was acknowledged, and the refusal.
fn until_refused(library: &Library, name: &str) {
    let (mut acknowledged, mut begun) = (0, false);
    for weight in (1..60_000).cycle() {
        match library.set(name, &format!("{{\"peers\":[{{\"server\":\"10.0.0.1:80\",\"weight\":{weight}}}]}}"), 0) {
            Ok(_) => acknowledged = weight,
            // Another process writes, perhaps the one that takes over.
            Err(error) if error.starts_with("-5 ") => {}
            Err(error) => return say(format_args!("{acknowledged} {error}")),
        }
        if !std::mem::replace(&mut begun, true) {
            say("ok begun");
        }
    }
}
