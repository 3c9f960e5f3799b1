//! What the log has and the database has not yet, with everything superseded left out.

use std::collections::BTreeMap;

use cpe_mesh::{Batch, Table, Write};

/// The effect of some batches on whatever was there before.
///
/// Ranges were removed first, keys set or removed afterwards; so no order needs to be kept.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Ranges removed, by where they begin: none touches another of its table.
    pub(crate) ranges: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// Values set, or `None` for keys removed.
    pub(crate) keys: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Overlay {
    pub(crate) fn apply(&mut self, batch: Batch) {
        for write in batch.writes {
            match write {
                Write::Put { table, key, value } => {
                    self.keys.insert((table, key), Some(value));
                }
                Write::Delete { table, key } => {
                    self.keys.insert((table, key), None);
                }
                Write::DeleteRange { table, from, to } if from < to => {
                    self.remove_range(table, from, to);
                }
                Write::DeleteRange { .. } => {}
            }
        }
    }

    fn remove_range(&mut self, table: Table, mut from: Vec<u8>, mut to: Vec<u8>) {
        let inside = (table, from.clone())..(table, to.clone());
        let gone: Vec<_> = self
            .keys
            .range(inside)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.keys.remove(&key);
        }
        // Those it touches become one with it: one that may begin before, all that begin inside.
        let begins = (table, Vec::new())..=(table, to.clone());
        let touched: Vec<_> = self
            .ranges
            .range(begins)
            .rev()
            .take_while(|(_, end)| **end >= from)
            .map(|(begin, end)| (begin.clone(), end.clone()))
            .collect();
        for (begin, end) in touched {
            self.ranges.remove(&begin);
            from = from.min(begin.1);
            to = to.max(end);
        }
        self.ranges.insert((table, from), to);
    }
}

#[cfg(test)]
mod tests {
    use cpe_mesh::Image;
    use proptest::prelude::*;

    use super::*;

    fn any_write() -> impl Strategy<Value = Write> {
        let table = prop::sample::select(vec![Table::Meta, Table::Log]);
        let key = || proptest::collection::vec(0..4_u8, 0..3);
        (table, key(), key(), 0..4_u8).prop_map(|(table, key, to, kind)| match kind {
            0 => Write::Delete { table, key },
            1 => Write::DeleteRange {
                table,
                from: key,
                to,
            },
            _ => Write::Put {
                table,
                key,
                value: to,
            },
        })
    }

    /// What the engine does with an overlay.
    fn settle(image: &mut Image, overlay: &Overlay) {
        let mut batch = Batch::default();
        for ((table, from), to) in &overlay.ranges {
            batch.delete_range(*table, from.clone(), to.clone());
        }
        for ((table, key), value) in &overlay.keys {
            match value {
                Some(value) => batch.put(*table, key.clone(), value.clone()),
                None => batch.delete(*table, key.clone()),
            }
        }
        image.apply(batch);
    }

    proptest! {
        #[test]
        fn an_overlay_does_what_its_batches_did(
            before in proptest::collection::vec(any_write(), 0..20),
            after in proptest::collection::vec(any_write(), 0..30),
        ) {
            let mut expected = Image::default();
            expected.apply(Batch { writes: before });
            let mut found = expected.clone();
            let mut overlay = Overlay::default();
            for write in after {
                let batch = Batch { writes: vec![write] };
                expected.apply(batch.clone());
                overlay.apply(batch);
            }
            settle(&mut found, &overlay);
            prop_assert!(found == expected);
            let ranges: Vec<_> = overlay.ranges.iter().collect();
            for pair in ranges.windows(2) {
                let ((left, _), end) = pair[0];
                let ((right, begin), _) = pair[1];
                prop_assert!(left != right || end < begin, "{ranges:?}");
            }
        }
    }
}
