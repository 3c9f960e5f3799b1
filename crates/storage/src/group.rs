//! Groups: batches that became durable with one sync, as they lie in a segment of the log.
//!
//! ```text
//! group     magic:4 length:4 sequence:8 synced:8 checksum:16 payload zeros up to a multiple of 64
//! checksum  first 16 bytes of BLAKE3(length sequence synced payload)
//! payload   (write)*
//! write     0 table:1 key_length:4 value_length:4 key value     a value is set
//!           1 table:1 key_length:4 0:4 key                      a key is removed
//!           2 table:1 from_length:4 to_length:4 from to         a range of keys is removed
//! ```
//!
//! Integers are big endian. `synced` is the highest sequence that had been synced when the group
//! was written: a group that is there proves that those up to it were, whatever they look like now.

use bytes::{Buf, BufMut};
use cpe_mesh::{Batch, Table, Write};

/// Groups begin at multiples of this many bytes, so that one behind a damaged one can be found.
pub(crate) const ALIGN: usize = 64;

const MAGIC: u32 = 0xc9e1_07a5;
const HEADER_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 16;

/// What is in front of a group's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Counts the groups of a storage.
    pub(crate) sequence: u64,
    /// Highest sequence synced before this group was written.
    pub(crate) synced: u64,
}

fn checksum(covered: &[u8], payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(covered);
    hasher.update(payload);
    let mut short = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut short);
    short
}

/// Appends a group to `out`, which holds whole groups; `None` when it is longer than 4 GiB.
pub(crate) fn encode(header: Header, batches: &[Batch], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    for write in batches.iter().flat_map(|batch| &batch.writes) {
        let (kind, table, first, second) = match write {
            Write::Put { table, key, value } => (0, table, key, value.as_slice()),
            Write::Delete { table, key } => (1, table, key, &[][..]),
            Write::DeleteRange { table, from, to } => (2, table, from, to.as_slice()),
        };
        out.put_u8(kind);
        out.put_u8(*table as u8);
        out.put_u32(u32::try_from(first.len()).ok()?);
        out.put_u32(u32::try_from(second.len()).ok()?);
        out.put_slice(first);
        out.put_slice(second);
    }
    let length = u32::try_from(out.len() - start - HEADER_BYTES).ok()?;
    let (head, payload) = out.get_mut(start..)?.split_at_mut_checked(HEADER_BYTES)?;
    let mut fields = Vec::with_capacity(HEADER_BYTES);
    fields.put_u32(MAGIC);
    fields.put_u32(length);
    fields.put_u64(header.sequence);
    fields.put_u64(header.synced);
    let sum = checksum(fields.get(4..)?, payload);
    fields.put_slice(&sum);
    head.copy_from_slice(&fields);
    out.resize(start + (out.len() - start).next_multiple_of(ALIGN), 0);
    Some(())
}

/// Reads the group at the beginning of `bytes`: its header, its writes, and its length with what
/// fills it up. `None` when there is none, or not as it was written.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Header, Batch, usize)> {
    let (head, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let (fields, sum) = head.split_at_checked(HEADER_BYTES - CHECKSUM_BYTES)?;
    let covered = fields.get(4..)?;
    let mut fields = fields;
    if fields.try_get_u32().ok()? != MAGIC {
        return None;
    }
    let length = usize::try_from(fields.try_get_u32().ok()?).ok()?;
    let header = Header {
        sequence: fields.try_get_u64().ok()?,
        synced: fields.try_get_u64().ok()?,
    };
    let payload = rest.get(..length)?;
    if checksum(covered, payload) != sum {
        return None;
    }
    let batch = writes(payload)?;
    Some((
        header,
        batch,
        (HEADER_BYTES + length).next_multiple_of(ALIGN),
    ))
}

fn writes(mut payload: &[u8]) -> Option<Batch> {
    let mut batch = Batch::default();
    while payload.has_remaining() {
        let kind = payload.try_get_u8().ok()?;
        let table = payload.try_get_u8().ok()?;
        let table = *Table::ALL.iter().find(|known| **known as u8 == table)?;
        let first = usize::try_from(payload.try_get_u32().ok()?).ok()?;
        let second = usize::try_from(payload.try_get_u32().ok()?).ok()?;
        let (key, rest) = payload.split_at_checked(first)?;
        let (value, rest) = rest.split_at_checked(second)?;
        payload = rest;
        let (key, value) = (key.to_vec(), value.to_vec());
        match kind {
            0 => batch.put(table, key, value),
            1 => batch.delete(table, key),
            2 => batch.delete_range(table, key, value),
            _ => return None,
        }
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(values: &[Vec<u8>]) -> (Header, Batch) {
        let mut batch = Batch::default();
        for value in values {
            batch.put(Table::Log, value.clone(), value.clone());
            batch.delete(Table::Meta, value.clone());
            batch.delete_range(Table::Outbox, Vec::new(), value.clone());
        }
        let header = Header {
            sequence: 7,
            synced: 5,
        };
        (header, batch)
    }

    fn any_bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..most)
    }

    proptest! {
        #[test]
        fn a_group_is_read_back_and_any_other_bytes_are_not(
            values in proptest::collection::vec(any_bytes(50), 0..6),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let (header, batch) = group(&values);
            let mut bytes = Vec::new();
            encode(header, std::slice::from_ref(&batch), &mut bytes).unwrap();
            prop_assert_eq!(bytes.len() % ALIGN, 0);
            let length = bytes.len();
            prop_assert_eq!(decode(&bytes), Some((header, batch.clone(), length)));
            bytes[at.index(length)] ^= 1 << bit;
            let other = decode(&bytes);
            // The bytes that fill a group up say nothing.
            prop_assert!(other.is_none() || other == Some((header, batch, length)));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in any_bytes(300)) {
            let _ = decode(&bytes);
            let _ = writes(&bytes);
        }
    }
}
