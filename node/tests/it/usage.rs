//! Wrong usage: exit status 2, and a message that helps.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::harness::{Ran, cpe, run};

#[test]
fn an_unknown_flag_is_named_with_the_nearest_right_one() {
    run(&["node", "--listne", "/ip4/127.0.0.1/tcp/0"])
        .code(2)
        .says("--listen");
}

#[test]
fn an_unknown_command_is_named_with_the_nearest_right_one() {
    run(&["spaec", "list"]).code(2).says("space");
}

#[test]
fn commands_that_are_not_there_yet_are_unknown() {
    for args in [
        &["mesh", "invite"][..],
        &["mesh", "revoke", "x"],
        &["mesh", "recover"],
        &["map"],
        &["bench"],
    ] {
        run(args).code(2);
    }
}

/// Nobody comes by what parts nodes for tests who does not look for it.
#[test]
fn the_flag_that_parts_nodes_is_for_tests_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blocked");
    let path = file.to_str().unwrap();
    let node = |args: &[&str]| {
        let data = folder.path().join("data");
        let data = data.to_str().unwrap();
        run(&[&["node", "--data", data, "--test-blocks"], args].concat())
    };
    node(&[path]).code(2).says("No such file");
    std::fs::write(&file, "nobody").unwrap();
    node(&[path]).code(2).says("`nobody` is no peer id");
    std::fs::write(&file, " ".repeat(100_000)).unwrap();
    node(&[path]).code(2).says("more than 65536 bytes");

    for args in [&["node", "--help"][..], &["config", "show"]] {
        let said = run(args).code(0).out;
        assert!(!said.contains("blocks"), "{said}");
    }
}

#[test]
fn a_malformed_multiaddr_is_refused_with_a_right_one() {
    for address in ["nonsense", "/ip4/1.2.3/tcp/1", "127.0.0.1:4710", ""] {
        run(&["node", "--listen", address])
            .code(2)
            .says("/ip4/127.0.0.1/tcp/4710");
        run(&["node", "--bootstrap", address]).code(2);
    }
}

#[test]
fn a_wrong_value_template_or_time_is_refused() {
    run(&["space", "store", "w", "x", "[1,"])
        .code(2)
        .says("VALUE");
    run(&["space", "out", "w", "17"])
        .code(2)
        .says("a tuple is an array");
    run(&["space", "rd", "w", "[{\"?\":\"integer\"}]"])
        .code(2)
        .says("unknown kind");
    run(&["space", "find", "w", "x", "--timeout", "10"])
        .code(2)
        .says("10s");
    run(&["space", "find", "w", "x", "--timeout", "25h"])
        .code(2)
        .says("at most 24h");
    let ran = run(&["space", "store", "w", "x", "{\"a\":"]).code(2);
    let said = "error: VALUE: not JSON at line 1, column 5: EOF while parsing a value\n";
    assert_eq!(ran.err, said);
    for address in ["here", "here:", ":1", "here:port", "http://here"] {
        run(&["space", "list", "--api", address])
            .code(2)
            .says("write it as HOST:PORT");
    }
    run(&["space", "declare", "w", "x", "filo"])
        .code(2)
        .says("fifo, lifo, multi or single");
    run(&["space", "store", "", "x", "1"])
        .code(2)
        .says("needs a name");
    run(&["node", "--capability", "gpu"])
        .code(2)
        .says("KEY=VALUE");
    run(&["node", "--capability", "a=1", "--capability", "a=2"])
        .code(2)
        .says("given twice");
    run(&["node", "--nws", "here"]).code(2).says("off");
}

#[test]
fn an_argument_that_is_no_text_is_refused() {
    let value = OsStr::from_bytes(b"caf\xe9");
    let mut command = cpe();
    let output = command
        .args(["space", "store", "w", "x"])
        .arg(value)
        .output()
        .unwrap();
    Ran::of(output)
        .code(2)
        .says("not UTF-8 text: `caf\u{fffd}`")
        .says("--file");
}

#[test]
fn without_a_node_the_command_says_how_to_start_one() {
    // Port 1 is privileged and unused.
    let ran = run(&["space", "list", "--api", "127.0.0.1:1"]).code(4);
    assert_eq!(
        ran.err,
        "error: no node answers at 127.0.0.1:1: start one with `cpe node` or pass --api\n"
    );
    assert_eq!(ran.out, "");
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]).code(0);
        assert!(ran.out.contains("fetch-try"), "{shell}");
    }
    run(&["completions", "tcsh"]).code(2);
}

#[test]
fn help_fits_the_terminal_and_tells_the_exit_status() {
    let ran = run(&["--help"]).code(0);
    assert!(ran.out.contains("Exit status: 0 done"));
    assert!(
        ran.out.lines().all(|line| line.chars().count() <= 100),
        "{}",
        ran.out
    );
}

#[test]
fn the_version_is_told() {
    let ran = run(&["--version"]).code(0);
    assert_eq!(ran.out, format!("cpe {}\n", env!("CARGO_PKG_VERSION")));
}
