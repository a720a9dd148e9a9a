//! The inside of a block that is so long that its caller does other work between two parts of it.

use super::block::Block;
use super::reading::Reading;
use super::tokens::{Place, Reader};
use crate::config::text;
use crate::error::Result;
use crate::upstream::{MAX_PEERS, Upstream, name};
use crate::version::NginxVersion;
use std::rc::Rc;

/// Bytes of a `server` line, at the least.
const SHORTEST_LINE: usize = 16;

/// Whitespace that is passed at once.
const MOST_SPACE: usize = 64 << 10;

/// The inside of a block that is read a part at a time. The result is that of [`super::block()`].
///
/// ```
/// use dyups::config::nginx::LongBlock;
/// let text = b"server 10.0.0.1;\nserver 10.0.0.2;".to_vec();
/// let mut block = LongBlock::new("api", text, "body", None).unwrap();
/// let mut calls = 1;
/// while !block.read(&mut || false).unwrap() {
///     calls += 1;
/// }
/// assert_eq!((block.finish().unwrap().0.peers.len(), calls), (2, 3));
/// ```
pub struct LongBlock {
    text: Vec<u8>,
    /// How many bytes of it were not read yet, and the line on which they begin.
    left: (usize, usize),
    source: Rc<str>,
    block: Block,
    reading: Reading<'static>,
}

impl LongBlock {
    /// Of the upstream `name`, for the nginx at hand. Messages call the text `source`.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: as for the text and the name of [`super::block()`].
    pub fn new(name: &str, text: Vec<u8>, source: &str, nginx: Option<NginxVersion>) -> Result<LongBlock> {
        crate::bounds::check_size(&text, source)?;
        let name = name::check(name.as_bytes())?.to_string();
        let servers = (text.len() / SHORTEST_LINE).min(MAX_PEERS);
        Ok(LongBlock {
            left: (text::without_mark(&text).len(), 1),
            text,
            source: source.into(),
            block: Block::with_capacity(name, servers),
            reading: Reading::new(nginx),
        })
    }

    /// Reads at least one line, and goes on until `goes_on` says no. True: all lines were read.
    ///
    /// # Errors
    ///
    /// As [`super::block()`]. Then there is nothing more to read.
    pub fn read(&mut self, goes_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        let (left, line) = self.left;
        let mut reader = Reader::of_rest(&self.text[self.text.len() - left..], line, self.source.clone());
        loop {
            if reader.skip_some_space(MOST_SPACE)? && !self.block.next(&mut reader, None, &mut self.reading)? {
                return Ok(true);
            }
            if !goes_on() {
                self.left = reader.left();
                return Ok(false);
            }
        }
    }

    /// The upstream, once all lines were read, and warnings for a log.
    ///
    /// # Errors
    ///
    /// As [`super::block()`].
    pub fn finish(mut self) -> Result<(Upstream, Vec<String>)> {
        let start = Place { source: self.source, line: 1 };
        let upstream = self.block.finish(&start, &mut self.reading)?;
        Ok((upstream, self.reading.into_warnings()))
    }
}

impl std::fmt::Debug for LongBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongBlock").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::block;
    use super::*;
    use proptest::prelude::*;

    /// The text, read in parts whose lengths are `parts`, again and again.
    fn in_parts(text: &[u8], parts: &[usize]) -> Result<(Upstream, Vec<String>)> {
        let mut long = LongBlock::new("api", text.to_vec(), "body", None)?;
        let mut parts = parts.iter().cycle();
        loop {
            let mut left = *parts.next().expect("one at least");
            let mut goes_on = || {
                left = left.saturating_sub(1);
                left > 0
            };
            if long.read(&mut goes_on)? {
                return long.finish();
            }
        }
    }

    #[test]
    fn whitespace_and_comments_are_passed_in_parts_too() {
        let text =
            format!("{}\n# {}\n server 10.0.0.1;{}", " ".repeat(300_000), "x".repeat(5000), "\n".repeat(200_000));
        let mut long = LongBlock::new("api", text.clone().into_bytes(), "body", None).unwrap();
        let mut calls = 1;
        while !long.read(&mut || false).unwrap() {
            calls += 1;
        }
        assert!(calls > 7, "{calls}");
        assert_eq!(long.finish(), block("api", text.as_bytes(), "body", None));
    }

    prop_compose! {
        fn any_line()(
            line in prop_oneof![
                8 => (0u8..4, 0u16..3, "( weight=[0-9]{1,5})?( backup| down)?").prop_map(|(host, port, more)| {
                    let port = if port == 0 { String::new() } else { format!(":{port}") };
                    format!("server 10.0.0.{host}{port}{more};")
                }),
                1 => Just("hash $uri consistent;".to_string()),
                1 => Just("keepalive 16;".to_string()),
                1 => Just("check interval=1000;".to_string()),
                1 => Just("# a comment".to_string()),
                1 => Just("server unix:/a;".to_string()),
                1 => "[a-z ;{}\"'$#]{0,12}",
            ],
            end in prop::sample::select(vec!["\n", " ", "\r\n", "\n\n", ""]),
        ) -> String {
            line + end
        }
    }

    proptest! {
        #[test]
        fn a_block_in_parts_is_what_it_is_in_one_piece(
            lines in prop::collection::vec(any_line(), 0..24),
            mark: bool,
            parts in prop::collection::vec(1usize..7, 1..4),
        ) {
            let text = format!("{}{}", if mark { "\u{feff}" } else { "" }, lines.concat());
            prop_assert_eq!(in_parts(text.as_bytes(), &parts), block("api", text.as_bytes(), "body", None));
        }

        #[test]
        fn any_bytes_in_parts_are_what_they_are_in_one_piece(bytes: Vec<u8>, parts in prop::collection::vec(1usize..4, 1..3)) {
            prop_assert_eq!(in_parts(&bytes, &parts), block("api", &bytes, "body", None));
        }
    }
}
