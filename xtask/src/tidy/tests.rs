//! Each rule on an input that breaks it, and on one that only looks like it.

use super::crates::{Papers, check_changelog, check_dependencies, check_papers};
use super::*;
use crate::workspace::Package;

fn errors(path: &str, content: &str) -> Vec<String> {
    let mut report = Report::default();
    text::check(path, content, &mut report);
    report.errors
}

#[track_caller]
fn broken(path: &str, content: &str, what: &str) {
    let errors = errors(path, content);
    assert!(errors.len() == 1 && errors[0].contains(what), "{errors:?}");
}

#[track_caller]
fn fine(path: &str, content: &str) {
    assert_eq!(errors(path, content), Vec::<String>::new());
}

#[test]
fn a_line_of_101_columns_is_told_with_its_place() {
    fine("a.rs", &"é".repeat(100));
    broken(
        "a.rs",
        &format!("\n{}", "é".repeat(101)),
        "a.rs:2: 101 columns",
    );
    fine(
        "a.rs",
        &format!("// https://example.org/{}", "a".repeat(101)),
    );
    fine("a.md", &"a".repeat(101));
}

#[test]
fn left_overs_are_found_in_code_and_in_prose() {
    broken("a.rs", "    todo!()", "left-over");
    broken("a.md", "FIXME: write this", "left-over");
    broken("a.toml", "description = \"PLACEHOLDER\"", "left-over");
    fine("a.sh", "mktemp cpe.XXXXXX");
}

#[test]
fn a_clock_in_a_pure_crate_is_found_but_not_in_its_tests_comments_or_neighbours() {
    broken(
        "crates/space/src/lib.rs",
        "let t = Instant::now();",
        "take `now`",
    );
    broken(
        "crates/mesh/src/a.rs",
        "use std::collections::HashMap;",
        "BTreeMap",
    );
    broken("crates/sim/src/a.rs", "async fn go() {}", "no async");
    fine(
        "crates/space/src/lib.rs",
        "//! Never calls Instant::now, see tokio",
    );
    fine(
        "crates/space/src/lib.rs",
        "let t = now; // not Instant::now()",
    );
    fine(
        "crates/space/src/lib.rs",
        "#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}",
    );
    fine("crates/space/src/log/tests.rs", "use std::fs;");
    fine("crates/network/src/lib.rs", "let t = Instant::now();");
}

#[test]
fn code_after_a_declared_test_file_is_still_the_products() {
    let content = "#[cfg(test)]\nmod tests;\nuse std::collections::HashMap;";
    broken("crates/space/src/lib.rs", content, "space/src/lib.rs:3");
}

#[test]
fn the_archived_codec_is_named_in_one_file_only() {
    fine("crates/tuple/src/codec.rs", "serde_cbor::to_vec(value)");
    broken(
        "crates/mesh/src/wire.rs",
        "serde_cbor::to_vec(value)",
        "cpe_tuple::codec",
    );
    fine("crates/mesh/src/wire.rs", "/// Not serde_cbor directly.");
}

#[test]
fn unsafe_code_is_for_the_rules_crate_only() {
    fine("crates/rules/src/raw.rs", "unsafe { CreateEnvironment() }");
    broken(
        "node/src/main.rs",
        "    unsafe { exit(0) }",
        "outside crates/rules",
    );
    fine("node/src/main.rs", "#[arg(long = \"unsafe\")]");
}

#[test]
fn paths_of_one_machine_and_registry_hosts_are_found() {
    broken("a.rs", "File::open(\"/tmp/x\")", "machine's own");
    broken("a.md", "see /work/notes", "machine's own");
    fine("a.md", "cpe node --data /tmp/one");
    fine("a.rs", "a.join(\"frame/work/x\")");
    fine("crates/cpe/tests/it.rs", "File::open(\"/tmp/x\")");
    broken(
        "deny.toml",
        "unknown = \"https://crates.io\"",
        "registry host",
    );
}

#[test]
fn a_file_of_a_thousand_lines_is_a_warning() {
    let mut report = Report::default();
    text::check("a.rs", &"\n".repeat(1000), &mut report);
    assert!(report.errors.is_empty());
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let mut report = Report::default();
    let page =
        "[a](here.md#part) [b](https://example.org) [c](#top)\n[d](gone.md)\n```\n[e](x)\n```";
    text::check_links(
        "README.md",
        page,
        &|target| target == "here.md",
        &mut report,
    );
    assert_eq!(
        report.errors,
        ["README.md:2: the link to `gone.md` leads nowhere"]
    );
}

fn package(name: &str, dependencies: &[&str]) -> Package {
    Package {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        description: "A crate with a description".to_owned(),
        folder: PathBuf::new(),
        dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
        benches: Vec::new(),
    }
}

#[test]
fn a_crate_uses_only_what_is_below_it() {
    let check = |name, dependencies: &[&str]| {
        let mut report = Report::default();
        check_dependencies(&package(name, dependencies), &mut report);
        report.errors
    };
    assert!(check("cpe-mesh", &["cpe-tuple", "cpe-space", "serde"]).is_empty());
    assert_eq!(check("cpe-tuple", &["cpe-mesh"]).len(), 1);
    assert_eq!(check("cpe-mesh", &["serde_cbor"]).len(), 1);
    assert!(check("cpe-tuple", &["serde_cbor"]).is_empty());
    assert_eq!(check("cpe-unknown", &[]).len(), 1);
}

#[test]
fn a_crate_without_papers_is_told_so() {
    let check = |papers: &Papers| {
        let mut report = Report::default();
        check_papers(
            &package("cpe-mesh", &[]),
            "crates/mesh",
            papers,
            &mut report,
        );
        report.errors.len()
    };
    let good = || Papers {
        has_readme: Some(true),
        top: "//! The mesh.".to_owned(),
        manifest: "[lints]\nworkspace = true".to_owned(),
    };
    assert_eq!(check(&good()), 0);
    assert_eq!(
        check(&Papers {
            has_readme: Some(false),
            ..good()
        }),
        1
    );
    assert_eq!(
        check(&Papers {
            has_readme: None,
            ..good()
        }),
        0
    );
    assert_eq!(
        check(&Papers {
            top: "mod a;".to_owned(),
            ..good()
        }),
        1
    );
    assert_eq!(
        check(&Papers {
            manifest: String::new(),
            ..good()
        }),
        1
    );
}

#[test]
fn the_changelog_names_the_current_version() {
    let check = |changelog: &str| {
        let mut report = Report::default();
        check_changelog("0.1.0", changelog, &mut report);
        report.errors.len()
    };
    assert_eq!(check("# Changelog\n\n## 0.1.0 (unreleased)\n"), 0);
    assert_eq!(check("## [0.1.0] - 2026-11-22"), 0);
    assert_eq!(check("Version 0.1.0 is not out yet"), 1);
}
