//! A text in a stream of bytes that is not kept: Knuth, Morris and Pratt's search.

/// How much of the text the last bytes are.
#[derive(Clone, Debug)]
pub(super) struct Search {
    text: Vec<u8>,
    /// For each prefix of the text, how many bytes at its end are its beginning too.
    borders: Vec<usize>,
    matched: usize,
}

impl Search {
    pub(super) fn new(text: &[u8]) -> Search {
        let mut borders = vec![0; text.len()];
        let mut border = 0;
        for i in 1..text.len() {
            border = step(text, &borders, border, text[i]);
            borders[i] = border;
        }
        Search { text: text.to_vec(), borders, matched: 0 }
    }

    /// Whether the text was there.
    pub(super) fn is_found(&self) -> bool {
        self.matched == self.text.len()
    }

    /// Looks at the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.is_found() {
                return;
            }
            self.matched = step(&self.text, &self.borders, self.matched, byte);
        }
    }
}

/// How much of `text` is matched after `byte`, when `matched` was before, which is not all of it.
fn step(text: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    while text[matched] != byte {
        if matched == 0 {
            return 0;
        }
        matched = borders[matched - 1];
    }
    matched + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_finds_what_is_there(text in "[ab]{0,6}", pieces in prop::collection::vec("[ab]{0,9}", 0..6)) {
            let mut search = Search::new(text.as_bytes());
            pieces.iter().for_each(|piece| search.feed(piece.as_bytes()));
            prop_assert_eq!(search.is_found(), pieces.concat().contains(&text));
        }
    }
}
