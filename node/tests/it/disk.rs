//! A disk that has no room left.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::harness::{Node, Ran, cpe};

/// Mounts a file system of twelve megabytes that only the node sees, fills it with `$2` bytes, and
/// starts the node there.
const SCRIPT: &str = "mount -t tmpfs -o size=12m tmpfs \"$1\" || exit 99
head -c \"$2\" /dev/zero > \"$1/other\" 2>/dev/null
exec \"$0\" node --json --api 127.0.0.1:0 --listen /ip4/127.0.0.1/tcp/0 --data \"$1/data\"";

/// A command that starts a node on such a disk; none, and the test reported, where it may not be.
fn on_a_small_disk(test: &str, folder: &Path, taken: &str) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c"]).stdin(Stdio::null());
    let mut probe = Command::new("unshare");
    probe.args(["-Urm", "sh", "-c", "mount -t tmpfs tmpfs \"$0\""]);
    let why = match probe.arg(folder).output() {
        Ok(output) if output.status.success() => {
            for name in std::env::vars_os().map(|(name, _)| name) {
                if name.to_string_lossy().starts_with("CPE_") {
                    command.env_remove(name);
                }
            }
            command.arg(SCRIPT).arg(cpe().get_program());
            command.arg(folder).arg(taken);
            return Some(command);
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    super::namespaces::skipped(test, why.trim());
    None
}

#[test]
fn a_node_does_not_start_on_a_full_disk_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let test = "a_node_does_not_start_on_a_full_disk_and_says_why";
    let Some(mut command) = on_a_small_disk(test, folder.path(), "16000000") else {
        return;
    };
    let ran = Ran::of(command.output().unwrap()).code(1);
    let ran = ran.says("No space left on device").says("cannot");
    assert_eq!(ran.out, "", "it never was ready");
}

#[test]
fn a_disk_that_fills_up_ends_the_node_with_a_clear_error() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let test = "a_disk_that_fills_up_ends_the_node_with_a_clear_error";
    let Some(command) = on_a_small_disk(test, folder.path(), "600000") else {
        return;
    };
    let node = Node::run_as_it_is(command, Arc::clone(&folder));
    let value = format!("\"{}\"", "x".repeat(60_000));
    // A first segment of the log fits, and a second does not.
    let refused = (0..300).find(|_| {
        let ran = node.cpe(&["space", "store", "w", "x", &value, "--timeout", "20s"]);
        ran.code != Some(0)
    });
    assert!(refused.is_some(), "the disk took everything");
    let (status, log) = node.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    for part in [
        "the node stopped by itself",
        "No space left on device",
        "free space",
    ] {
        assert!(log.contains(part), "{part:?} is not in {log}");
    }
}

/// A file system of 64 megabytes that only those see who enter its namespaces. It ends with this.
struct SmallDisk {
    /// Reads its standard input, and ends with it.
    holder: Child,
}

impl SmallDisk {
    /// None, and the test reported, where it may not be.
    fn at(test: &str, folder: &Path) -> Option<Self> {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o size=64m tmpfs \"$0\" && echo mounted && read -r _";
        command.args(["-Urm", "sh", "-c", script]).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = match command.stderr(Stdio::piped()).spawn() {
            Ok(holder) => holder,
            Err(error) => {
                super::namespaces::skipped(test, &error.to_string());
                return None;
            }
        };
        let mut line = String::new();
        let out = holder.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            let output = holder.wait_with_output().unwrap();
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            super::namespaces::skipped(test, why.trim());
            return None;
        }
        Some(Self { holder })
    }

    /// A command that sees the disk.
    fn command(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.holder.id().to_string();
        command.args(["--target", &target, "--user", "--mount"]);
        command.arg("--preserve-credentials").arg(program);
        for name in std::env::vars_os().map(|(name, _)| name) {
            if name.to_string_lossy().starts_with("CPE_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    fn node(&self, folder: &Path) -> Command {
        let mut command = self.command(cpe().get_program());
        command.args(["node", "--json", "--api", "127.0.0.1:0"]);
        command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--data"]);
        command.arg(folder.join("data"));
        command
    }

    fn sh(&self, script: &str, folder: &Path) {
        let mut command = self.command("sh".as_ref());
        let status = command.args(["-c", script]).arg(folder).status();
        assert!(status.unwrap().success(), "{script}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

#[test]
fn a_node_whose_disk_was_full_goes_on_with_all_it_acknowledged_once_there_is_room() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let test = "a_node_whose_disk_was_full_goes_on_with_all_it_acknowledged_once_there_is_room";
    let Some(disk) = SmallDisk::at(test, folder.path()) else {
        return;
    };
    disk.sh("head -c 54900000 /dev/zero > \"$0/other\"", folder.path());
    let node = Node::run_as_it_is(disk.node(folder.path()), Arc::clone(&folder));
    let value = |n: usize| format!("\"{n}-{}\"", "x".repeat(60_000));
    let mut stored = Vec::new();
    let refused = (0..400).find(|n| {
        let store = ["space", "store", "w", "x", &value(*n), "--timeout", "20s"];
        let ran = node.cpe(&store);
        if ran.code == Some(0) {
            stored.push(*n);
        }
        ran.code != Some(0)
    });
    let refused = refused.expect("the disk is full at last");
    let (status, log) = node.ended();
    assert_eq!(status.code(), Some(1), "{log}");

    disk.sh("rm \"$0/other\"", folder.path());
    let node = Node::run_as_it_is(disk.node(folder.path()), Arc::clone(&folder));
    node.cpe(&["space", "store", "w", "x", "\"after\""]).code(0);
    let mut found = Vec::new();
    loop {
        let ran = node.cpe(&["space", "fetch-try", "w", "x", "--timeout", "20s"]);
        if ran.code == Some(3) {
            break;
        }
        let ran = ran.code(0);
        let text = ran.out.trim().trim_matches('"');
        if text == "after" {
            continue;
        }
        let (n, rest) = text.split_once('-').expect("it is one of those stored");
        assert_eq!(rest.len(), 60_000, "a value is not whole");
        found.push(n.parse::<usize>().unwrap());
    }
    // What was refused may have been stored: its end was not known.
    assert!(found.iter().all(|n| *n <= refused), "{found:?}");
    found.retain(|n| *n != refused);
    assert_eq!(found, stored);
    assert!(node.stop().success());
}
