//! Measures what a synced batch costs: redb against fjall against a bare file.
//!
//! ```text
//! cargo run --release -p cpe-storage --features compare --example group_commit [FOLDER]
//! ```
//!
//! Each row writes 100-byte batches for a few seconds with a fixed number of them waiting at any
//! time, as that many shards would. FOLDER chooses the disk; a new folder in it is used and
//! removed.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cpe_mesh::{Batch, Table};
use cpe_storage::Storage;
use redb::TableDefinition;

const VALUE_BYTES: usize = 100;
const TIME: Duration = Duration::from_secs(4);

/// The log is trimmed as a home group does it: entries older than this go.
const KEPT: u64 = 20_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    println!("engine    queued   batches/s   mean ms    p99 ms   bytes on disk / batch");
    for queued in [1, 50] {
        for (name, run) in [
            ("file", bare_file as fn(&Path, usize) -> Result<Figures>),
            ("redb", bare_redb_once),
            ("redb-2ph", bare_redb_twice),
            ("fjall", bare_fjall),
            ("storage", storage),
        ] {
            let folder = tempfile::tempdir_in(&folder)?;
            let before = written_bytes();
            let figures = run(folder.path(), queued)?;
            let bytes = written_bytes().saturating_sub(before);
            figures.print(name, queued, bytes);
        }
    }
    Ok(())
}

/// Latency of each group, and how many batches they held.
struct Figures {
    groups: Vec<Duration>,
    batches: usize,
    took: Duration,
}

impl Figures {
    fn print(mut self, name: &str, queued: usize, bytes: u64) {
        self.groups.sort_unstable();
        let seconds = self.took.as_secs_f64();
        let mean = self.groups.iter().sum::<Duration>().as_secs_f64() * 1e3;
        let mean = mean / self.groups.len() as f64;
        let p99 = self
            .groups
            .get(self.groups.len() * 99 / 100)
            .map_or(0.0, Duration::as_secs_f64);
        println!(
            "{name:<9} {queued:>6} {:>11.0} {mean:>9.2} {:>9.2} {:>10}",
            self.batches as f64 / seconds,
            p99 * 1e3,
            bytes / self.batches as u64,
        );
    }
}

/// Calls `group(first, count)` until the time is over.
fn groups(queued: usize, mut group: impl FnMut(u64, u64) -> Result<()>) -> Result<Figures> {
    let start = Instant::now();
    let mut figures = Figures {
        groups: Vec::new(),
        batches: 0,
        took: TIME,
    };
    while start.elapsed() < TIME {
        let begin = Instant::now();
        group(figures.batches as u64, queued as u64)?;
        figures.groups.push(begin.elapsed());
        figures.batches += queued;
    }
    figures.took = start.elapsed();
    Ok(figures)
}

/// A key as the log has it: shard, then index.
fn key(n: u64) -> Vec<u8> {
    [&((n % 256) as u16).to_be_bytes()[..], &n.to_be_bytes()].concat()
}

/// The floor: an append and an `fdatasync`.
fn bare_file(folder: &Path, queued: usize) -> Result<Figures> {
    let mut file = File::create(folder.join("log"))?;
    groups(queued, |_, count| {
        file.write_all(&vec![7; count as usize * (VALUE_BYTES + 20)])?;
        Ok(file.sync_data()?)
    })
}

fn bare_redb_once(folder: &Path, queued: usize) -> Result<Figures> {
    bare_redb(folder, queued, false)
}

fn bare_redb_twice(folder: &Path, queued: usize) -> Result<Figures> {
    bare_redb(folder, queued, true)
}

fn bare_redb(folder: &Path, queued: usize, two_phases: bool) -> Result<Figures> {
    const LOG: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("log");
    let database = redb::Database::create(folder.join("db"))?;
    groups(queued, |first, count| {
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(two_phases);
        {
            let mut table = transaction.open_table(LOG)?;
            for n in first..first + count {
                table.insert(key(n).as_slice(), &[7; VALUE_BYTES][..])?;
                if let Some(old) = n.checked_sub(KEPT) {
                    table.remove(key(old).as_slice())?;
                }
            }
        }
        Ok(transaction.commit()?)
    })
}

fn bare_fjall(folder: &Path, queued: usize) -> Result<Figures> {
    let database = fjall::Database::builder(folder.join("db")).open()?;
    let log = database.keyspace("log", fjall::KeyspaceCreateOptions::default)?;
    groups(queued, |first, count| {
        let mut batch = database
            .batch()
            .durability(Some(fjall::PersistMode::SyncData));
        for n in first..first + count {
            batch.insert(&log, key(n), [7; VALUE_BYTES]);
            if let Some(old) = n.checked_sub(KEPT) {
                batch.remove(&log, key(old));
            }
        }
        Ok(batch.commit()?)
    })
}

/// This crate, with `queued` batches in flight at any time; latency is per batch here.
fn storage(folder: &Path, queued: usize) -> Result<Figures> {
    let mut opened = Storage::open(folder)?;
    let start = Instant::now();
    let mut sent = std::collections::VecDeque::new();
    let mut figures = Figures {
        groups: Vec::new(),
        batches: 0,
        took: TIME,
    };
    let mut next = 0;
    while start.elapsed() < TIME {
        while sent.len() < queued {
            let mut batch = Batch::default();
            batch.put(Table::Log, key(next), vec![7; VALUE_BYTES]);
            if let Some(old) = next.checked_sub(KEPT) {
                batch.delete(Table::Log, key(old));
            }
            opened.storage.write(next, batch, true)?;
            sent.push_back(Instant::now());
            next += 1;
        }
        let done = opened
            .completions
            .blocking_recv()
            .ok_or("the storage has ended")?;
        done.result?;
        figures
            .groups
            .extend(sent.pop_front().map(|at| at.elapsed()));
        figures.batches += 1;
    }
    figures.took = start.elapsed();
    opened.storage.close()?;
    Ok(figures)
}

/// Bytes this process has sent to its disks, where the system counts them.
fn written_bytes() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = counters
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok())
        .unwrap_or_default()
}
