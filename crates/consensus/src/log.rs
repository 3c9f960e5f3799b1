//! The entries a member keeps, by index.

use std::collections::VecDeque;

use crate::Entry;

/// Entries after `base`: the first one has the index `base + 1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log<E> {
    base: u64,
    entries: VecDeque<E>,
    /// Index of the entry that ends the epoch, if it is known.
    seal: Option<u64>,
}

impl<E: Entry> Log<E> {
    pub(crate) fn new(base: u64, entries: Vec<E>) -> Self {
        let mut log = Self {
            base,
            entries: VecDeque::new(),
            seal: None,
        };
        log.append(entries);
        log
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn len(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn seal(&self) -> Option<u64> {
        self.seal
    }

    pub(crate) fn get(&self, index: u64) -> Option<&E> {
        let offset = index.checked_sub(self.base)?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The entries after an index, which must not be below the base.
    pub(crate) fn after(&self, index: u64) -> impl Iterator<Item = &E> {
        debug_assert!(index >= self.base, "the log begins later");
        self.entries.iter().skip(self.offset(index))
    }

    /// Copies of the entries after an index.
    pub(crate) fn suffix(&self, index: u64) -> Vec<E> {
        self.after(index).cloned().collect()
    }

    /// Bytes of the entries after an index.
    pub(crate) fn bytes_after(&self, index: u64) -> usize {
        self.after(index)
            .fold(0, |sum, entry| sum.saturating_add(entry.size()))
    }

    /// Copies of entries after an index: as many as fit, but at least one if there is any.
    pub(crate) fn chunk(&self, index: u64, bytes: usize) -> Vec<E> {
        let mut chunk = Vec::new();
        let mut sum: usize = 0;
        for entry in self.after(index) {
            sum = sum.saturating_add(entry.size());
            if sum > bytes && !chunk.is_empty() {
                break;
            }
            chunk.push(entry.clone());
        }
        chunk
    }

    pub(crate) fn append(&mut self, entries: Vec<E>) {
        for entry in entries {
            self.push(entry);
        }
    }

    pub(crate) fn push(&mut self, entry: E) {
        let seals = entry.seals();
        self.entries.push_back(entry);
        if seals && self.seal.is_none() {
            self.seal = Some(self.len());
        }
    }

    /// Forgets the entries after an index.
    pub(crate) fn truncate(&mut self, index: u64) {
        self.entries.truncate(self.offset(index));
        if self.seal.is_some_and(|seal| seal > self.len()) {
            self.seal = None;
        }
    }

    /// The state at an index is of this epoch still: a seal at or before it was not decided.
    pub(crate) fn unseal(&mut self, index: u64) {
        if self.seal.is_some_and(|seal| seal <= index) {
            self.seal = None;
        }
    }

    /// Forgets the entries up to an index, of which the state is held instead.
    pub(crate) fn rebase(&mut self, index: u64) {
        if index > self.base {
            let gone = self.offset(index).min(self.entries.len());
            self.entries.drain(..gone);
            self.base = index;
        }
    }

    fn offset(&self, index: u64) -> usize {
        usize::try_from(index.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }
}
