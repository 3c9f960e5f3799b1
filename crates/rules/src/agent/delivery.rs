//! What comes in, as facts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cpe_tuple::{Tuple, Value as Datum};

use super::{AgentError, AgentMessage, ENVELOPES, LaterFact, RuleAgent, fields_of};
use crate::bridge::{BridgeError, to_clips, tuple_to_clips};
use crate::engine::{Engine, Slot};
use crate::error::EngineError;
use crate::value::Value;

/// A fact not yet asserted.
pub(super) enum NewFact {
    Named {
        template: Cow<'static, str>,
        slots: NamedSlots,
    },
    Ordered {
        relation: String,
        fields: Vec<Value>,
    },
}

impl NewFact {
    /// Assert it. Whether it is one that lives for this delivery: the engine holds it then, for
    /// [`Engine::retract_held`].
    pub(super) fn assert(self, engine: &mut Engine) -> Result<bool, EngineError> {
        match self {
            Self::Named { template, slots } => {
                let slots = slots.iter().map(|(name, value)| (name.as_ref(), value));
                let envelope = ENVELOPES.contains(&template.as_ref());
                if envelope {
                    engine.assert_held(&template, slots)?;
                } else {
                    engine.assert_slots(&template, slots)?;
                }
                Ok(envelope)
            }
            Self::Ordered { relation, fields } => {
                engine.assert_ordered(&relation, fields)?;
                Ok(false)
            }
        }
    }

    fn envelope<const N: usize>(template: &'static str, slots: [(&'static str, Value); N]) -> Self {
        let slots = slots.map(|(name, value)| (Cow::Borrowed(name), value));
        Self::Named {
            template: Cow::Borrowed(template),
            slots: slots.into(),
        }
    }
}

impl RuleAgent {
    pub(super) fn message_fact(&self, message: &AgentMessage) -> Result<NewFact, AgentError> {
        let ask = message
            .ask
            .map_or_else(|| Value::symbol("nil"), request_value);
        let from = text_value(message.from.clone())?;
        if let (Some(slots), Datum::Map(body)) = (self.own_template(&message.kind), &message.body) {
            let mut fact = by_name(&message.kind, slots, body)?;
            for (name, value) in [("from", from), ("ask", ask)] {
                let wanted = slots.iter().any(|slot| slot.name == name && !slot.multi);
                if wanted && !fact.iter().any(|(slot, _)| slot == name) {
                    fact.push((Cow::Borrowed(name), value));
                }
            }
            return Ok(NewFact::Named {
                template: Cow::Owned(message.kind.clone()),
                slots: fact,
            });
        }
        let slots = [
            ("from", from),
            ("kind", text_value(message.kind.clone())?),
            ("ask", ask),
            ("body", body_value(&message.body)?),
        ];
        Ok(NewFact::envelope("message", slots))
    }

    pub(super) fn tuple_fact(
        &self,
        subscription: u64,
        workspace: String,
        tuple: &Tuple,
    ) -> Result<NewFact, AgentError> {
        if let Some((Datum::String(name) | Datum::Symbol(name), rest)) = tuple.split_first()
            && let Some(slots) = self.own_template(name)
        {
            if let [Datum::Map(map)] = rest {
                let slots = by_name(name, slots, map)?;
                return Ok(NewFact::Named {
                    template: Cow::Owned(name.clone()),
                    slots,
                });
            }
            if rest.len() == slots.len() {
                let pairs = slots.iter().zip(rest);
                let slots = pairs.filter_map(|(slot, datum)| slot_value(slot, datum).transpose());
                let slots = slots.collect::<Result<_, _>>()?;
                return Ok(NewFact::Named {
                    template: Cow::Owned(name.clone()),
                    slots,
                });
            }
        }
        let slots = [
            ("subscription", request_value(subscription)),
            ("workspace", text_value(workspace)?),
            ("fields", tuple_to_clips(tuple)?),
        ];
        Ok(NewFact::envelope("tuple", slots))
    }

    pub(super) fn answer_fact(
        &self,
        request: u64,
        answer: Result<Datum, String>,
    ) -> Result<NewFact, AgentError> {
        let (status, value) = match answer {
            Ok(value) => ("ok", body_value(&value)?),
            Err(reason) => (
                "failed",
                Value::Multifield(vec![Value::String(without_nul(reason))]),
            ),
        };
        let slots = [
            ("request", request_value(request)),
            ("status", Value::symbol(status)),
            ("value", value),
        ];
        Ok(NewFact::envelope("answer", slots))
    }

    pub(super) fn later_fact(&self, fact: &LaterFact) -> Result<NewFact, AgentError> {
        let relation = fact.relation.clone();
        let Some(slots) = self.templates.get(&relation) else {
            let mut fields = Vec::new();
            for field in &fact.fields {
                match to_clips(field)? {
                    Value::Multifield(inner) => fields.extend(inner),
                    scalar => fields.push(scalar),
                }
            }
            return Ok(NewFact::Ordered { relation, fields });
        };
        let mut map = BTreeMap::new();
        for pair in fact.fields.chunks(2) {
            if let [Datum::Symbol(name) | Datum::String(name), value] = pair {
                map.insert(name.clone(), value.clone());
            } else {
                let reason = "its fields must be slot names and values in turn".to_owned();
                return Err(AgentError::Unfit(EngineError::Assert(relation, reason)));
            }
        }
        Ok(NewFact::Named {
            slots: by_name(&relation, slots, &map)?,
            template: Cow::Owned(relation),
        })
    }

    /// The slots of a template of the program's own.
    fn own_template(&self, name: &str) -> Option<&[Slot]> {
        let own = !ENVELOPES.contains(&name);
        self.templates.get(name).filter(|_| own).map(Vec::as_slice)
    }
}

type NamedSlots = Vec<(Cow<'static, str>, Value)>;

fn by_name(
    template: &str,
    slots: &[Slot],
    map: &BTreeMap<String, Datum>,
) -> Result<NamedSlots, AgentError> {
    let mut fact = Vec::with_capacity(map.len());
    for (key, datum) in map {
        let hyphened = key.replace('_', "-");
        let by_key = slots.iter().find(|slot| slot.name == *key);
        let slot = by_key.or_else(|| slots.iter().find(|slot| slot.name == hyphened));
        let slot = slot.ok_or_else(|| AgentError::UnknownKey {
            template: template.to_owned(),
            key: key.clone(),
            slots: slots
                .iter()
                .map(|slot| slot.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })?;
        fact.extend(slot_value(slot, datum)?);
    }
    Ok(fact)
}

/// A slot with its value, or `None` to leave it at its default.
fn slot_value(
    slot: &Slot,
    datum: &Datum,
) -> Result<Option<(Cow<'static, str>, Value)>, BridgeError> {
    if *datum == Datum::Null {
        return Ok(None);
    }
    let value = match to_clips(datum)? {
        Value::Multifield(fields) => Value::Multifield(
            fields
                .into_iter()
                .map(|field| fitted(slot, field))
                .collect(),
        ),
        scalar if slot.multi => Value::Multifield(vec![fitted(slot, scalar)]),
        scalar => fitted(slot, scalar),
    };
    Ok(Some((Cow::Owned(slot.name.clone()), value)))
}

/// What the sender could not know: whether a text is a symbol to the program, and whether a whole
/// number is a float.
fn fitted(slot: &Slot, value: Value) -> Value {
    match value {
        Value::String(text) if !slot.allows("STRING") && slot.allows("SYMBOL") => {
            Value::Symbol(text)
        }
        Value::Symbol(text) if !slot.allows("SYMBOL") && slot.allows("STRING") => {
            Value::String(text)
        }
        Value::Integer(n) if !slot.allows("INTEGER") && slot.allows("FLOAT") => {
            Value::Float(n as f64)
        }
        other => other,
    }
}

/// A null body is an empty one.
fn body_value(datum: &Datum) -> Result<Value, BridgeError> {
    match datum {
        Datum::Null => Ok(Value::Multifield(Vec::new())),
        datum => fields_of(datum),
    }
}

/// Names are symbols, so that rules can write them bare.
fn text_value(text: String) -> Result<Value, BridgeError> {
    if text.contains('\0') {
        return Err(BridgeError::Nul);
    }
    Ok(if text.is_empty() {
        Value::symbol("nil")
    } else {
        Value::Symbol(text)
    })
}

fn request_value(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn without_nul(text: String) -> String {
    text.replace('\0', "")
}
