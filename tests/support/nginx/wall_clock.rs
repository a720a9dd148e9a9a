//! A wall clock that a test sets. The clock that counts from the boot, by which timers go, is left alone.

use super::place::Place;
use std::path::PathBuf;

/// The wall clock of one nginx, by libfaketime.
#[derive(Clone)]
pub struct WallClock {
    /// The shift of the time, in libfaketime's words.
    file: PathBuf,
}

impl WallClock {
    /// One that shows the time.
    pub fn new(place: &Place) -> WallClock {
        WallClock { file: place.write("clock", "+0") }
    }

    /// Sets it back by a day.
    pub fn set_back_a_day(&self) {
        // In one step: the file is read at each look at the clock.
        let new = self.file.with_extension("new");
        std::fs::write(&new, "-1d").expect("write");
        std::fs::rename(new, &self.file).expect("rename");
    }

    /// The environment of nginx.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("FAKETIME_DISABLE_SHM", "1".into()),
        ]
    }

    /// Directives that hand it on to the workers.
    pub fn directives(&self) -> String {
        self.environment().map(|(name, _)| format!("env {name};\n")).concat()
    }
}

fn library() -> PathBuf {
    let of_the_machine = std::fs::read_dir("/usr/lib").expect("it is there");
    let mut found = of_the_machine.flatten().map(|dir| dir.path().join("faketime/libfaketime.so.1"));
    found.find(|path| path.is_file()).expect("libfaketime: make deps installs it")
}
