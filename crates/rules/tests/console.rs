//! A session at the prompt of an engine, line by line what the original prints.
//!
//! `console/session.out` was written by CLIPS's own `main`, built from the sources that `clips-sys`
//! 0.4.0 brings (`cc -o clips *.c -lm`): `clips < session.input`, its banner taken away. Errors go
//! to another stream there, and are compared with what is printed by the name of each.
#![allow(clippy::unwrap_used, reason = "tests")]

use cpe_rules::{Engine, Limits};

#[test]
fn a_session_prints_what_the_original_prints() {
    let theirs = include_str!("console/session.out").replace("CLIPS> ", "");
    let mut engine = Engine::new(Limits::PROGRAM);
    let (mut ours, mut errors) = (String::new(), Vec::new());
    for line in include_str!("console/session.input").lines() {
        if line == "(exit)" {
            break;
        }
        let printed = engine.command(line).unwrap();
        // An error is one line, behind an empty one where it comes from the parser.
        let (wrong, right): (Vec<_>, Vec<_>) = printed
            .split_inclusive('\n')
            .filter(|line| *line != "\n")
            .partition(|line| line.starts_with('['));
        ours.extend(right);
        errors.extend(wrong.into_iter().map(|line| line.trim_end().to_owned()));
    }
    assert_eq!(ours, theirs);
    assert_eq!(
        errors,
        [
            "[EVALUATN1] Variable ?z is unbound.",
            "[EXPRNPSR3] Missing function declaration for 'nope'.",
            "[COMMLINE1] Expected a '(', constant, or variable.",
            "[EVALUATN1] Variable ?x is unbound.",
            "[EVALUATN1] Variable ?x is unbound.",
        ]
    );
}

#[test]
fn a_variable_lives_as_long_as_at_the_originals_prompt() {
    let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    assert_eq!(engine.command("(bind ?x 3)").unwrap(), "3\n");
    assert_eq!(engine.command("?x").unwrap(), "3\n");
    engine.reset().unwrap();
    assert!(engine.command("?x").unwrap().contains("unbound"));
}

#[test]
fn a_line_without_anything_to_read_is_silent() {
    let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    for line in ["; a comment", "", "  \t", ";\r;\n"] {
        assert_eq!(engine.command(line).unwrap(), "", "{line:?}");
    }
}
