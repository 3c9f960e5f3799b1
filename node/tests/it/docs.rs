//! Every command that two pages of `docs/` print, as it is printed, and what they say comes of it.
//!
//! The blocks marked `sh` of a page are run one after the other by `bash`, which ends at the first
//! command that fails, in a folder that has `examples/` as the repository does. A block marked
//! `text` that follows one without a word between is what it writes, to the letter. Two things are
//! not taken literally: a line `cpe node ... &` is a node of the tester's, with these arguments on
//! free ports, and where the page has the API's port the node's own stands.

use std::path::Path;
use std::process::Command;

use super::harness::{Node, Ran};

/// A block of a page.
struct Block {
    mark: String,
    text: String,
    /// Whether it follows the one before without a word between.
    next: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut open, mut next) = (false, false);
    for line in page.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(mark), false) => {
                blocks.push(Block {
                    mark: mark.to_owned(),
                    text: String::new(),
                    next,
                });
                open = true;
            }
            (Some(_), true) => (open, next) = (false, true),
            (None, true) => {
                let text = &mut blocks.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            }
            (None, false) => next &= line.is_empty(),
        }
    }
    blocks
}

/// Runs a page; how many commands that were.
fn run_page(name: &str, skip: &str) -> usize {
    let page = std::fs::read_to_string(root().join("docs").join(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let examples = root().join("examples");
    std::os::unix::fs::symlink(examples, folder.path().join("examples")).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_cpe")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut node: Option<Node> = None;
    // What the block before wrote, if it was one of commands.
    let mut wrote: Option<String> = None;
    let mut ran = 0;
    for Block { mark, text, next } in blocks(&page) {
        let before = wrote.take();
        if mark == "text"
            && let Some(before) = before.filter(|_| next)
        {
            assert_eq!(
                before, text,
                "{name}: what was written, and what the page says"
            );
        }
        if mark != "sh" || text.contains(skip) {
            continue;
        }
        // What follows the start of a node is for that node.
        for part in parts(&text) {
            if let Some(args) = part.strip_prefix("cpe node") {
                let args = args.split_once('&').expect("a node in the background").0;
                let args: Vec<&str> = args.split_whitespace().collect();
                node = Some(Node::start(&args));
                continue;
            }
            let mut script = part.clone();
            let mut bash = Command::new("bash");
            if let Some(node) = &node {
                script = script.replace("localhost:8766", &node.api);
                bash.env("CPE_API", &node.api);
            }
            bash.args(["-e", "-o", "pipefail", "-c", &script]);
            bash.current_dir(folder.path());
            bash.env("PATH", format!("{}:{path}", bin.display()));
            bash.env("NO_COLOR", "1");
            let done = Ran::of(bash.output().unwrap());
            assert_eq!(done.code, Some(0), "{name}:\n{part}\n{done:#?}");
            println!("{name}: ran\n{part}{}", done.out);
            ran += part.lines().filter(|line| line.contains("cpe ")).count();
            wrote = Some(done.out);
        }
    }
    ran
}

/// The commands of a block, in parts between which nodes are started.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        let node = line.starts_with("cpe node");
        if node {
            parts.push(String::new());
        }
        let part = parts.last_mut().unwrap();
        part.push_str(line);
        part.push('\n');
        if node {
            parts.push(String::new());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[test]
fn the_commands_of_the_page_on_forests_run_as_printed() {
    // `a_second_model_is_trained_while_the_first_one_serves` runs the example.
    assert_eq!(run_page("forests.md", "examples/second_model.py"), 15);
}

#[test]
fn the_commands_of_the_page_on_sleigh_run_as_printed() {
    assert_eq!(run_page("sleigh.md", "\0"), 2);
}
