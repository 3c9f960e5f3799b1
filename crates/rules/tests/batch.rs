//! Scripts whose output people compare: to the byte what CLIPS itself prints.
//!
//! The expected outputs were written by CLIPS's own `main`, built from the sources that
//! `clips-sys` 0.4.0 brings (`cc -o clips *.c -lm`): `clips -f2 NAME.clp < NAME.input`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Stdio};

#[track_caller]
fn prints_what_the_original_prints(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/batch");
    let read = |ending: &str| std::fs::read(folder.join(format!("{name}.{ending}"))).unwrap();
    let input = std::fs::File::open(folder.join(format!("{name}.input")));
    let ran = Command::new(env!("CARGO_BIN_EXE_rules-worker"))
        .args(["batch", &format!("{name}.clp")])
        .current_dir(&folder)
        .stdin(input.map_or_else(|_| Stdio::null(), Stdio::from))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&ran.stdout), text(&read("out")));
    assert_eq!(text(&ran.stderr), text(&read("err")));
    assert_eq!(ran.status.code(), Some(0));
}

#[test]
fn a_script_that_exits() {
    prints_what_the_original_prints("ends");
}

#[test]
fn a_script_that_goes_on_at_the_prompt() {
    prints_what_the_original_prints("goes-on");
}

#[test]
fn a_script_with_objects_and_modules() {
    prints_what_the_original_prints("objects");
}

#[test]
fn the_end_of_the_input_is_the_end() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/batch");
    let ran = Command::new(env!("CARGO_BIN_EXE_rules-worker"))
        .args(["batch", "goes-on.clp"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(ran.stdout.ends_with(b"CLIPS> "));
    assert_eq!(ran.status.code(), Some(0));
}
