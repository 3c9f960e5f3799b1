//! Records that know whether they are whole.
//!
//! ```text
//! stored value   checksum:8 value
//! checksum       first 8 bytes of BLAKE3(table:u8 key_length:u64 key value)
//! ```
//!
//! The checksum covers table and key too: a record that the engine hands out under another name
//! is as wrong as one with a flipped bit.

use cpe_mesh::Table;

pub(crate) const CHECKSUM_BYTES: usize = 8;

fn checksum(table: Table, key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[table as u8]);
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut short = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut short);
    short
}

/// The bytes to store for a value.
pub(crate) fn seal(table: Table, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(CHECKSUM_BYTES + value.len());
    stored.extend_from_slice(&checksum(table, key, value));
    stored.extend_from_slice(value);
    stored
}

/// The value in stored bytes, if they are what was stored under this name.
pub(crate) fn unseal<'a>(table: Table, key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = stored.split_at_checked(CHECKSUM_BYTES)?;
    (sum == checksum(table, key, value)).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_read_back_under_its_own_name_only(
            key in proptest::collection::vec(any::<u8>(), 0..64),
            value in proptest::collection::vec(any::<u8>(), 0..256),
        ) {
            let stored = seal(Table::Log, &key, &value);
            prop_assert_eq!(unseal(Table::Log, &key, &stored), Some(value.as_slice()));
            prop_assert_eq!(unseal(Table::Meta, &key, &stored), None);
            let mut longer = key;
            longer.push(0);
            prop_assert_eq!(unseal(Table::Log, &longer, &stored), None);
        }

        #[test]
        fn any_flipped_bit_is_noticed(
            value in proptest::collection::vec(any::<u8>(), 0..64),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut stored = seal(Table::Log, b"key", &value);
            let bit = bit.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(unseal(Table::Log, b"key", &stored), None);
        }
    }
}
