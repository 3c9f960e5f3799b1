//! Static limits on rule text, checked before CLIPS sees it.
//!
//! CLIPS 6.40 recurses once per parenthesis in its parser, parses one construct without a point at
//! which it could be stopped, and prints slot names into a buffer of sixty bytes. So a text is
//! measured first; what passes here can be parsed in bounded time and stack.

use crate::error::Diagnostic;

/// How large the parts of a text may be. Programs that people write are far below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VetLimits {
    /// Bytes of the whole text. 1 MiB: loading is quadratic in the number of rules.
    pub bytes: usize,
    /// Depth of parentheses.
    pub nesting: usize,
    /// Bytes of a symbol or number.
    pub token_bytes: usize,
    /// Bytes of a slot's name. 31: CLIPS 6.40 writes it, with more, into `char[60]`.
    pub slot_name_bytes: usize,
    /// Conditional elements of one rule, nested ones counted. 2 000 take 65 ms in one
    /// uninterruptible parse, 20 000 half a minute.
    pub elements: usize,
    /// Rules that the `or` elements of one rule multiply out to: CLIPS makes one for each.
    pub disjuncts: usize,
}

impl Default for VetLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            nesting: 128,
            token_bytes: 4096,
            slot_name_bytes: 31,
            elements: 64,
            disjuncts: 256,
        }
    }
}

/// Measure `text`; the first excess is the error.
///
/// Says nothing about whether the text parses: a missing parenthesis is CLIPS's to report.
///
/// # Errors
/// The part that is too large, with its line and column, under the name `file`.
pub fn vet(file: &str, text: &str, limits: &VetLimits) -> Result<(), Box<Diagnostic>> {
    let place = |line, column, message| {
        let (file, column) = (file.to_owned(), Some(column));
        Box::new(Diagnostic {
            file,
            line,
            column,
            warning: false,
            message,
        })
    };
    if text.len() > limits.bytes {
        let message = format!(
            "text has {} bytes, the limit is {}",
            text.len(),
            limits.bytes
        );
        return Err(place(1, 1, message));
    }
    let mut tokens = Tokens::new(text);
    let mut state = State {
        limits,
        frames: Vec::new(),
        elements: 0,
        disjuncts: 1,
    };
    while let Some(token) = tokens.next() {
        state
            .take(token)
            .map_err(|message| place(tokens.line, tokens.column, message))?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Open,
    Close,
    Word(&'a str),
    Text,
    Nul,
}

/// One open parenthesis.
#[derive(Default)]
struct Frame<'a> {
    head: Option<&'a str>,
    words: usize,
    children: usize,
    /// A conditional element of a rule.
    element: bool,
    past_arrow: bool,
}

struct State<'a, 'l> {
    limits: &'l VetLimits,
    frames: Vec<Frame<'a>>,
    elements: usize,
    disjuncts: usize,
}

impl<'a> State<'a, '_> {
    fn take(&mut self, token: Token<'a>) -> Result<(), String> {
        match token {
            Token::Open => self.open(),
            Token::Close => self.close(),
            Token::Word(word) => self.word(word),
            Token::Text => Ok(()),
            Token::Nul => Err("NUL byte, which CLIPS can not hold".to_owned()),
        }
    }

    fn open(&mut self) -> Result<(), String> {
        if self.frames.len() >= self.limits.nesting {
            return Err(format!("nested deeper than {}", self.limits.nesting));
        }
        let element = match self.frames.last_mut() {
            None => {
                (self.elements, self.disjuncts) = (0, 1);
                false
            }
            Some(parent) => {
                parent.children += 1;
                let in_rule = parent.head == Some("defrule") && !parent.past_arrow;
                in_rule || (parent.element && parent.head.is_some_and(is_connective))
            }
        };
        if element {
            self.elements += 1;
            if self.elements > self.limits.elements {
                return Err(format!(
                    "rule with more than {} elements",
                    self.limits.elements
                ));
            }
        }
        self.frames.push(Frame {
            element,
            ..Frame::default()
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        if frame.element && frame.head == Some("or") {
            self.disjuncts = self.disjuncts.saturating_mul(frame.children.max(1));
            if self.disjuncts > self.limits.disjuncts {
                let limit = self.limits.disjuncts;
                return Err(format!(
                    "`or` elements multiply out to more than {limit} rules"
                ));
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &'a str) -> Result<(), String> {
        if word.len() > self.limits.token_bytes {
            return Err(format!(
                "symbol longer than {} bytes",
                self.limits.token_bytes
            ));
        }
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        frame.words += 1;
        if frame.words == 1 && frame.children == 0 {
            frame.head = Some(word);
        }
        let names_slot = frame.words == 2 && frame.head.is_some_and(is_slot_keyword);
        if names_slot && word.len() > self.limits.slot_name_bytes {
            return Err(format!(
                "slot name longer than {} bytes",
                self.limits.slot_name_bytes
            ));
        }
        if depth == 1 && word == "=>" {
            frame.past_arrow = true;
        }
        Ok(())
    }
}

fn is_connective(head: &str) -> bool {
    matches!(head, "and" | "or" | "not" | "exists" | "forall" | "logical")
}

fn is_slot_keyword(head: &str) -> bool {
    matches!(
        head,
        "slot" | "multislot" | "field" | "multifield" | "single-slot" | "multi-slot"
    )
}

/// A text cut as CLIPS's scanner cuts it, as far as measuring needs.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// Place of the token last returned.
    line: u32,
    column: u32,
    next_line: u32,
    line_start: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
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

    fn skip_string(&mut self) {
        self.bump();
        while let Some(byte) = self.peek() {
            self.bump();
            match byte {
                b'"' => break,
                b'\\' => self.bump(),
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.skip_while(|byte| byte.is_ascii_whitespace());
            if self.peek() != Some(b';') {
                break;
            }
            self.skip_while(|byte| byte != b'\n');
        }
        self.line = self.next_line;
        self.column = u32::try_from(self.at - self.line_start + 1).unwrap_or(u32::MAX);
        let start = self.at;
        Some(match self.peek()? {
            0 => {
                self.bump();
                Token::Nul
            }
            b'(' => {
                self.bump();
                Token::Open
            }
            b')' => {
                self.bump();
                Token::Close
            }
            b'"' => {
                self.skip_string();
                Token::Text
            }
            b'&' | b'|' | b'~' | b'<' => {
                self.bump();
                self.skip_while(in_word);
                Token::Word(self.text.get(start..self.at).unwrap_or_default())
            }
            _ => {
                self.skip_while(in_word);
                Token::Word(self.text.get(start..self.at).unwrap_or_default())
            }
        })
    }
}

/// The word behind the first parenthesis of a command, as CLIPS's prompt reads it.
pub(crate) fn head(text: &str) -> Option<&str> {
    let mut tokens = Tokens::new(text);
    match (tokens.next()?, tokens.next()?) {
        (Token::Open, Token::Word(word)) => Some(word),
        _ => None,
    }
}

/// Whether CLIPS reads `text` as one symbol and nothing else.
pub(crate) fn is_symbol(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['?', '$', '[', '<'])
        && text
            .bytes()
            .all(|byte| in_word(byte) && !byte.is_ascii_control())
}

fn in_word(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !b"()\";&|~<\0".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Option<String> {
        vet("a.clp", text, &VetLimits::default())
            .err()
            .map(|fault| fault.to_string())
    }

    #[test]
    fn an_ordinary_program_passes() {
        let text = "; comment (((\n(deftemplate t (slot a) (multislot b))\n\
            (defrule r \"(((\" ?f <- (t (a ?x&:(> ?x 1)|3)) (not (t (a 2))) => (retract ?f))";
        assert_eq!(check(text), None);
    }

    #[test]
    fn deep_nesting_is_refused_at_its_place() {
        let text = format!("(a)\n{}", "(+ 1 ".repeat(200));
        assert_eq!(check(&text).unwrap(), "a.clp:2:641: nested deeper than 128");
    }

    #[test]
    fn parentheses_in_strings_and_comments_do_not_nest() {
        let open = "(".repeat(500);
        assert_eq!(
            check(&format!(
                "(deffacts d (a \"{open}\\\"{open}\")) ; {open}\n(b)"
            )),
            None
        );
    }

    #[test]
    fn a_long_slot_name_is_refused() {
        let text = format!("(deftemplate t (slot {}))", "s".repeat(32));
        assert_eq!(
            check(&text).unwrap(),
            "a.clp:1:22: slot name longer than 31 bytes"
        );
    }

    #[test]
    fn a_wide_rule_is_refused_also_when_its_patterns_hide_in_and() {
        let patterns = "(p ?x) ".repeat(65);
        for text in [
            format!("(defrule w {patterns} => )"),
            format!("(defrule w (and {patterns}) => )"),
            format!("( defrule w (exists (and {patterns})) => )"),
        ] {
            assert!(check(&text).unwrap().contains("more than 64 elements"));
        }
        assert_eq!(check(&format!("(defrule w (a) => {patterns})")), None);
    }

    #[test]
    fn or_elements_that_multiply_out_are_refused() {
        let text = format!("(defrule w {} => )", "(or (a) (b)) ".repeat(20));
        assert!(check(&text).unwrap().contains("more than 256 rules"));
        assert_eq!(check("(defrule w (or (a) (b)) (or (c) (d)) => )"), None);
    }

    #[test]
    fn the_head_of_a_command_is_found_where_clips_finds_it() {
        for text in ["(defrule r =>)", " ; (facts)\n (defrule r", "\n(\tdefrule"] {
            assert_eq!(head(text), Some("defrule"), "{text}");
        }
        for text in ["", "red", "((defrule))", "(", "; (defrule)"] {
            assert_eq!(head(text), None, "{text}");
        }
    }

    #[test]
    fn nul_and_size_and_long_symbols_are_refused() {
        assert!(check("(a \0)").unwrap().contains("NUL"));
        assert!(check(&"x".repeat(5000)).unwrap().contains("symbol longer"));
        assert!(
            check(&" ".repeat((1 << 20) + 1))
                .unwrap()
                .contains("bytes, the limit")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_measured_without_a_panic(text in ".*") {
            let _ = vet("x", &text, &VetLimits::default());
        }

        #[test]
        fn any_rule_like_text_is_measured_without_a_panic(text in "[()\";&|~<a \n\\\\]*") {
            let _ = vet("x", &text, &VetLimits::default());
        }
    }
}
