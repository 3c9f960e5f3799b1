//! A disk that has no room left.

use std::path::Path;
use std::process::{Command, Stdio};
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
