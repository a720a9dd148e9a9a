//! nginx's tokens: words up to a `;`, a `{` or a `}`, as `ngx_conf_read_token` takes them.

use crate::config::show::quote;
use crate::error::{Error, Result};

/// Most words of one directive: far more than a `server` has, and a bound on what bad input can take of memory.
const MAX_WORDS: usize = 64;

/// A word without its quotes and escapes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: Vec<u8>,
    /// Where it begins; the first line is 1.
    pub line: usize,
}

/// What a directive ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`, which ends a block and has no words before it.
    Close,
}

/// Words and what ends them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// At least one; none with [`End::Close`].
    pub words: Vec<Word>,
    pub end: End,
    /// Where it begins.
    pub line: usize,
}

/// Goes through a text directive by directive.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
    source: &'a str,
}

/// An error on a line of `source`.
pub(super) fn error_at(source: &str, line: usize, message: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{source}:{line}: {message}"))
}

impl<'a> Reader<'a> {
    /// `source` is what messages call the text.
    pub(super) fn new(text: &'a [u8], source: &'a str) -> Reader<'a> {
        Reader { rest: text, line: 1, source }
    }

    /// The next directive; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Directive>> {
        let mut words: Vec<Word> = Vec::new();
        loop {
            self.skip_space();
            let Some(&byte) = self.rest.first() else {
                return if words.is_empty() { Ok(None) } else { Err(self.not_ended(&words)) };
            };
            match byte {
                b';' => return self.end(words, End::Semicolon).map(Some),
                b'{' => return self.end(words, End::Open).map(Some),
                b'}' => return self.end(words, End::Close).map(Some),
                b'"' | b'\'' => words.push(self.quoted(byte)?),
                _ => words.push(self.bare()),
            }
            if words.len() > MAX_WORDS {
                let (line, first) = (words[0].line, quote(&words[0].text));
                return Err(error_at(self.source, line, format!("{first}: allowed: at most {MAX_WORDS} words")));
            }
        }
    }

    fn end(&mut self, words: Vec<Word>, end: End) -> Result<Directive> {
        let line = words.first().map_or(self.line, |word| word.line);
        match (words.is_empty(), end) {
            (false, End::Close) => return Err(self.not_ended(&words)),
            (true, End::Semicolon | End::Open) => return Err(self.unexpected()),
            _ => self.bump(),
        }
        Ok(Directive { words, end, line })
    }

    /// The error for words that no `;` ended. It is at the line where they begin: the `;` is missing near it.
    fn not_ended(&self, words: &[Word]) -> Error {
        error_at(self.source, words[0].line, format!("{} is not ended by \";\"", quote(&words[0].text)))
    }

    fn unexpected(&self) -> Error {
        error_at(self.source, self.line, format!("unexpected {}", quote(&self.rest[..self.rest.len().min(1)])))
    }

    /// Goes on by one byte.
    fn bump(&mut self) {
        if let Some((&byte, rest)) = self.rest.split_first() {
            self.line += usize::from(byte == b'\n');
            self.rest = rest;
        }
    }

    /// Whitespace and comments. A `#` begins a comment only where a word could begin.
    fn skip_space(&mut self) {
        let mut comment = false;
        while let Some(&byte) = self.rest.first() {
            match byte {
                b'\n' => comment = false,
                b'#' => comment = true,
                _ if comment || is_space(byte) => {}
                _ => return,
            }
            self.bump();
        }
    }

    /// A word in quotes. Behind it there has to be a space or an end.
    fn quoted(&mut self, mark: u8) -> Result<Word> {
        let line = self.line;
        self.bump();
        let start = self.rest;
        while let Some(&byte) = self.rest.first() {
            let text = &start[..start.len() - self.rest.len()];
            self.bump();
            if byte == mark {
                return match self.rest.first() {
                    Some(&next) if !is_space(next) && !matches!(next, b';' | b'{') => Err(self.unexpected()),
                    _ => Ok(Word { text: unescape(text), line }),
                };
            }
            if byte == b'\\' {
                self.bump();
            }
        }
        Err(error_at(self.source, line, format!("a quote {} is not closed", quote(&[mark]))))
    }

    /// A word without quotes: up to a space, a `;` or a `{` that is not `${`.
    fn bare(&mut self) -> Word {
        let (start, line) = (self.rest, self.line);
        let mut variable = false;
        while let Some(&byte) = self.rest.first() {
            if is_space(byte) || byte == b';' || (byte == b'{' && !variable) {
                break;
            }
            self.bump();
            if byte == b'\\' {
                self.bump();
            }
            variable = byte == b'$' || (byte == b'{' && variable);
        }
        Word { text: unescape(&start[..start.len() - self.rest.len()]), line }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Takes the backslash from what nginx knows as an escape; before all else it stays.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match tail.first() {
            Some(&next @ (b'"' | b'\'' | b'\\')) => Some(next),
            Some(b't') => Some(b'\t'),
            Some(b'r') => Some(b'\r'),
            Some(b'n') => Some(b'\n'),
            _ => None,
        };
        match escaped {
            Some(escaped) if byte == b'\\' => {
                text.push(escaped);
                rest = &tail[1..];
            }
            _ => {
                text.push(byte);
                rest = tail;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of every directive, and its end as a character.
    fn read(text: &str) -> std::result::Result<Vec<(Vec<String>, char)>, String> {
        let mut reader = Reader::new(text.as_bytes(), "f");
        let mut all = Vec::new();
        while let Some(directive) = reader.next().map_err(|error| error.to_string())? {
            let words = directive.words.into_iter().map(|word| String::from_utf8(word.text).unwrap()).collect();
            all.push((words, [';', '{', '}'][directive.end as usize]));
        }
        Ok(all)
    }

    /// The words of the only directive in `text`.
    fn words(text: &str) -> Vec<String> {
        read(text).unwrap().remove(0).0
    }

    #[test]
    fn words_end_at_spaces_and_directives_at_marks() {
        let expected = [(vec!["a", "b"], '{'), (vec!["c"], ';'), (vec!["d"], ';'), (vec![], '}')];
        let expected = expected.map(|(words, end)| (words.into_iter().map(String::from).collect(), end));
        assert_eq!(read("a\tb{c;d\r\n;}"), Ok(expected.to_vec()));
    }

    #[test]
    fn a_comment_goes_to_the_end_of_its_line() {
        assert_eq!(words("# a;\n b # c ; # d\n e#f;"), ["b", "e#f"]);
    }

    #[test]
    fn quotes_hold_a_word_together() {
        assert_eq!(words(r#""a b;{}#" 'c "d"' "" e"f"g;"#), ["a b;{}#", "c \"d\"", "", "e\"f\"g"]);
    }

    #[test]
    fn a_backslash_escapes_as_in_nginx() {
        assert_eq!(words(r#"a\ b\;c "\"\\" \t\n\r\. '\'';"#), [r"a\ b\;c", "\"\\", "\t\n\r\\.", "'"]);
    }

    #[test]
    fn a_variable_in_braces_is_part_of_its_word() {
        assert_eq!(words("a${b}c$d;"), ["a${b}c$d"]);
        assert_eq!(read("a$b{").unwrap()[0].1, '{');
    }

    #[test]
    fn lines_are_counted_in_quotes_and_comments() {
        let mut reader = Reader::new(b"#\n'a\nb'\n\\\nc;\nd;", "f");
        let first = reader.next().unwrap().unwrap();
        assert_eq!(first.words.iter().map(|word| word.line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(reader.next().unwrap().unwrap().line, 6);
    }

    #[test]
    fn what_does_not_end_is_named_by_its_first_line() {
        assert_eq!(read("\na\nb"), Err("f:2: \"a\" is not ended by \";\"".into()));
        assert_eq!(read("\na\nb }"), Err("f:2: \"a\" is not ended by \";\"".into()));
        assert_eq!(read("\n\"a;\n\n"), Err(r#"f:2: a quote "\"" is not closed"#.into()));
        assert_eq!(read(r"'a\'"), Err(r#"f:1: a quote "'" is not closed"#.into()));
    }

    #[test]
    fn what_does_not_belong_is_unexpected() {
        assert_eq!(read("a;\n;"), Err("f:2: unexpected \";\"".into()));
        assert_eq!(read("{"), Err("f:1: unexpected \"{\"".into()));
        assert_eq!(read("\"a\"x;"), Err("f:1: unexpected \"x\"".into()));
    }

    #[test]
    fn a_directive_has_a_bounded_number_of_words() {
        assert_eq!(words(&("a ".repeat(64) + ";")).len(), 64);
        assert_eq!(read(&("a ".repeat(65) + ";")), Err("f:1: \"a\": allowed: at most 64 words".into()));
    }
}
