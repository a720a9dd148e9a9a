//! nginx's tokens: words up to a `;`, a `{` or a `}`, as `ngx_conf_read_token` takes them.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use crate::config::text;
use crate::error::{Error, Result};
use crate::quote::quote;

/// Most words of one directive: far more than a `server` has, and a bound on the memory that bad input can take.
const MAX_WORDS: usize = 64;

/// nginx's buffer: a word or a comment has to be shorter.
const BUFFER: usize = 4096;

/// A text without such a buffer may be any text that dyups has, even with each of its bytes escaped.
const BODY: usize = 64 << 10;

/// A word without its quotes and escapes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: Vec<u8>,
    /// Where it begins; the first line is 1.
    pub line: usize,
}

/// The end of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`, which ends a block and has no words before it.
    Close,
}

/// Words and their end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// At least one; none with [`End::Close`].
    pub words: Vec<Word>,
    pub end: End,
    /// Where it begins.
    pub place: Place,
}

impl Directive {
    /// Its first word.
    pub(super) fn name(&self) -> &[u8] {
        self.words.first().map_or(b"", |word| &word.text)
    }

    /// The words behind its name.
    pub(super) fn arguments(&self) -> Vec<&[u8]> {
        self.words.iter().skip(1).map(|word| word.text.as_slice()).collect()
    }

    /// An error on the line where it begins.
    pub(super) fn error(&self, message: impl fmt::Display) -> Error {
        self.place.error(message)
    }

    /// An error on the line of one of its words.
    pub(super) fn error_at(&self, word: &Word, message: impl fmt::Display) -> Error {
        Place { source: self.place.source.clone(), line: word.line }.error(message)
    }
}

/// A line of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The name of the text in messages.
    pub source: Rc<str>,
    /// The first is 1.
    pub line: usize,
}

impl Place {
    /// An error here.
    pub(super) fn error(&self, message: impl fmt::Display) -> Error {
        Error::invalid(format!("{self}: {message}"))
    }

    /// How a message at `other` calls this place.
    pub(super) fn seen_from(&self, other: &Place) -> String {
        if self.source == other.source { format!("line {}", self.line) } else { self.to_string() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.line)
    }
}

/// Goes through a text directive by directive.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    line: usize,
    source: Rc<str>,
    /// A word or a comment has to be shorter.
    longest: usize,
}

impl<'a> Reader<'a> {
    /// Messages call the text `source`. A byte order mark at its beginning is skipped.
    pub(super) fn new(text: &'a [u8], source: &str) -> Reader<'a> {
        Reader { rest: text::without_mark(text), line: 1, source: source.into(), longest: BUFFER }
    }

    /// The same of a text that is no file of nginx's.
    pub(super) fn of_body(text: &'a [u8], source: &str) -> Reader<'a> {
        Reader { longest: BODY, ..Reader::new(text, source) }
    }

    /// A reader of a text of which `rest`, which begins on `line`, was not read yet.
    pub(super) fn of_rest(rest: &'a [u8], line: usize, source: Rc<str>) -> Reader<'a> {
        Reader { rest, line, source, longest: BODY }
    }

    /// How many bytes were not read yet, and the line on which they begin.
    pub(super) fn left(&self) -> (usize, usize) {
        (self.rest.len(), self.line)
    }

    /// The first line of the text.
    pub(super) fn start(&self) -> Place {
        self.place(1)
    }

    fn place(&self, line: usize) -> Place {
        Place { source: self.source.clone(), line }
    }

    /// The next directive; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Directive>> {
        let mut words: Vec<Word> = Vec::new();
        loop {
            self.skip_space()?;
            let Some(&byte) = self.rest.first() else {
                return if words.is_empty() { Ok(None) } else { Err(self.not_ended(&words)) };
            };
            match byte {
                b';' => return self.end(words, End::Semicolon).map(Some),
                b'{' => return self.end(words, End::Open).map(Some),
                b'}' => return self.end(words, End::Close).map(Some),
                b'"' | b'\'' => words.push(self.quoted(byte)?),
                _ => words.push(self.bare()?),
            }
            if words.len() > MAX_WORDS {
                let (place, first) = (self.place(words[0].line), quote(&words[0].text));
                return Err(place.error(format_args!("{first}: allowed: at most {MAX_WORDS} words")));
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
        Ok(Directive { words, end, place: self.place(line) })
    }

    /// The error for words that no `;` ended. It is at the line where they begin: the `;` is missing near it.
    fn not_ended(&self, words: &[Word]) -> Error {
        self.place(words[0].line).error(format_args!("{} is not ended by \";\"", quote(&words[0].text)))
    }

    fn unexpected(&self) -> Error {
        self.place(self.line).error(format_args!("unexpected {}", quote(&self.rest[..self.rest.len().min(1)])))
    }

    /// Refuses a word or comment that began at `start`, on `line`, and is longer than nginx's buffer.
    fn check_length(&self, start: &[u8], line: usize) -> Result<()> {
        if start.len() - self.rest.len() < self.longest || self.rest.is_empty() {
            return Ok(());
        }
        Err(self.place(line).error(format_args!(
            "too long parameter {}: allowed: words and comments of less than {} bytes; is a quote not closed?",
            quote(&start[..10]),
            self.longest
        )))
    }

    /// Goes on by one byte.
    fn bump(&mut self) {
        if let Some((&byte, rest)) = self.rest.split_first() {
            self.line += usize::from(byte == b'\n');
            self.rest = rest;
        }
    }

    fn skip_space(&mut self) -> Result<()> {
        self.skip_some_space(usize::MAX).map(|_| ())
    }

    /// Passes whitespace and comments. A `#` begins a comment only where a word could begin. False: there may be more behind the
    /// first `most` bytes.
    pub(super) fn skip_some_space(&mut self, most: usize) -> Result<bool> {
        let end = self.rest.len().saturating_sub(most);
        while let Some(&byte) = self.rest.first() {
            match byte {
                _ if self.rest.len() < end => return Ok(false),
                b'#' => self.skip_comment()?,
                _ if is_space(byte) => self.bump(),
                _ => break,
            }
        }
        Ok(true)
    }

    fn skip_comment(&mut self) -> Result<()> {
        let start = self.rest;
        let end = start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len());
        self.rest = &start[end..];
        self.check_length(start, self.line)
    }

    /// A word in quotes. Behind it there has to be a space or an end.
    fn quoted(&mut self, mark: u8) -> Result<Word> {
        let line = self.line;
        self.bump();
        let start = self.rest;
        while let Some(&byte) = self.rest.first() {
            let text = &start[..start.len() - self.rest.len()];
            if byte == mark {
                self.check_length(start, line)?;
                self.bump();
                // Before a parenthesis nginx wants no space, for the end of "if".
                return match self.rest.first() {
                    Some(&next) if !is_space(next) && !matches!(next, b';' | b'{' | b')') => Err(self.unexpected()),
                    _ => Ok(Word { text: unescape(text), line }),
                };
            }
            self.bump();
            if byte == b'\\' {
                self.bump();
            }
        }
        Err(self.place(line).error(format_args!("a quote {} is not closed", quote(&[mark]))))
    }

    /// A word without quotes: up to a space, a `;` or a `{` that is not `${`.
    fn bare(&mut self) -> Result<Word> {
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
        self.check_length(start, line)?;
        Ok(Word { text: unescape(&start[..start.len() - self.rest.len()]), line })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Takes the backslash from the escapes that nginx knows; before any other byte it stays.
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

/// `text` as a word that is read as `text` again: in quotes where it has to be.
///
/// ```
/// use dyups::config::nginx::word;
/// assert_eq!(word("unix:/run/a.sock"), "unix:/run/a.sock");
/// assert_eq!(word("unix:/run/a;b c"), r#""unix:/run/a;b c""#);
/// assert_eq!(word("a\"\r\n"), r#""a\"\r\n""#);
/// ```
pub fn word(text: &str) -> Cow<'_, str> {
    let ends = |byte: u8| is_space(byte) || matches!(byte, b';' | b'{' | b'"' | b'\'' | b'\\');
    if !text.is_empty() && !text.starts_with(['#', '}']) && !text.bytes().any(ends) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        let escaped = match char {
            '\t' => 't',
            '\r' => 'r',
            '\n' => 'n',
            _ => char,
        };
        if escaped != char || matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(escaped);
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!(reader.next().unwrap().unwrap().place.line, 6);
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
        assert_eq!(words("\"a\")b;"), ["a", ")b"]);
    }

    #[test]
    fn a_mark_of_the_byte_order_is_skipped_at_the_beginning_alone() {
        assert_eq!(words("\u{feff}a b;"), ["a", "b"]);
        assert_eq!(words("a \u{feff}b;"), ["a", "\u{feff}b"]);
    }

    #[test]
    fn what_nginx_has_no_buffer_for_is_refused_where_it_begins() {
        let long = "x".repeat(BUFFER);
        let why = |begin: &str| {
            let hint = "allowed: words and comments of less than 4096 bytes; is a quote not closed?";
            Err(format!("f:2: too long parameter \"{begin}\": {hint}"))
        };
        assert_eq!(read(&format!("\n{long};")), why("xxxxxxxxxx"));
        assert_eq!(read(&format!("\n\"{long}\";")), why("xxxxxxxxxx"));
        assert_eq!(read(&format!("\n#{long}\na;")), why("#xxxxxxxxx"));
        let fits = &long[2..];
        assert_eq!(words(&format!("#{fits}\n{fits} '{fits}';")), [fits, fits]);
        assert_eq!(read(&format!("a;#{long}")).map(|all| all.len()), Ok(1), "nothing follows");
    }

    proptest! {
        #[test]
        fn a_word_that_is_written_is_read_as_the_same(text in r#"[ -~ö\t\n"'\\;{}#$]{0,20}"#) {
            prop_assert_eq!(words(&format!("{} {};", word(&text), word(&text))), [text.as_str(), text.as_str()]);
        }
    }

    #[test]
    fn a_directive_has_a_bounded_number_of_words() {
        assert_eq!(words(&("a ".repeat(64) + ";")).len(), 64);
        assert_eq!(read(&("a ".repeat(65) + ";")), Err("f:1: \"a\": allowed: at most 64 words".into()));
    }
}
