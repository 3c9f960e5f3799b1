//! A text cut into tokens where CLIPS 6.40 cuts it.
//!
//! Follows `GetToken` of its `scanner.c` byte for byte, since a limit that is measured on other
//! tokens than those which are parsed is none: a comment ends at a carriage return too, `?` that
//! no letter follows is a token by itself, and any control character ends a symbol. What a number
//! is does not matter here, and what a string says neither.

/// What [`Tokens`] yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Open,
    Close,
    /// A symbol, number, instance name, variable or wildcard.
    Word(&'a str),
    /// `&`, `|` or `~`.
    Connective,
    /// A string, with its quotes.
    Text(&'a str),
    /// A byte that CLIPS takes for the end of what it reads: 0 or 3.
    Stop(u8),
    /// A control character, which is no token of CLIPS's.
    Unprintable,
}

/// The tokens of a text, with the place of the one last yielded.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    pub(super) line: u32,
    pub(super) column: u32,
    next_line: u32,
    line_start: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
            column: 1,
            next_line: 1,
            line_start: 0,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn bump(&mut self) {
        if self.peek() == Some(b'\n') {
            self.next_line = self.next_line.saturating_add(1);
            self.line_start = self.at + 1;
        }
        self.at += 1;
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&keep) {
            self.bump();
        }
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            self.skip_while(is_blank);
            if self.peek() != Some(b';') {
                return;
            }
            self.skip_while(|byte| byte != b'\n' && byte != b'\r');
        }
    }

    fn skip_string(&mut self) {
        self.bump();
        while let Some(byte) = self.peek() {
            self.bump();
            match byte {
                b'"' => break,
                b'\\' if self.peek().is_some() => self.bump(),
                _ => {}
            }
        }
    }

    /// A `?` is a wildcard, and ends there, unless a name follows that may be one of a variable.
    fn skip_variable(&mut self) {
        self.bump();
        let named = |byte: u8| byte.is_ascii_alphabetic() || byte == b'*' || !byte.is_ascii();
        if self.peek().is_some_and(named) {
            self.skip_while(in_word);
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks_and_comments();
        self.line = self.next_line;
        self.column = u32::try_from(self.at - self.line_start + 1).unwrap_or(u32::MAX);
        let start = self.at;
        let first = self.peek()?;
        match first {
            b'"' => self.skip_string(),
            b'?' => self.skip_variable(),
            b'$' => {
                self.bump();
                if self.peek() == Some(b'?') {
                    self.skip_variable();
                } else {
                    self.skip_while(in_word);
                }
            }
            // One symbol may begin with it, and none contain it.
            b'<' => {
                self.bump();
                self.skip_while(in_word);
            }
            _ if in_word(first) => self.skip_while(in_word),
            _ => self.bump(),
        }
        let token = self.text.get(start..self.at).unwrap_or_default();
        Some(match first {
            b'(' => Token::Open,
            b')' => Token::Close,
            b'"' => Token::Text(token),
            b'&' | b'|' | b'~' => Token::Connective,
            0 | 3 => Token::Stop(first),
            _ if first.is_ascii_control() => Token::Unprintable,
            _ => Token::Word(token),
        })
    }
}

/// Not all that Unicode, or even ASCII, calls white space.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\x0c' | b'\r' | b'\t')
}

pub(super) fn in_word(byte: u8) -> bool {
    !byte.is_ascii_control() && !b" ()\";&|~<".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{HaltHandle, Limits};
    use crate::raw::{Env, Scanned};

    fn seen(token: Token<'_>) -> Scanned {
        match token {
            Token::Open => Scanned::Open,
            Token::Close => Scanned::Close,
            Token::Word(text) => Scanned::Word(text.to_owned()),
            Token::Connective => Scanned::Connective,
            Token::Text(_) => Scanned::Text,
            Token::Stop(_) => Scanned::Stop,
            Token::Unprintable => Scanned::Unprintable,
        }
    }

    /// Which of these are numbers is none of our business.
    fn as_number(token: Scanned) -> Scanned {
        match token {
            Scanned::Word(text) if text.starts_with(|c: char| "+-.0123456789".contains(c)) => {
                Scanned::Number
            }
            other => other,
        }
    }

    #[track_caller]
    fn assert_cut_alike(text: &str) {
        let mut ours: Vec<_> = Tokens::new(text).map(seen).map(as_number).collect();
        ours.extend([Scanned::Stop, Scanned::Stop]);
        let mut env = Env::new(Limits::AGENT, HaltHandle::new());
        let theirs = env.scan(text, ours.len()).into_iter().map(as_number);
        assert_eq!(ours, theirs.collect::<Vec<_>>(), "{text:?}");
    }

    #[test]
    fn a_text_is_cut_where_clips_cuts_it() {
        for text in [
            ";\r(a)",
            "; x \r\n(b) ; y\n;z",
            "a\x0bb\x0cc\x7fd\x01e",
            "a\x03b\0c \"\x03\0\" ; \x03\0\n d",
            "?x?y ?1 ?? ?*g* ?* ?*a ?é $?x $?1 $? $x $ $?*g* ?_ ?-",
            "<= <<a a<b <",
            "a=>b => =>(?f<-(p)) ?=> $?=>",
            "?x&:(f)|~3&=(g)",
            "\"a\\\"b\\\\\" \"c\nd\" [i] [] [i]j",
            "1 -1 +1.5e3 1e 1e+ .5 . + - -a 1a 1<2 1\"s\"",
            "é \u{a0}x \u{2028} 日本?x",
            "\"open",
            "\"open\\",
            "",
        ] {
            assert_cut_alike(text);
        }
    }

    /// Texts of the characters that mean something to the scanner, and a few others.
    const SPECIAL: &str = concat!(
        "[()\"\\\\;&|~<>=?$*a1.eE+\\-\\[\\] ",
        "\n\r\t\x0b\x0c\x08\x7f\x01\x03\0é:]{0,40}"
    );

    proptest! {
        #[test]
        fn any_text_is_cut_where_clips_cuts_it(text in SPECIAL) {
            assert_cut_alike(&text);
        }

        #[test]
        fn a_text_of_any_characters_is_cut_where_clips_cuts_it(text in "(?s).{0,40}") {
            assert_cut_alike(&text);
        }
    }
}
