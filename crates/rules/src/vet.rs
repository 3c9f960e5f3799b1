//! Static limits on rule text, checked before CLIPS sees it.
//!
//! CLIPS 6.40 recurses once per parenthesis in its parser, parses one construct without a point at
//! which it could be stopped, and prints slot names into a buffer of sixty bytes. So a text is
//! measured first; what passes here can be parsed in bounded time and stack.

mod measure;
mod scan;

use crate::error::Diagnostic;
use measure::Measure;
use scan::{Token, Tokens, in_word};

/// How large the parts of a text may be. Programs that people write are far below: of some three
/// hundred public ones the largest condition has 160 words, and 30 in one pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VetLimits {
    /// Bytes of the whole text. 1 MiB: loading is quadratic in the number of rules.
    pub bytes: usize,
    /// Depth of parentheses.
    pub nesting: usize,
    /// Bytes of a symbol or number.
    pub token_bytes: usize,
    /// Bytes of a string. 64 KiB: CLIPS copies a string for every 80 bytes of it that it has read,
    /// and is at one of a quarter of a megabyte for four seconds.
    pub string_bytes: usize,
    /// Bytes of a slot's name. 31: CLIPS 6.40 writes it, with more, into `char[60]`.
    pub slot_name_bytes: usize,
    /// Slots of one template or class. 512: with 3 000 a class takes five seconds.
    pub slots: usize,
    /// Words of one construct other than deffacts and definstances: symbols, numbers, strings and
    /// variables. 65 536 take two seconds.
    pub words: usize,
    /// Variables of one construct, and cases of its switches: CLIPS looks for each among those
    /// before it. 4 096 take a second, 16 384 sixteen.
    pub variables: usize,
    /// Conditional elements of one rule, nested ones counted. 2 000 take 65 ms in one
    /// uninterruptible parse, 20 000 half a minute.
    pub elements: usize,
    /// Words of one rule's conditions. 512: the same variable 1 000 times takes a second, 4 000
    /// times sixteen.
    pub condition_words: usize,
    /// Words of one pattern, those in calls not counted.
    pub fields: usize,
    /// Multifield variables and wildcards of one pattern beyond the first in each slot: each is
    /// one more place at which a fact's fields can be divided, and all ways are tried.
    pub multifields: usize,
    /// Rules that the `or` elements of one rule make of it: CLIPS compiles each.
    pub disjuncts: usize,
    /// Words of conditions in all of those together.
    pub expanded_words: usize,
}

impl Default for VetLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            nesting: 128,
            token_bytes: 4096,
            string_bytes: 64 << 10,
            slot_name_bytes: 31,
            slots: 512,
            words: 65_536,
            variables: 4096,
            elements: 64,
            condition_words: 512,
            fields: 128,
            multifields: 8,
            disjuncts: 256,
            expanded_words: 8192,
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
    let mut measure = Measure::new(limits);
    while let Some(token) = tokens.next() {
        measure
            .take(token)
            .map_err(|message| place(tokens.line, tokens.column, message))?;
    }
    Ok(())
}

/// The word behind the first parenthesis of a command, as CLIPS's prompt reads it.
pub(crate) fn head(text: &str) -> Option<&str> {
    let mut tokens = Tokens::new(text);
    match (tokens.next()?, tokens.next()?) {
        (Token::Open, Token::Word(word)) => Some(word),
        _ => None,
    }
}

/// Whether CLIPS would find anything in `text`.
pub(crate) fn is_blank(text: &str) -> bool {
    Tokens::new(text).next().is_none()
}

/// Whether CLIPS reads `text` as one symbol and nothing else.
pub(crate) fn is_symbol(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['?', '$', '[', '<']) && text.bytes().all(in_word)
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
        let inside = "(or (a) (b)) ".repeat(9);
        let text = format!("(defrule w (and (c) (not (and {inside}))) => )");
        assert!(check(&text).unwrap().contains("more than 256 rules"));
        assert_eq!(check("(defrule w (or (a) (b)) (or (c) (d)) => )"), None);
        // Alternatives add up: 60 rules, not 4 to the power of 15.
        let text = format!("(defrule w (or {}) => )", "(or (a) (b)) ".repeat(20));
        assert_eq!(check(&text), None);
    }

    #[test]
    fn or_elements_that_repeat_long_conditions_are_refused() {
        let text = format!(
            "(defrule w {} (p {}) => )",
            "(or (a) (b)) ".repeat(8),
            "?x ".repeat(64)
        );
        assert!(check(&text).unwrap().contains("more than 8192 words"));
    }

    #[test]
    fn an_arrow_that_is_the_name_of_a_rule_is_not_its_arrow() {
        for (conditions, told) in [
            ("(or (a) (b)) ".repeat(14), "more than 256 rules"),
            ("(p ?x) ".repeat(3000), "more than 64 elements"),
        ] {
            for begin in [
                "=>",
                "=> \"comment\"",
                "x (declare (salience 1))",
                "x \"=>\"",
            ] {
                let text = format!("(defrule {begin} {conditions} => )");
                let found = check(&text).unwrap_or_else(|| panic!("{begin} passes"));
                assert!(found.contains(told), "{found}");
            }
        }
        let calls = "(printout t x) ".repeat(100);
        for text in [
            format!("(defrule => (a) => {calls})"),
            format!("(defrule => => {calls})"),
            format!("(defrule r \"=>\" (a)=>{calls})"),
        ] {
            assert_eq!(check(&text), None);
        }
    }

    #[test]
    fn a_pattern_with_many_fields_is_refused() {
        for pattern in [
            format!("(a {})", "?x ".repeat(200)),
            format!("(a (s {}))", "?x ".repeat(200)),
            format!("(a {})", "(s ?x) ".repeat(70)),
            format!("(a b{})", "|c".repeat(200)),
        ] {
            let text = format!("(defrule r (z) (not {pattern}) => )");
            assert!(check(&text).unwrap().contains("more than 128 fields"));
        }
        let long = format!(
            "(defrule r {} => )",
            "(a ?x ?x ?x ?x ?x ?x ?x ?x ?x)".repeat(60)
        );
        assert!(check(&long).unwrap().contains("more than 512 words"));
        let test = format!("(defrule r (a ?x&:(> {})) => )", "?x ".repeat(200));
        assert_eq!(check(&test), None);
    }

    #[test]
    fn a_pattern_that_divides_facts_in_many_places_is_refused() {
        for pattern in [
            "(a $? $? $? $? $? $? $? $? $? $?)",
            "(a $?a x $?b x $?c&:(f $?c) x $?d x $?e $?f $?g $?h $?i $?j)",
            "(a (s $? $? $? $? $?) (t $? $? $? $? $?) (u $? $?))",
        ] {
            let text = format!("(defrule r {pattern} => )");
            assert!(check(&text).unwrap().contains("more than 8 `$?`"));
        }
        // One for each slot divides nothing.
        let text = format!("(defrule r (a {}) => )", "(s $?) ".repeat(20));
        assert_eq!(check(&text), None);
    }

    #[test]
    fn a_long_string_and_many_slots_and_a_long_construct_are_refused() {
        let string = format!("(deffacts d (a \"{}\"))", "x".repeat(70_000));
        assert!(check(&string).unwrap().contains("string longer"));
        let slots: String = (0..600).map(|n| format!("(slot s{n})")).collect();
        for construct in ["deftemplate t", "defclass c (is-a USER)"] {
            let text = format!("({construct} {slots})");
            assert!(check(&text).unwrap().contains("more than 512 slots"));
        }
        let calls = "(assert (a 1 2))".repeat(17_000);
        // CLIPS goes on with the inner construct after a fault of the outer one.
        for begin in [
            "(deffunction f ()",
            "(deffacts d (deffunction f ()",
            "(progn",
        ] {
            let text = format!("{begin} {calls})");
            assert!(check(&text).unwrap().contains("more than 65536 words"));
        }
        let variables: String = (0..5000).map(|n| format!("(bind ?x{n} 1)")).collect();
        let cases: String = (0..5000).map(|n| format!("(case {n} then 1)")).collect();
        for construct in [
            format!("(defrule r => {variables})"),
            format!("(deffunction f (?x) (switch ?x {cases}))"),
        ] {
            assert!(
                check(&construct)
                    .unwrap()
                    .contains("more than 4096 variables")
            );
        }
        let facts = format!("(deffacts d {})", "(a 1 2)".repeat(20_000));
        assert_eq!(check(&facts), None);
    }

    #[test]
    fn a_rule_is_measured_also_inside_another_construct() {
        let patterns = "(p ?x) ".repeat(65);
        for text in [
            format!("(deffacts d (defrule w {patterns} => )"),
            format!("(defrule v => (defrule w {patterns} => )"),
            format!("(defrule v (defrule w {patterns} => ) => )"),
        ] {
            assert!(check(&text).unwrap().contains("more than 64 elements"));
        }
    }

    #[test]
    fn a_limit_holds_behind_a_comment_that_ends_at_a_carriage_return() {
        let deep = format!(
            "; comment \r{}1{}",
            "(+ 1 ".repeat(100_000),
            ")".repeat(100_000)
        );
        assert!(check(&deep).unwrap().contains("nested deeper"));
        let slot = format!(";x\r(deftemplate t (slot {}))", "s".repeat(300));
        assert!(check(&slot).unwrap().contains("slot name longer"));
    }

    #[test]
    fn bytes_at_which_clips_stops_are_refused_where_it_would_see_them() {
        assert!(check("(a) \x03 (b)").unwrap().contains("byte 3"));
        assert!(check("(a b\x03)").unwrap().contains("byte 3"));
        assert_eq!(check("(a \"\x03\") ; \x03"), None);
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
