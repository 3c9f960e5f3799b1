//! The tuples of one variable, by the index that admitted them.

use std::collections::{BTreeMap, btree_map};
use std::option;

use cpe_tuple::Tuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap as _};

/// Tuples in the order of their indices. Encoded as a map.
///
/// Most variables hold one tuple at most, and a map of one takes the room of eleven: a replica of a
/// million variables would need 500 bytes more for each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Tuples {
    #[default]
    None,
    One(u64, Tuple),
    /// Two or more.
    Many(BTreeMap<u64, Tuple>),
}

impl Tuples {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Tuple)> {
        self.range_from(0)
    }

    /// Those with this index or a later one, oldest first.
    pub(crate) fn range_from(&self, from: u64) -> impl DoubleEndedIterator<Item = (u64, &Tuple)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(index, tuple) => ((*index >= from).then_some((*index, tuple)), None),
            Self::Many(many) => (None, Some(many)),
        };
        let many = many.into_iter().flat_map(move |many| many.range(from..));
        one.into_iter()
            .chain(many.map(|(index, tuple)| (*index, tuple)))
    }

    /// The first and the last index.
    pub(crate) fn ends(&self) -> Option<(u64, u64)> {
        match self {
            Self::None => None,
            Self::One(index, _) => Some((*index, *index)),
            Self::Many(many) => Some((*many.keys().next()?, *many.keys().next_back()?)),
        }
    }

    pub(crate) fn insert(&mut self, index: u64, tuple: Tuple) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(index, tuple),
            Self::One(old, _) if old == index => Self::One(index, tuple),
            Self::One(old, first) => Self::Many(BTreeMap::from([(old, first), (index, tuple)])),
            Self::Many(mut many) => {
                many.insert(index, tuple);
                Self::Many(many)
            }
        };
    }

    pub(crate) fn remove(&mut self, index: u64) -> Option<Tuple> {
        match self {
            Self::One(there, _) if *there == index => match std::mem::take(self) {
                Self::One(_, tuple) => Some(tuple),
                _ => None,
            },
            Self::None | Self::One(..) => None,
            Self::Many(many) => {
                let gone = many.remove(&index);
                if many.len() == 1
                    && let Some((index, tuple)) = many.pop_first()
                {
                    *self = Self::One(index, tuple);
                }
                gone
            }
        }
    }

    /// Leaves only the last.
    pub(crate) fn keep_last(&mut self) {
        if let Self::Many(many) = self
            && let Some((index, tuple)) = many.pop_last()
        {
            *self = Self::One(index, tuple);
        }
    }

    /// Changes each where it stands.
    pub(crate) fn update(&mut self, mut change: impl FnMut(Tuple) -> Tuple) {
        match self {
            Self::None => {}
            Self::One(_, tuple) => *tuple = change(tuple.clone()),
            Self::Many(many) => {
                for tuple in many.values_mut() {
                    *tuple = change(tuple.clone());
                }
            }
        }
    }
}

impl From<BTreeMap<u64, Tuple>> for Tuples {
    fn from(mut many: BTreeMap<u64, Tuple>) -> Self {
        if many.len() > 1 {
            return Self::Many(many);
        }
        many.pop_first()
            .map_or(Self::None, |(index, tuple)| Self::One(index, tuple))
    }
}

impl IntoIterator for Tuples {
    type Item = (u64, Tuple);
    type IntoIter =
        std::iter::Chain<option::IntoIter<(u64, Tuple)>, btree_map::IntoIter<u64, Tuple>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::None => (None, BTreeMap::new()),
            Self::One(index, tuple) => (Some((index, tuple)), BTreeMap::new()),
            Self::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}

impl Serialize for Tuples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // With its length: the encoding is the one of a map.
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (index, tuple) in self.iter() {
            map.serialize_entry(&index, tuple)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Tuples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, i64),
        Remove(u64),
        KeepLast,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6_u64, any::<i64>()).prop_map(|(index, value)| Step::Insert(index, value)),
            4 => (0..6_u64).prop_map(Step::Remove),
            1 => Just(Step::KeepLast),
        ]
    }

    proptest! {
        #[test]
        fn tuples_behave_as_a_map(steps in prop::collection::vec(step(), 0..40), from in 0..7_u64) {
            let mut map = BTreeMap::new();
            let mut tuples = Tuples::default();
            for step in steps {
                match step {
                    Step::Insert(index, value) => {
                        let tuple = Tuple::named("v", value).unwrap();
                        map.insert(index, tuple.clone());
                        tuples.insert(index, tuple);
                    }
                    Step::Remove(index) => {
                        prop_assert_eq!(tuples.remove(index), map.remove(&index));
                    }
                    Step::KeepLast => {
                        while map.len() > 1 {
                            map.pop_first();
                        }
                        tuples.keep_last();
                    }
                }
                prop_assert_eq!(&tuples, &Tuples::from(map.clone()));
                prop_assert_eq!(BTreeMap::from_iter(tuples.clone()), map.clone());
                prop_assert_eq!(tuples.len(), map.len());
                prop_assert_eq!(tuples.is_empty(), map.is_empty());
                let ends = map.keys().next().copied().zip(map.keys().next_back().copied());
                prop_assert_eq!(tuples.ends(), ends);
                let there: Vec<_> = tuples.range_from(from).map(|(index, _)| index).collect();
                let wanted: Vec<_> = map.range(from..).map(|(index, _)| *index).collect();
                prop_assert_eq!(there, wanted);
                let bytes = cpe_tuple::codec::encode(&tuples).unwrap();
                prop_assert_eq!(&bytes, &cpe_tuple::codec::encode(&map).unwrap());
                let decoded: Tuples = cpe_tuple::codec::decode(&bytes, 1 << 16).unwrap();
                prop_assert_eq!(&decoded, &tuples);
            }
        }
    }
}
