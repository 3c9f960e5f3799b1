//! What an actor is to be: what its record in the registry keeps.
//!
//! A node that takes an actor over has nothing else to go by, so all that decides where and how it
//! runs is here.

use std::collections::BTreeMap;

use cpe_tuple::Value;
use serde::{Deserialize, Serialize};

/// What an actor was asked to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spec {
    pub(super) kind: String,
    pub(super) args: Value,
    pub(super) wishes: Wishes,
}

/// Where and for whom an actor is to live. New fields go to the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Wishes {
    /// Capabilities its node must have.
    pub(super) require: BTreeMap<String, String>,
    /// The node that was named for it.
    pub(super) node: Option<String>,
    /// The crowd it was applied with.
    pub(super) crowd: Option<String>,
    /// Its state is to outlive its node.
    #[serde(default)]
    pub(super) durable: bool,
    /// The actor whose node would be the best for it.
    #[serde(default)]
    pub(super) near: Option<String>,
    /// An actor asked for it, or another node: nobody of the node where it began.
    #[serde(default)]
    pub(super) foreign: bool,
}

impl Spec {
    /// As the registry keeps it: what was not asked for is not there.
    pub(super) fn to_value(&self) -> Value {
        let Self { kind, args, wishes } = self;
        let mut map = BTreeMap::from([
            ("kind".to_owned(), Value::from(kind.as_str())),
            ("args".to_owned(), args.clone()),
        ]);
        let mut add = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        let require = wishes.require.iter();
        let require: BTreeMap<_, _> = require
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        add(
            "require",
            (!require.is_empty()).then_some(Value::Map(require)),
        );
        add("node", wishes.node.as_deref().map(Value::from));
        add("crowd", wishes.crowd.as_deref().map(Value::from));
        add("durable", wishes.durable.then_some(Value::from(true)));
        add("near", wishes.near.as_deref().map(Value::from));
        add("foreign", wishes.foreign.then_some(Value::from(true)));
        Value::Map(map)
    }

    /// What [`to_value`](Self::to_value) made; nothing if it is something else.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let Value::Map(map) = value else {
            return None;
        };
        let text = |key: &str| Some(map.get(key)?.as_str()?.to_owned());
        let require = match map.get("require") {
            Some(Value::Map(require)) => {
                let pairs = require.iter();
                let pairs =
                    pairs.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
                pairs.collect::<Option<_>>()?
            }
            _ => BTreeMap::new(),
        };
        Some(Self {
            kind: text("kind")?,
            args: map.get("args").cloned().unwrap_or_default(),
            wishes: Wishes {
                require,
                node: text("node"),
                crowd: text("crowd"),
                durable: map.get("durable") == Some(&Value::Bool(true)),
                near: text("near"),
                foreign: map.get("foreign") == Some(&Value::Bool(true)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use cpe_tuple::json::value_to_json;

    use super::*;

    #[test]
    fn a_record_keeps_what_was_asked_for_and_nothing_else() {
        let mut spec = Spec {
            kind: "echo".to_owned(),
            args: Value::from(1),
            wishes: Wishes::default(),
        };
        let shown = |spec: &Spec| value_to_json(&spec.to_value()).to_string();
        assert_eq!(shown(&spec), r#"{"args":1,"kind":"echo"}"#);
        spec.wishes
            .require
            .insert("gpu".to_owned(), "yes".to_owned());
        spec.wishes.node = Some("b".to_owned());
        spec.wishes.crowd = Some("demo".to_owned());
        spec.wishes.durable = true;
        spec.wishes.near = Some("base".to_owned());
        spec.wishes.foreign = true;
        assert_eq!(
            shown(&spec),
            concat!(
                r#"{"args":1,"crowd":"demo","durable":true,"foreign":true,"kind":"echo","#,
                r#""near":"base","node":"b","require":{"gpu":"yes"}}"#
            )
        );
        assert_eq!(Spec::from_value(&spec.to_value()), Some(spec));
        assert_eq!(Spec::from_value(&Value::from("echo")), None);
    }
}
