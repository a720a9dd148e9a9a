//! One call of the library, and all that comes before it.

use super::driver::Driver;
use super::image::{BASE, Image};
use std::path::Path;

/// Stands for the path of the region in a call.
pub const PATH: &str = "@region@";

#[derive(Clone, Debug)]
pub struct Operation {
    /// For messages.
    pub name: String,
    /// The files before the process starts.
    pub base: Image,
    /// The earlier calls of the process.
    pub before: Vec<String>,
    /// The leavings of another process since then.
    pub crash: Option<Image>,
    /// The call under test.
    pub call: String,
    /// It stores without a lock.
    pub unlocked: bool,
    /// It is refused.
    pub fails: bool,
    /// It is looked at in `make test` too.
    pub short: bool,
}

impl Operation {
    /// `call` in a process that found `base` and called `before`.
    pub fn new(name: impl Into<String>, base: &Image, before: &[String], call: impl Into<String>) -> Operation {
        let (name, before, call) = (name.into(), before.to_vec(), call.into());
        Operation { name, base: base.clone(), before, crash: None, call, unlocked: false, fails: false, short: false }
    }

    pub fn unlocked(self) -> Operation {
        Operation { unlocked: true, ..self }
    }

    pub fn fails(self) -> Operation {
        Operation { fails: true, ..self }
    }

    pub fn short(self) -> Operation {
        Operation { short: true, ..self }
    }

    pub fn after_crash(self, image: &Image) -> Operation {
        Operation { crash: Some(image.clone()), ..self }
    }

    /// The function of the C ABI, without dyups_.
    pub fn function(&self) -> &str {
        self.call.split('\t').next().expect("a function")
    }

    /// The call with the region in `dir`.
    pub fn call_in(&self, dir: &Path) -> String {
        here(&self.call, dir)
    }

    /// A process that is about to make the call, in `dir`.
    pub fn prepare(&self, dir: &Path) -> Driver {
        self.base.place(dir);
        let mut driver = Driver::start();
        for call in &self.before {
            driver.ok(&here(call, dir));
        }
        if let Some(image) = &self.crash {
            image.place(dir);
        }
        driver
    }
}

/// The files after a process has found `base` and made these calls, in `dir`.
pub fn image_after(dir: &Path, base: &Image, calls: &[String]) -> Image {
    drop(Operation::new("what comes before", base, calls, "").prepare(dir));
    Image::of(dir)
}

fn here(call: &str, dir: &Path) -> String {
    call.replace(PATH, dir.join(BASE).to_str().expect("UTF-8"))
}
