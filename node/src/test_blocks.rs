//! `cpe node --test-blocks FILE`: partitions on a machine where nobody may touch the network.
//!
//! The file holds peer ids, one a line. The node is kept apart from them and follows each change of
//! the file. Only this flag leads here: there is no setting and no variable for it, no help names
//! it, and a node that was given it says so in its log.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cpe::testing::{PeerId, TestBlocks};
use tokio::task::JoinHandle;

use crate::exit::Fault;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Bytes of the file at most.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Follows the file; ends when dropped.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) blocks: TestBlocks,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the file now, and again and again from now on.
///
/// # Errors
/// When it cannot be read or holds something else than peer ids.
pub(crate) fn follow(path: &Path) -> Result<Following, Fault> {
    let first = read(path).map_err(Fault::usage)?;
    tracing::warn!(
        file = %path.display(),
        blocked = first.len(),
        "this node is under test: peers named in the file are kept apart (--test-blocks)"
    );
    let blocks = TestBlocks::new();
    blocks.set(first.clone());
    let task = tokio::spawn(keep_up(path.to_owned(), first, blocks.clone()));
    Ok(Following { blocks, task })
}

async fn keep_up(path: PathBuf, mut known: BTreeSet<PeerId>, blocks: TestBlocks) {
    let mut trouble = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = read(&path);
        let before = std::mem::replace(&mut trouble, now.as_ref().err().cloned());
        match now {
            Ok(peers) if peers == known => {}
            Ok(peers) => {
                tracing::warn!(blocked = peers.len(), "peers are kept apart by a test");
                blocks.set(peers.clone());
                known = peers;
            }
            Err(why) if before.as_ref() == Some(&why) => {}
            Err(why) => tracing::error!(why, "what was blocked stays so"),
        }
    }
}

fn read(path: &Path) -> Result<BTreeSet<PeerId>, String> {
    let about = |why: &dyn std::fmt::Display| format!("--test-blocks {}: {why}", path.display());
    let file = File::open(path).map_err(|error| about(&error))?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let read = read.map_err(|error| about(&error))? as u64;
    if read > FILE_BYTES_MAX {
        return Err(about(&format_args!("more than {FILE_BYTES_MAX} bytes")));
    }
    let peer = |line: &str| {
        let parsed = line.parse();
        parsed.map_err(|error| about(&format_args!("`{line}` is no peer id ({error})")))
    };
    text.split_whitespace().map(peer).collect()
}
