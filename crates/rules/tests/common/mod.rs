//! Random rule programs that end, or at least can be cut off anywhere.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write as _;

/// How many random cases to try: `PROPTEST_CASES` for a long run.
pub(crate) fn cases(usual: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// A small generator: the programs of a seed are the same for ever.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len() as u64) as usize]
    }
}

pub(crate) const BASE: &str = "
(defmodule MAIN (export ?ALL))
(deftemplate t (slot a) (slot b) (multislot c))
(defclass C (is-a USER) (role concrete) (pattern-match reactive) (slot v) (slot w (storage shared)))
(defglobal ?*count* = 0)
(deftemplate ref (slot to))
(deffacts start (p 0) (p 1) (q 1 2) (t (a 1) (b x)) (t (a 2) (b y) (c 1 2)) (s 9 z))
(definstances things ([c1] of C (v 1)) ([c2] of C (v 2)))
(defmodule SIDE (import MAIN ?ALL))
";

/// A program of a few rules over the relations of `BASE`.
pub(crate) fn program(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let mut text = BASE.to_owned();
    for n in 0..3 + dice.roll(4) {
        text.push_str(&rule(&mut dice, n));
    }
    text
}

fn rule(dice: &mut Dice, n: u64) -> String {
    let module = dice.pick(&["MAIN", "MAIN", "MAIN", "SIDE"]);
    let mut text = format!("(defrule {module}::r{n}");
    if dice.roll(2) == 0 {
        let _ = write!(text, " (declare (salience {}))", dice.roll(5) as i64 - 2);
    }
    let logical = dice.roll(3) == 0;
    let mut facts = Vec::new();
    let mut bound = false;
    for k in 0..1 + dice.roll(3) {
        let x = if bound {
            "?x"
        } else {
            dice.pick(&["?x", "?x", "1", "?"])
        };
        let pattern = match dice.roll(8) {
            0 | 1 => format!("(p {x})"),
            2 => format!("(q {x} ?{})", if dice.roll(2) == 0 { "y" } else { "" }),
            3 => format!("(t (a {x}))"),
            4 => format!("(t (a {x}) (c $?all))"),
            5 => format!("(s {x} $?)"),
            6 => format!("(object (is-a C) (v {x}) (name ?name{k}))"),
            _ => format!("(ref (to ?to{k})) (p {x})"),
        };
        bound |= x == "?x";
        let wrapped = match dice.roll(7) {
            0 if k > 0 => format!("(not (and {pattern}))"),
            1 if k > 0 => format!("(exists {pattern})"),
            2 if k > 0 && bound => format!("(or (and {pattern}) (p ?x))"),
            _ if logical && k == 0 => format!("(logical {pattern})"),
            _ if pattern.starts_with("(object") || pattern.contains(") (p") => pattern,
            _ => {
                facts.push(format!("?f{k}"));
                format!("?f{k} <- {pattern}")
            }
        };
        let _ = write!(text, " {wrapped}");
    }
    if bound && dice.roll(3) == 0 && !text.contains("(not") && !text.contains("(exists") {
        text.push_str(" (test (neq ?x 3))");
    }
    text.push_str(" =>");
    let x = if binds_x(&text) { "?x" } else { "1" };
    for _ in 0..1 + dice.roll(3) {
        let action = match dice.roll(13) {
            0 => format!("(assert (p (mod (+ {}  1) 5)))", number(x)),
            1 => format!("(assert (q {x} (random 0 3)))"),
            2 => format!("(assert (s {x} (gensym*)))"),
            3 => format!("(assert (t (a {x}) (b (sym-cat b {n})) (c {x} {n})))"),
            4 | 5 if !facts.is_empty() => format!("(retract {})", facts[0]),
            6 if text.contains("?f0 <- (t") => format!("(modify ?f0 (b m{n}) (c {x}))"),
            7 => "(bind ?*count* (+ ?*count* 1))".to_owned(),
            8 => format!("(make-instance (sym-cat i {}) of C (v {x}))", dice.roll(4)),
            9 => format!("(send [c1] put-v {x})"),
            10 => "(focus SIDE)".to_owned(),
            11 if !facts.is_empty() => format!("(assert (ref (to {})))", facts[0]),
            _ => "(do-for-all-facts ((?g t)) TRUE (printout t ?g:a \" \"))".to_owned(),
        };
        let _ = write!(text, " {action}");
    }
    let _ = writeln!(text, " (printout t r{n} \" \" {x} \" \" ?*count* crlf))");
    text
}

/// Whether the conditions so far bind `?x` outside of `not` and `exists`.
fn binds_x(conditions: &str) -> bool {
    let mut depth_hidden = 0_i32;
    let mut rest = conditions;
    while let Some(at) = rest.find(['(', ')', '?']) {
        let found = &rest[at..];
        if found.starts_with("(not") || found.starts_with("(exists") {
            depth_hidden = 1;
        } else if depth_hidden > 0 && found.starts_with('(') {
            depth_hidden += 1;
        } else if depth_hidden > 0 && found.starts_with(')') {
            depth_hidden -= 1;
        } else if depth_hidden == 0 && found.starts_with("?x") {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

fn number(x: &str) -> String {
    format!("(if (integerp {x}) then {x} else 0)")
}

/// Text that looks like rules from afar: words of CLIPS, nested at random.
pub(crate) fn text(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let mut text = String::new();
    for _ in 0..1 + dice.roll(8) {
        form(&mut dice, 0, &mut text);
        text.push('\n');
    }
    text
}

const HEADS: &[&str] = &[
    "defrule",
    "deftemplate",
    "deffacts",
    "defglobal",
    "deffunction",
    "defgeneric",
    "defmethod",
    "defclass",
    "definstances",
    "defmessage-handler",
    "defmodule",
    "slot",
    "multislot",
    "default",
    "type",
    "range",
    "declare",
    "salience",
    "test",
    "and",
    "or",
    "not",
    "exists",
    "forall",
    "logical",
    "object",
    "is-a",
    "name",
    "assert",
    "retract",
    "modify",
    "duplicate",
    "bind",
    "if",
    "while",
    "loop-for-count",
    "progn$",
    "foreach",
    "do-for-all-facts",
    "find-all-facts",
    "switch",
    "case",
    "return",
    "break",
    "make-instance",
    "send",
    "+",
    "/",
    "eq",
    "str-cat",
    "create$",
    "funcall",
    "sort",
    "printout",
    "gensym*",
    "call-next-handler",
    "focus",
    "export",
    "import",
    "p",
    "q",
    "t",
    "C",
    "f",
    "m",
];

const WORDS: &[&str] = &[
    "r",
    "p",
    "q",
    "t",
    "C",
    "f",
    "m",
    "x",
    "a",
    "MAIN",
    "USER",
    "?ALL",
    "=>",
    "<-",
    "?x",
    "?y",
    "$?z",
    "?",
    "$?",
    "?*g*",
    "&",
    "|",
    "~",
    ":",
    "=",
    "?x&:(> ?x 1)",
    "?x&~?y",
    "1",
    "-7",
    "2.5",
    "1e300",
    "9223372036854775807",
    "\"text\"",
    "nil",
    "TRUE",
    "[i]",
    "of",
    "then",
    "else",
    "do",
    "?self",
    "?self:x",
    "primary",
    "before",
    "SYMBOL",
    "INTEGER",
    "crlf",
    "FACT-ADDRESS",
];

fn form(dice: &mut Dice, depth: u32, text: &mut String) {
    text.push('(');
    text.push_str(if depth == 0 && dice.roll(4) > 0 {
        dice.pick(&HEADS[..11])
    } else {
        dice.pick(HEADS)
    });
    for _ in 0..dice.roll(6) {
        text.push(' ');
        if depth < 6 && dice.roll(2) == 0 {
            form(dice, depth + 1, text);
        } else {
            text.push_str(dice.pick(WORDS));
        }
    }
    // Now and then one is left open, or closed twice.
    match dice.roll(40) {
        0 => {}
        1 => text.push_str("))"),
        _ => text.push(')'),
    }
}
