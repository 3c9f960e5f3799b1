//! `cargo xtask fuzz`: what comes from strangers, mutated at random and guided by what it reaches.
//!
//! A target is a binary of a crate's `fuzz` folder, on libFuzzer. Counting what code was reached
//! needs no nightly compiler: the passes of LLVM that do it are options of the stable one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::run::{capture, cargo, run, say};
use crate::setup;
use crate::workspace::Root;

/// How long a target runs when nobody says.
const SECONDS: u64 = 60;

/// How long each target runs in CI: enough to see that it works, and that no seed fails.
const SECONDS_IN_CI: u64 = 5;

/// What rustc has to do for libFuzzer, as `cargo fuzz` has it do, without its sanitizers.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions";

/// A C compiler of the folder's own that has some code counted too, if there is one.
const C_COMPILER: &str = "counted-cc.sh";

/// What a panic of Rust prints, and a crash of C does not.
const PANICKED: &str = "panicked at";

/// One target.
#[derive(Debug)]
struct Target {
    name: String,
    /// The folder of the fuzz crate.
    folder: PathBuf,
}

/// Runs the targets whose name contains the given one, or all.
pub(crate) fn fuzz(root: &Root, args: &[String]) -> Result<()> {
    let wanted = Wanted::parse(args)?;
    fuzz_for(root, &wanted)
}

/// All targets, for a few seconds each.
pub(crate) fn briefly(root: &Root) -> Result<()> {
    fuzz_for(
        root,
        &Wanted {
            name: String::new(),
            seconds: SECONDS_IN_CI,
        },
    )
}

fn fuzz_for(root: &Root, wanted: &Wanted) -> Result<()> {
    let targets = targets(root)?;
    let chosen: Vec<&Target> = targets
        .iter()
        .filter(|target| target.name.contains(&wanted.name))
        .collect();
    if chosen.is_empty() {
        let known: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        bail!(
            "no fuzz target has `{}` in its name; there are: {}",
            wanted.name,
            known.join(", ")
        );
    }
    setup::setup(root)?;
    let work = root.metadata()?.target_directory.join("fuzz");
    let mut faults = Vec::new();
    for target in chosen {
        let binary = build(root, target, &work)?;
        faults.extend(mutate(target, &binary, &work, wanted.seconds)?);
    }
    if !faults.is_empty() {
        bail!(
            "{} inputs are mishandled: {}",
            faults.len(),
            faults.join(", ")
        );
    }
    Ok(())
}

/// What the command line asks for.
#[derive(Debug)]
struct Wanted {
    /// Empty means all.
    name: String,
    seconds: u64,
}

impl Wanted {
    fn parse(args: &[String]) -> Result<Self> {
        let mut wanted = Self {
            name: String::new(),
            seconds: SECONDS,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seconds" => {
                    let number = args.next().and_then(|number| number.parse().ok());
                    wanted.seconds = number.context("`--seconds` needs a number")?;
                }
                flag if flag.starts_with('-') => {
                    bail!("`cargo xtask fuzz` knows no `{flag}`; there is --seconds N");
                }
                name if wanted.name.is_empty() => name.clone_into(&mut wanted.name),
                more => bail!("`cargo xtask fuzz` takes one name, but `{more}` came second"),
            }
        }
        Ok(wanted)
    }
}

/// Every `fuzz_targets/NAME.rs` that the manifest beside it names as a binary.
fn targets(root: &Root) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    let crates = root.join("crates");
    let listed = fs::read_dir(&crates).with_context(|| format!("cannot list {crates:?}"))?;
    for entry in listed {
        let folder = entry?.path().join("fuzz");
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else {
            continue;
        };
        targets.extend(binaries(&manifest).map(|name| Target {
            name: name.to_owned(),
            folder: folder.clone(),
        }));
    }
    targets.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    Ok(targets)
}

/// Names of the `[[bin]]` sections of a manifest.
fn binaries(manifest: &str) -> impl Iterator<Item = &str> {
    let sections = manifest.split("[[bin]]").skip(1);
    sections.filter_map(|section| {
        let mut lines = section.lines();
        let line = lines.find_map(|line| line.strip_prefix("name = "))?;
        Some(line.trim().trim_matches('"'))
    })
}

/// Builds one target; it stays apart from what is built without counting.
fn build(root: &Root, target: &Target, work: &Path) -> Result<PathBuf> {
    say(&format!("\nfuzz: building {}", target.name));
    let triple = host_triple()?;
    let mut command = cargo(root);
    command.args(["build", "--release", "--locked", "--target", &triple]);
    command.arg("--target-dir").arg(work);
    command
        .arg("--manifest-path")
        .arg(target.folder.join("Cargo.toml"));
    command.args(["--bin", &target.name]);
    command.env("RUSTFLAGS", RUSTFLAGS);
    let compiler = target.folder.join(C_COMPILER);
    if compiler.exists() {
        command.env("CC", compiler);
    }
    run(&mut command)?;
    Ok(work.join(triple).join("release").join(&target.name))
}

/// Build scripts and macros must not be counted: so rustc is told the machine it compiles for.
fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = capture(Command::new(rustc).arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say what it is for")?
        .to_owned())
}

/// Runs one target. Inputs that end it in a panic are faults and returned; those that crash C code
/// that was not written here are told and kept, where the target's options let it go on.
fn mutate(target: &Target, binary: &Path, work: &Path, seconds: u64) -> Result<Vec<String>> {
    let corpus = work.join("corpus").join(&target.name);
    let found = work.join("found").join(&target.name);
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {folder:?}"))?;
    }
    let before = files(&found)?;
    let options = target
        .folder
        .join("fuzz_targets")
        .join(format!("{}.options", target.name));
    let options = fs::read_to_string(options).unwrap_or_default();
    say(&format!("fuzz: {} for {seconds} s", target.name));
    let mut command = Command::new(binary);
    command
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg("-print_final_stats=1")
        .args(options.lines().filter(|line| !line.is_empty()))
        .env("CPE_FUZZ_SEEDS", &corpus);
    let ended = run(&mut command);
    let new: Vec<PathBuf> = files(&found)?
        .into_iter()
        .filter(|path| !before.contains(path))
        .collect();
    let mut faults = Vec::new();
    for path in new {
        if path.file_name().is_some_and(is_report) && !panics(binary, &path) {
            say(&format!(
                "fuzz: noted, no panic of ours: {}",
                path.display()
            ));
        } else {
            faults.push(path.display().to_string());
        }
    }
    match ended {
        Err(error) if faults.is_empty() && !options.contains("-ignore_crashes=1") => Err(error),
        _ => Ok(faults),
    }
}

/// Whether libFuzzer kept a file for a crash, a hang or too much memory.
fn is_report(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    ["crash-", "timeout-", "oom-", "leak-", "slow-unit-"]
        .iter()
        .any(|sort| name.starts_with(sort))
}

/// Whether an input ends the target in a panic of Rust.
fn panics(binary: &Path, input: &Path) -> bool {
    let output = Command::new(binary)
        .arg(input)
        .stdin(Stdio::null())
        .output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains(PANICKED))
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = fs::read_dir(folder).with_context(|| format!("cannot list {folder:?}"))?;
    listed.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_takes_a_name_and_a_time() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            Wanted::parse(&words)
        };
        let wanted = parse(&["--seconds", "7", "load"]).unwrap();
        assert_eq!((wanted.name.as_str(), wanted.seconds), ("load", 7));
        assert!(parse(&["load", "worker"]).is_err());
        assert!(parse(&["--seconds"]).is_err());
        assert!(parse(&["--forever"]).is_err());
    }

    #[test]
    fn every_target_of_the_crates_is_found() {
        let targets = targets(&Root::find().unwrap()).unwrap();
        let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        for name in ["load", "requests", "snapshot", "worker"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }
}
