//! What the mesh remembers of a workspace: one tuple in a workspace of its own.

use cpe_tuple::{Field, Template, Tuple, Value};

use crate::names;
use crate::spaces::Who;

/// The workspace that holds the records. Clients cannot reach it: names that begin so mean others.
pub(crate) const RECORDS: &str = "#nws";

/// Fields of a record.
const FIELDS: usize = 8;

/// A connection that owns a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) node: Who,
    pub(crate) connection: u64,
}

/// A workspace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// As clients name it.
    pub(crate) name: Vec<u8>,
    /// Which instance: a later one of the same name has a higher number. None in a record that has
    /// not been written yet; it is then the index that is decided for it.
    pub(crate) instance: Option<u64>,
    /// What is shown as its owner. It stays when the owner of a persistent workspace is gone.
    pub(crate) shown: Vec<u8>,
    pub(crate) persistent: bool,
    /// Its variables are being deleted; afterwards the record goes.
    pub(crate) deleting: bool,
    pub(crate) owner: Option<Owner>,
}

fn int(n: u64) -> Value {
    Value::from(n.cast_signed())
}

fn uint(value: &Value) -> Option<u64> {
    value.as_int().map(i64::cast_unsigned)
}

impl Record {
    pub(crate) fn new(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            instance: None,
            shown: Vec::new(),
            persistent: false,
            deleting: false,
            owner: None,
        }
    }

    /// The variable that holds the record of this name, and the template that finds it.
    pub(crate) fn template(name: &[u8]) -> Option<Template> {
        let mut fields = vec![Field::Actual(names::text(name))];
        fields.resize(FIELDS, Field::Any);
        Template::new(fields).ok()
    }

    pub(crate) fn to_tuple(&self) -> Option<Tuple> {
        let owner = self.owner;
        Tuple::new(vec![
            names::text(&self.name),
            self.instance.map_or(Value::Null, int),
            Value::Bytes(self.shown.clone()),
            Value::from(self.persistent),
            Value::from(self.deleting),
            owner.map_or(Value::Null, |owner| int(owner.node.node)),
            owner.map_or(Value::Null, |owner| int(owner.node.life)),
            owner.map_or(Value::Null, |owner| int(owner.connection)),
        ])
        .ok()
    }

    pub(crate) fn from_tuple(tuple: &Tuple) -> Option<Self> {
        let [
            name,
            instance,
            shown,
            persistent,
            deleting,
            node,
            life,
            connection,
        ] = tuple.fields()
        else {
            return None;
        };
        let owner = || {
            Some(Owner {
                node: Who {
                    node: uint(node)?,
                    life: uint(life)?,
                },
                connection: uint(connection)?,
            })
        };
        Some(Self {
            name: names::shown(name),
            instance: uint(instance).or_else(|| tuple.mark().map(|mark| mark.variable)),
            shown: names::shown(shown),
            persistent: *persistent == Value::Bool(true),
            deleting: *deleting == Value::Bool(true),
            owner: owner(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_is_found_by_its_name() {
        let record = Record {
            instance: Some(u64::MAX),
            shown: b"127.0.0.1:7 (12)".to_vec(),
            persistent: true,
            owner: Some(Owner {
                node: Who {
                    node: u64::MAX,
                    life: 2,
                },
                connection: 3,
            }),
            ..Record::new(b"\xffw")
        };
        let tuple = record.to_tuple().unwrap();
        assert_eq!(Record::from_tuple(&tuple), Some(record));
        assert!(Record::template(b"\xffw").unwrap().matches(&tuple));
        let fresh = Record::new(b"w");
        let tuple = fresh.to_tuple().unwrap();
        assert_eq!(Record::from_tuple(&tuple), Some(fresh));
    }
}
