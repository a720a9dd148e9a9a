//! The JSON of one upstream that has so many peers that its caller does other work between two parts of it.

use super::path::path;
use super::text::without_mark;
use super::upstream::{PeerList, upstream, upstream_of};
use super::{fields, value};
use crate::bounds;
use crate::error::Result;
use crate::upstream::{MAX_PEERS, Upstream};
use std::ops::Range;

/// Bytes of a peer, at the least.
const SHORTEST_PEER: usize = 24;

/// Bytes that are looked at between two questions whether to go on.
const MOST_BYTES: usize = 64 << 10;

/// Nothing that dyups reads is as deep.
const MOST_DEPTH: usize = 64;

/// The JSON of an upstream that is read a part at a time. The result is that of [`value::parse`] and [`upstream()`].
///
/// Each value in the list `peers` is a part, and read as soon as its end is met. The rest is one part, which is read last. Where
/// a part is no JSON, all of the text is read once more, in one piece: so the message has the right line and column.
///
/// ```
/// use dyups::config::long::LongJson;
/// let text = br#"{"peers": [{"host": "10.0.0.1"}, {"host": "10.0.0.2"}]}"#.to_vec();
/// let mut json = LongJson::new("api", text, "upstream").unwrap();
/// let mut calls = 1;
/// while !json.read(&mut || false) {
///     calls += 1;
/// }
/// assert_eq!((json.finish().unwrap().peers.len(), calls), (2, 3));
/// ```
#[derive(Debug)]
pub struct LongJson {
    name: String,
    /// Its path in messages.
    at: String,
    peers_at: String,
    text: Vec<u8>,
    /// How many bytes were looked at.
    seen: usize,
    place: Place,
    peers: PeerList,
    /// The text without the peers, up to `copied`.
    rest: Vec<u8>,
    copied: usize,
    values: usize,
    /// A list of peers was met.
    has_list: bool,
    /// A part is no JSON.
    is_spoilt: bool,
}

/// Where the reader stands in the text.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// How many brackets are open.
    depth: usize,
    /// The first byte of the string that it is in.
    string: Option<usize>,
    is_escaped: bool,
    /// How much of `"peers": [` it has passed.
    key: Key,
    /// The first byte of the peer that it is in, where it is in the list of peers; and whether one was before it.
    peer: Option<(usize, bool)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Not,
    Name,
    Colon,
}

impl LongJson {
    /// Of the upstream `name`; `at` is its path in messages.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::Invalid`]: more than [`bounds::MAX_INPUT_BYTES`].
    pub fn new(name: &str, text: Vec<u8>, at: &str) -> Result<LongJson> {
        bounds::check_size(&text, "JSON")?;
        let mark = text.len() - without_mark(&text).len();
        Ok(LongJson {
            name: name.to_owned(),
            at: at.to_owned(),
            peers_at: path(at, fields::PEERS.name),
            peers: PeerList::with_capacity((text.len() / SHORTEST_PEER).min(MAX_PEERS)),
            text,
            seen: mark,
            place: Place::default(),
            rest: Vec::new(),
            copied: mark,
            values: 0,
            has_list: false,
            is_spoilt: false,
        })
    }

    /// Reads at least one peer, and goes on until `goes_on` says no. True: all of the text was read.
    pub fn read(&mut self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        while self.seen < self.text.len() && !self.is_spoilt {
            self.read_some();
            if !goes_on() {
                return self.seen == self.text.len();
            }
        }
        true
    }

    /// Looks at some bytes, up to the end of a peer.
    fn read_some(&mut self) {
        let end = self.text.len().min(self.seen + MOST_BYTES);
        while self.seen < end {
            let (at, byte) = (self.seen, self.text[self.seen]);
            self.seen += 1;
            self.values += usize::from(bounds::counts(byte));
            if self.place.string.is_some() {
                self.in_string(at, byte);
            } else if self.outside(at, byte) {
                return;
            }
        }
    }

    fn in_string(&mut self, at: usize, byte: u8) {
        let place = &mut self.place;
        match byte {
            _ if place.is_escaped => place.is_escaped = false,
            b'\\' => place.is_escaped = true,
            b'"' => {
                let is_name = |from: usize| self.text[from..at] == *fields::PEERS.name.as_bytes();
                let is_key = place.depth == 1 && place.string.is_some_and(is_name);
                (place.string, place.key) = (None, if is_key { Key::Name } else { Key::Not });
            }
            _ => {}
        }
    }

    /// A byte outside of strings. True: a peer ends here.
    fn outside(&mut self, at: usize, byte: u8) -> bool {
        let key = std::mem::take(&mut self.place.key);
        let place = &mut self.place;
        match (byte, place.peer, place.depth) {
            (b' ' | b'\t' | b'\r' | b'\n', ..) => place.key = key,
            (b':', ..) if key == Key::Name => place.key = Key::Colon,
            (b'"', ..) => place.string = Some(at + 1),
            (b',' | b']', Some((from, is_next)), 2) => {
                self.end_of_peer(from..at, byte, is_next);
                return true;
            }
            (b'[', _, 1) if key == Key::Colon => {
                (place.depth, place.peer) = (2, Some((at + 1, false)));
                self.rest.extend_from_slice(&self.text[self.copied..=at]);
                (self.copied, self.has_list) = (at + 1, true);
            }
            (b'[' | b'{', ..) => place.depth += 1,
            (b']' | b'}', ..) => place.depth = place.depth.wrapping_sub(1),
            _ => {}
        }
        self.is_spoilt |= self.place.depth > MOST_DEPTH;
        self.is_spoilt
    }

    /// The peer ends that has these bytes. Then another one follows, or the list ends.
    fn end_of_peer(&mut self, bytes: Range<usize>, byte: u8, is_next: bool) {
        let (at, json) = (bytes.end, &self.text[bytes]);
        let is_empty_list = byte == b']' && !is_next && json.trim_ascii().is_empty();
        match value::parse_checked(json) {
            Ok(value) => self.peers.add(&value, &self.peers_at),
            Err(_) => self.is_spoilt |= !is_empty_list,
        }
        match byte {
            b',' => self.place.peer = Some((at + 1, true)),
            _ => (self.place.depth, self.place.peer, self.copied) = (1, None, at),
        }
    }

    /// The upstream, once all was read.
    ///
    /// # Errors
    ///
    /// Those of [`value::parse`] and [`upstream()`].
    pub fn finish(mut self) -> Result<Upstream> {
        let in_one_piece = |text: &[u8]| upstream(&self.name, &value::parse(text)?, &self.at);
        if self.is_spoilt {
            return in_one_piece(&self.text);
        }
        bounds::check_values(self.values, "JSON")?;
        self.rest.extend_from_slice(&self.text[self.copied..]);
        match value::parse_checked(&self.rest) {
            Err(_) => in_one_piece(&self.text),
            Ok(rest) if !self.has_list => upstream(&self.name, &rest, &self.at),
            Ok(rest) => {
                let (peers, peers_at) = (self.peers, &self.peers_at);
                upstream_of(&self.name, &rest, &self.at, |_| peers.finish(peers_at))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_one_piece(text: &[u8], at: &str) -> Result<Upstream> {
        upstream("api", &value::parse(text)?, at)
    }

    /// The text, read in parts that are so many peers long, again and again.
    fn in_parts(text: &[u8], at: &str, parts: &[usize]) -> Result<Upstream> {
        let mut long = LongJson::new("api", text.to_vec(), at)?;
        for &part in parts.iter().cycle() {
            let mut left = part;
            let mut goes_on = || {
                left -= 1;
                left > 0
            };
            if long.read(&mut goes_on) {
                break;
            }
        }
        long.finish()
    }

    fn same(text: &str) {
        let text = text.as_bytes();
        assert_eq!(in_parts(text, "upstream", &[1]), in_one_piece(text, "upstream"), "{}", text.escape_ascii());
    }

    #[test]
    fn errors_come_in_the_order_in_which_they_come_from_one_piece() {
        for text in [
            r#"{"peers":[{"host":"x"},7],"method":"no"}"#,
            r#"{"peers":[{"host":"10.0.0.1"},{"host":"10.0.0.1"},7]}"#,
            r#"{"peers":[{"host":"10.0.0.1"},{"host":"10.0.0.1"}],"more":1}"#,
            r#"{"peers":[7],"healthcheck":{"fall":0}}"#,
            r#"{"peers":[7]} 8"#,
            r#"{"peers":[7,{"host":"10.0.0.1","host":"10.0.0.2"}]}"#,
            r#"{"healthcheck":{"port":81},"peers":[{"host":"unix:/a"}]}"#,
        ] {
            assert!(in_one_piece(text.as_bytes(), "upstream").is_err());
            same(text);
        }
    }

    #[test]
    fn whatever_stands_where_peers_could_is_read_as_in_one_piece() {
        for text in [
            "",
            "{}",
            "[]",
            "\u{feff}{}",
            "\u{feff}{\"peers\":[\u{feff}7]}",
            r#"{"peers":[]}"#,
            r#"{"peers":[ ]}"#,
            r#"{"peers":[,]}"#,
            r#"{"peers":[{"host":"10.0.0.1"},]}"#,
            r#"{"peers":[{"host":"10.0.0.1"} {"host":"10.0.0.2"}]}"#,
            r#"{"peers":[1},{"a":2]}"#,
            r#"{"peers":[{"host":"10.0.0.1"}"#,
            r#"{"peers":[{"host":"10.0.0.1"}],"peers":[{"host":"10.0.0.2"}]}"#,
            r#"{"\u0070eers":[{"host":"10.0.0.1"}]}"#,
            r#"{"peers" : [{"host":"unix:/],\\\"["}] , "method":"rr"}"#,
            r#"{"method":"peers","peers":{}}"#,
            r#"{"peers":{"peers":[1]}}"#,
            r#"["peers",[1]]"#,
            r#"{"a":"peers":[1]}"#,
            r#"{"peers":[[[1]]],"method":null}"#,
        ] {
            same(text);
        }
        same(&format!(r#"{{"peers":[{}1{}]}}"#, "[".repeat(126), "]".repeat(126)));
        same(&format!(r#"{{"peers":[{}1{}]}}"#, "[".repeat(125), "]".repeat(125)));
        let not_utf_8 = b"{\"peers\":[{\"host\":\"unix:/\xff\"},{\"host\":\"unix:/\xe2\x82\"}]}";
        assert_eq!(in_parts(not_utf_8, "upstream", &[1]), in_one_piece(not_utf_8, "upstream"));
    }

    #[test]
    fn more_than_is_allowed_is_refused_with_the_same_words() {
        let peers = |count: usize| format!(r#"{{"peers":[{}7]}}"#, "7,".repeat(count));
        same(&peers(MAX_PEERS));
        same(&peers(bounds::MAX_VALUES));
        let large = vec![b' '; bounds::MAX_INPUT_BYTES + 1];
        assert_eq!(
            LongJson::new("api", large.clone(), "upstream").map(|_| ()),
            in_one_piece(&large, "upstream").map(|_| ())
        );
    }

    fn any_peer() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => (0u8..9, prop::option::of(0u32..70_000)).prop_map(|(host, weight)| {
                let weight = weight.map_or(String::new(), |weight| format!(r#", "weight": {weight}"#));
                format!(r#"{{"host": "10.0.0.{host}"{weight}}}"#)
            }),
            2 => (0u8..9).prop_map(|path| format!(r#"{{"server":"unix:/{path}"}}"#)),
            1 => prop::sample::select(vec!["7", "[]", "null", "{}", "\"a,]\"", r#"{"host":"::1"}"#]).prop_map(str::to_owned),
        ]
    }

    prop_compose! {
        /// Mostly an upstream, with a byte more or less.
        fn any_text()(
            peers in prop::collection::vec(any_peer(), 0..9),
            before in prop::sample::select(vec!["", r#""method":"rr","#, r#""hash_id":5,"#, r#""peers":[],"#, "\"a\":[1],"]),
            after in prop::sample::select(vec!["", r#","healthcheck":{}"#, r#","method":null"#, ",", r#","healthcheck":{"port":1}"#]),
            space in "[ \n]{0,2}",
            spoil in prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<prop::sample::Index>())),
        ) -> Vec<u8> {
            let peers = peers.join(&format!("{space},"));
            let mut text = format!(r#"{{{before}"peers"{space}:{space}[{space}{peers}]{after}}}"#).into_bytes();
            if let Some((at, byte)) = spoil {
                let byte = *byte.get(b"[]{},:\"\\ 7\xff");
                let at = at.index(text.len());
                if byte == b'7' { text.truncate(at) } else { text.insert(at, byte) }
            }
            text
        }
    }

    proptest! {
        #[test]
        fn json_in_parts_is_what_it_is_in_one_piece(
            text in any_text(),
            at in prop::sample::select(vec!["upstream", "upstreams.api", ""]),
            parts in prop::collection::vec(1usize..5, 1..4),
        ) {
            prop_assert_eq!(in_parts(&text, at, &parts), in_one_piece(&text, at));
        }

        #[test]
        fn any_bytes_in_parts_are_what_they_are_in_one_piece(text in r#"[{}\[\]":,\\peers0 ]{0,40}"#) {
            prop_assert_eq!(in_parts(text.as_bytes(), "", &[1]), in_one_piece(text.as_bytes(), ""));
        }
    }
}
