//! Rules about the text of single files.

use super::Report;

/// Columns of a Rust source line, as in rustfmt.toml; it leaves comments and strings alone.
const LINE_COLUMNS_MAX: usize = 100;

/// Lines. A longer file may be one story, but deserves the question.
const FILE_LINES_LIKELY_MAX: usize = 900;

/// Crates whose outputs follow from their inputs alone.
const PURE_CRATES: [&str; 6] = ["tuple", "consensus", "membership", "space", "mesh", "sim"];

/// What would make a pure crate depend on something else than its inputs.
const IMPURE: [(&str, &str); 11] = [
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime::now", "take time as an argument"),
    (
        "thread_rng",
        "take a seeded random number generator as an argument",
    ),
    (
        "rand::rng()",
        "take a seeded random number generator as an argument",
    ),
    ("HashMap", "its order differs between runs; use BTreeMap"),
    ("HashSet", "its order differs between runs; use BTreeSet"),
    ("async fn", "a pure crate has no async code"),
    ("async move", "a pure crate has no async code"),
    ("tokio", "a pure crate knows no runtime"),
    ("std::fs", "a pure crate touches no files"),
    ("std::net::Tcp", "a pure crate opens no sockets"),
];

/// What must not stay in a finished change.
const LEFT_OVERS: [&str; 6] = [
    "todo!(",
    "dbg!(",
    "unimplemented!(",
    "FIXME",
    "XXX",
    "PLACEHOLDER",
];

/// Folders of one particular machine. The first two are nobody's example.
const MACHINE_PATHS: [&str; 4] = ["/work/", "/root/", "/home/", "/tmp/"];

/// Hosts of package registries. A machine behind a mirror has others.
const REGISTRY_HOSTS: [&str; 4] = ["crates.io", "pypi.org", "pythonhosted.org", "npmjs.com"];

/// The forms in which the keyword opens something; the bare word may be part of a sentence.
const UNSAFE_FORMS: [&str; 6] = [
    "unsafe {",
    "unsafe fn",
    "unsafe impl",
    "unsafe trait",
    "unsafe extern",
    "#[unsafe(",
];

/// Checks one file. `path` is relative to the workspace, with `/`.
pub(super) fn check(path: &str, text: &str, report: &mut Report) {
    // One is written by cargo, the others consist of what they look for.
    if path.ends_with("Cargo.lock") || path.starts_with("xtask/src/tidy") {
        return;
    }
    let is_rust = path.ends_with(".rs");
    let mut region = Region::new(path);
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let in_tests = region.is_test(line);
        check_words(path, number, line, in_tests, is_rust, report);
        if is_rust {
            check_code(path, number, line, in_tests, report);
        }
    }
    let lines = text.lines().count();
    if is_rust && lines > FILE_LINES_LIKELY_MAX {
        report.warnings.push(format!(
            "{path}: {lines} lines, more than {FILE_LINES_LIKELY_MAX}; is it still one story?"
        ));
    }
}

/// Rules for every kind of text.
fn check_words(
    path: &str,
    number: usize,
    line: &str,
    in_tests: bool,
    is_rust: bool,
    report: &mut Report,
) {
    for left_over in LEFT_OVERS {
        if contains_word(line, left_over) {
            report.error(path, number, &format!("left-over `{left_over}`"));
        }
    }
    for host in REGISTRY_HOSTS {
        if line.contains(host) {
            report.error(path, number, &format!("names the registry host `{host}`"));
        }
    }
    // In prose and in tests a path under the home or temporary folder may be a fair example.
    let paths = if is_rust && !in_tests {
        &MACHINE_PATHS[..]
    } else {
        &MACHINE_PATHS[..2]
    };
    for machine_path in paths.iter().filter(|_| !in_tests) {
        if contains_word(line, machine_path) {
            report.error(
                path,
                number,
                &format!("names the machine's own `{machine_path}`"),
            );
        }
    }
}

/// Rules for Rust sources.
fn check_code(path: &str, number: usize, line: &str, in_tests: bool, report: &mut Report) {
    let columns = line.chars().count();
    // A URL cannot be wrapped.
    if columns > LINE_COLUMNS_MAX && !line.contains("://") {
        let what = format!("{columns} columns, more than {LINE_COLUMNS_MAX}");
        report.error(path, number, &what);
    }
    let code = without_comment(line);
    let home = crate_of(path);
    if !in_tests && home.is_some_and(|name| PURE_CRATES.contains(&name)) {
        for (word, instead) in IMPURE {
            if code.contains(word) {
                let what = format!("`{word}` in a crate without clock, entropy or I/O: {instead}");
                report.error(path, number, &what);
            }
        }
    }
    let is_codec =
        path == "crates/tuple/src/codec.rs" || path.starts_with("crates/tuple/src/codec/");
    if code.contains("serde_cbor") && !is_codec {
        let what = "`serde_cbor` outside crates/tuple/src/codec.rs; use `cpe_tuple::codec`";
        report.error(path, number, what);
    }
    if home != Some("rules") && UNSAFE_FORMS.iter().any(|form| code.contains(form)) {
        report.error(path, number, "`unsafe` outside crates/rules");
    }
}

/// Checks that the relative links of a Markdown page lead somewhere.
pub(super) fn check_links(
    path: &str,
    text: &str,
    exists: &dyn Fn(&str) -> bool,
    report: &mut Report,
) {
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        for rest in line.split("](").skip(1).filter(|_| !fenced) {
            let Some((link, _)) = rest.split_once(')') else {
                continue;
            };
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') && !exists(target) {
                report.error(
                    path,
                    index + 1,
                    &format!("the link to `{target}` leads nowhere"),
                );
            }
        }
    }
}

/// Tells test code from the product's, line by line.
struct Region {
    all: bool,
    after_attribute: bool,
    inside: bool,
}

impl Region {
    fn new(path: &str) -> Self {
        let all = path.ends_with("tests.rs")
            || ["/tests/", "/benches/", "/examples/"]
                .iter()
                .any(|part| path.contains(part));
        Self {
            all,
            after_attribute: false,
            inside: false,
        }
    }

    /// By convention a file's test module is its last item, so it lasts to the end.
    fn is_test(&mut self, line: &str) -> bool {
        let line = line.trim();
        if line == "#[cfg(test)]" {
            self.after_attribute = true;
        } else if self.after_attribute && !line.starts_with("#[") {
            self.inside |= line.contains("mod ") && line.ends_with('{');
            self.after_attribute = false;
        }
        self.all || self.inside
    }
}

/// `tuple` of `crates/tuple/src/lib.rs`.
fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

/// The line up to a comment. A string with ` // ` in it is cut as well: good enough for a rule
/// that looks for words of code.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

/// Whether `word` occurs and is not the tail of a longer word.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        let tail_is_word = word.ends_with(joins);
        !(before.is_some_and(joins) || tail_is_word && after.is_some_and(joins))
    })
}
