//! `cargo xtask test`: every test of the workspace, by the fastest runner there is.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::clients::{self, Clients};
use crate::run::{Stream, answers, cargo, colour, print, say, tee};
use crate::setup;
use crate::workspace::{Root, WITHOUT_PEERS};

/// Tests that cannot run on a machine (no network namespaces, for instance) append a line
/// `name: reason` to the file this variable names, so that skipping is never silent.
const SKIPPED_VARIABLE: &str = "CPE_SKIPPED_TESTS";

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Sets up, runs all tests and doc tests, and ends with their number.
pub(crate) fn test(root: &Root) -> Result<()> {
    setup::setup(root)?;
    let skipped = root.metadata()?.target_directory.join("skipped-tests.txt");
    if skipped.exists() {
        fs::remove_file(&skipped)
            .with_context(|| format!("cannot remove {}", skipped.display()))?;
    }
    let clients = clients::get(root);
    let mut count = Count::default();
    let result = run_all(root, &skipped, &clients, &mut count);
    report_skipped(&skipped);
    print(&format!("tests: {}\n", count.shown()));
    result
}

fn run_all(root: &Root, skipped: &Path, clients: &Clients, count: &mut Count) -> Result<()> {
    let test = |args: &[&str]| {
        let mut command = cargo(root);
        command.args(args).env(SKIPPED_VARIABLE, skipped);
        if let Some(client) = &clients.client {
            command.env(clients::VARIABLE, client);
        }
        if let Some(python2) = &clients.python2 {
            command.env(clients::PYTHON2, python2);
        }
        colour(&mut command);
        command
    };
    if !answers(cargo(root).args(["nextest", "--version"])) {
        say("test: no cargo-nextest here, so plain `cargo test` runs the same tests, slower");
        let args = ["test", "--no-fail-fast"];
        return tee(test(&args).args(WITHOUT_PEERS), Stream::Out, |line| {
            count.add_libtest(line)
        });
    }
    // Doc tests first: the last thing on the screen is then the large run's summary.
    say("test: doc tests (cargo test --doc)");
    tee(
        test(&["test", "--doc"]).args(WITHOUT_PEERS),
        Stream::Out,
        |line| count.add_libtest(line),
    )?;
    say("test: unit and integration tests (cargo nextest run)");
    let args = ["nextest", "run", "--no-fail-fast"];
    tee(test(&args).args(WITHOUT_PEERS), Stream::Err, |line| {
        count.add_nextest(line)
    })
}

fn report_skipped(file: &Path) {
    let Ok(lines) = fs::read_to_string(file) else {
        return;
    };
    for line in lines.lines() {
        say(&format!("skipped here: {line}"));
    }
}

impl Count {
    fn shown(self) -> String {
        format!(
            "{} run, {} passed, {} failed, {} ignored",
            self.passed + self.failed,
            self.passed,
            self.failed,
            self.ignored
        )
    }

    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
    fn add_libtest(&mut self, line: &str) {
        let line = without_colours(line);
        if line.starts_with("test result:") {
            self.add(&line, "passed", "failed", "ignored");
        }
    }

    /// Adds a line such as `Summary [ 1.2s] 12 tests run: 11 passed (1 slow), 1 failed, 1 skipped`.
    fn add_nextest(&mut self, line: &str) {
        let line = without_colours(line);
        if line.trim_start().starts_with("Summary [") {
            self.add(&line, "passed", "failed", "skipped");
            // A test that ran out of time failed too.
            self.failed += number_before(&line, "timed");
        }
    }

    fn add(&mut self, line: &str, passed: &str, failed: &str, ignored: &str) {
        self.passed += number_before(line, passed);
        self.failed += number_before(line, failed);
        self.ignored += number_before(line, ignored);
    }
}

/// The number right before `word`, or 0.
fn number_before(line: &str, word: &str) -> u64 {
    let mut previous = "";
    for token in line
        .split([' ', ';', ',', '(', ')'])
        .filter(|token| !token.is_empty())
    {
        if token == word {
            return previous.parse().unwrap_or(0);
        }
        previous = token;
    }
    0
}

/// The line without terminal escape sequences of the form `ESC [ ... letter`.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_test_binaries_add_up() {
        let mut count = Count::default();
        count.add_libtest("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured");
        count.add_libtest("test some::name ... ok");
        count.add_libtest("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        assert_eq!(
            count,
            Count {
                passed: 15,
                failed: 2,
                ignored: 1
            }
        );
        assert_eq!(count.shown(), "17 run, 15 passed, 2 failed, 1 ignored");
    }

    #[test]
    fn a_coloured_nextest_summary_is_understood() {
        let mut count = Count::default();
        count.add_nextest(
            "\u{1b}[32;1m     Summary\u{1b}[0m [   1.3s] \u{1b}[1m9\u{1b}[0m tests run: \
             \u{1b}[1m6\u{1b}[0m \u{1b}[32mpassed\u{1b}[0m (1 slow), 2 failed, 1 timed out, \
             4 skipped",
        );
        assert_eq!(
            count,
            Count {
                passed: 6,
                failed: 3,
                ignored: 4
            }
        );
    }
}
