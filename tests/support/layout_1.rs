//! A region of layout 1, as the library wrote it that had no other one. region.words has the words of it that are not 0.

#![allow(dead_code)]

use dyups::checksum::Checksum;
use dyups::shm::layout::{Shape, fixed};
use dyups::shm::region::header::{boot_id, pid_namespace};
use dyups::shm::region::{file_of, lock_of};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const WORDS: &str = include_str!("../layout_1/region.words");

fn written(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).expect("new");
    file.write_all(bytes).expect("room");
}

/// A region of layout 1 that users call `base`, made in this boot.
pub fn made(base: &Path) {
    let lock = lock_of(base);
    written(&lock, b"");
    let mut words = vec![0u64; 256 * 1024 / 8];
    let number = |text: &str| u64::from_str_radix(text, 16).expect("a hexadecimal number");
    for line in WORDS.lines() {
        let (at, line) = line.split_once(": ").expect("where they are");
        for (word, text) in words[number(at) as usize..].iter_mut().zip(line.split(' ')) {
            *word = number(text);
        }
    }
    words[fixed::BOOT..][..2].copy_from_slice(&boot_id());
    words[fixed::PID_NAMESPACE] = pid_namespace();
    words[fixed::LOCK] = std::fs::metadata(&lock).expect("there").ino();
    words[fixed::CHECKSUM] = Checksum::of(&words[..fixed::CHECKSUM]).into();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    written(&file_of(base, Shape::V1.layout), &bytes);
}
