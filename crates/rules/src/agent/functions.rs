//! The functions that rules of an agent call, and where their effects wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use cpe_tuple::{Field, Kind, Template, Tuple, Value as Datum};

use super::effect::{Effect, LaterFact, Level};
use super::snapshot::Subscription;
use crate::bridge::{from_clips, into_datum, nest, to_clips};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::limits::Trip;
use crate::raw::{Call, Signature};
use crate::value::Value;

/// Effects that one delivery may release. More trips [`Trip::Effects`].
pub const EFFECTS_MAX: usize = 10_000;

/// Bytes of values in the effects of one delivery. 16 MiB: four of the largest tuples.
pub const EFFECT_BYTES_MAX: usize = 16 << 20;

/// Requests of one agent that may wait for their answers at a time.
pub const REQUESTS_MAX: usize = 1024;

/// Subscriptions of one agent.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// Actors that one delivery may start.
pub const SPAWNS_MAX: usize = 32;

/// The kind of messages that ask an agent about its rules, or have it do what a person types: see
/// [`RuleAgent::command`](super::RuleAgent::command). Rules must not send it: what messages do to
/// an agent is for its own rules to say. Nor may they send any other kind that begins so, which are
/// what an agent and its host say to each other.
pub const CONSOLE: &str = "$rules";

/// Milliseconds that `after` may wait: ten years.
const AFTER_MS_MAX: i64 = 10 * 365 * 24 * 3600 * 1000;

/// What rules have asked for in the current delivery, and what is open from earlier ones.
#[derive(Default)]
pub(super) struct Outbox {
    effects: Vec<Effect>,
    bytes: usize,
    spawns: usize,
    now_ms: i64,
    ask: Option<u64>,
    /// The number given out last.
    pub(super) next: u64,
    pub(super) requests: BTreeSet<u64>,
    pub(super) subscriptions: BTreeMap<u64, Subscription>,
    /// Where `next` stood at the beginning: later numbers are this delivery's own.
    pub(super) mark: u64,
}

impl Outbox {
    /// What is open when an agent is restored.
    pub(super) fn restored(
        next: u64,
        requests: &[u64],
        subscriptions: &[(u64, Subscription)],
    ) -> Self {
        Self {
            next,
            mark: next,
            requests: requests.iter().copied().collect(),
            subscriptions: subscriptions.iter().cloned().collect(),
            ..Self::default()
        }
    }

    pub(super) fn begin(&mut self, now_ms: i64, ask: Option<u64>) {
        self.discard();
        self.now_ms = now_ms;
        self.ask = ask;
    }

    /// How many effects have been asked for.
    pub(super) fn effects(&self) -> usize {
        self.effects.len()
    }

    pub(super) fn release(&mut self) -> Vec<Effect> {
        self.bytes = 0;
        self.spawns = 0;
        self.mark = self.next;
        std::mem::take(&mut self.effects)
    }

    /// Numbers given out in a discarded run are not used again: a rule may hold one in a fact.
    pub(super) fn discard(&mut self) {
        self.effects.clear();
        self.bytes = 0;
        self.spawns = 0;
        self.requests.retain(|number| *number <= self.mark);
        self.subscriptions.retain(|number, _| *number <= self.mark);
        self.mark = self.next;
    }

    pub(super) fn workspace_of(&self, subscription: u64) -> Option<String> {
        let subscription = self.subscriptions.get(&subscription)?;
        Some(subscription.workspace.clone())
    }

    /// Drop what was asked for outside of any delivery.
    pub(super) fn forget_effects(&mut self) {
        self.discard();
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn request(&mut self) -> Result<u64, String> {
        if self.requests.len() >= REQUESTS_MAX {
            return Err(format!("{REQUESTS_MAX} requests are open already"));
        }
        let number = self.number();
        self.requests.insert(number);
        Ok(number)
    }

    fn push(&mut self, call: &Call<'_>, effect: Effect, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        if self.effects.len() >= EFFECTS_MAX || self.bytes > EFFECT_BYTES_MAX {
            call.trip(Trip::Effects);
            return Err("too many effects in one run".to_owned());
        }
        self.effects.push(effect);
        Ok(())
    }
}

type Function = fn(&mut Outbox, &mut Call<'_>) -> Result<Value, String>;

/// Name, least and most arguments, what it does.
const FUNCTIONS: &[(&str, u16, Option<u16>, Function)] = &[
    ("store", 3, None, store),
    ("out", 2, None, out),
    ("find", 2, None, |outbox, call| {
        look(outbox, call, Look::Find, true)
    }),
    ("find-try", 2, None, |outbox, call| {
        look(outbox, call, Look::Find, false)
    }),
    ("fetch", 2, None, |outbox, call| {
        look(outbox, call, Look::Fetch, true)
    }),
    ("fetch-try", 2, None, |outbox, call| {
        look(outbox, call, Look::Fetch, false)
    }),
    ("subscribe", 2, None, subscribe),
    ("tell", 2, Some(3), tell),
    ("ask", 2, Some(3), ask),
    ("reply", 0, Some(1), reply),
    ("reply-to", 1, Some(2), reply_to),
    ("after", 2, None, after),
    ("forest-predict", 2, None, |outbox, call| {
        forest(outbox, call, false)
    }),
    ("forest-proba", 2, None, |outbox, call| {
        forest(outbox, call, true)
    }),
    ("log", 1, None, log),
    ("spawn", 2, Some(3), spawn),
    ("stop-self", 0, Some(0), stop_self),
    ("now", 0, Some(0), |outbox, _| {
        Ok(Value::Integer(outbox.now_ms))
    }),
    ("map-of", 0, None, map_of),
    ("list-of", 0, None, list_of),
    ("map-get", 2, None, map_get),
];

pub(super) fn add(
    engine: &mut Engine,
    name: &str,
    node: &str,
    outbox: &Arc<Mutex<Outbox>>,
) -> Result<(), EngineError> {
    // `(log 2.0)` stays the logarithm; see `log`.
    engine.remove_function("log");
    for (name, least, most, function) in FUNCTIONS {
        let signature = match most {
            Some(most) => Signature::between(*least, *most),
            None => Signature::at_least(*least),
        };
        let outbox = Arc::clone(outbox);
        engine.add_function(name, signature, move |call| {
            function(
                &mut outbox.lock().unwrap_or_else(PoisonError::into_inner),
                call,
            )
        })?;
    }
    for (function, value) in [("node-name", node), ("agent-name", name)] {
        let value = Value::symbol(value);
        engine.add_function(function, Signature::exactly(0), move |_| Ok(value.clone()))?;
    }
    Ok(())
}

fn store(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let (workspace, name) = (call.text(0)?.to_owned(), call.text(1)?.to_owned());
    for value in rest(call, 2) {
        let (value, bytes) = sized(value)?;
        let (workspace, name) = (workspace.clone(), name.clone());
        let bytes = bytes + workspace.len() + name.len();
        outbox.push(
            call,
            Effect::Store {
                workspace,
                name,
                value,
            },
            bytes,
        )?;
    }
    Ok(Value::bool(true))
}

fn out(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let workspace = call.text(0)?.to_owned();
    let fields = call.take_arguments().into_iter().skip(1).map(into_datum);
    let fields = fields.collect::<Result<Vec<_>, _>>();
    let fields = fields.map_err(|error| error.to_string())?;
    let tuple = Tuple::new(fields).map_err(|error| error.to_string())?;
    let bytes = tuple.size() + workspace.len();
    outbox.push(call, Effect::Out { workspace, tuple }, bytes)?;
    Ok(Value::bool(true))
}

enum Look {
    Find,
    Fetch,
}

fn look(outbox: &mut Outbox, call: &mut Call<'_>, what: Look, wait: bool) -> Result<Value, String> {
    let workspace = call.text(0)?.to_owned();
    let (template, bytes) = template(rest(call, 1))?;
    let request = outbox.request()?;
    let effect = match what {
        Look::Find => Effect::Find {
            request,
            workspace,
            template,
            wait,
        },
        Look::Fetch => Effect::Fetch {
            request,
            workspace,
            template,
            wait,
        },
    };
    outbox.push(call, effect, bytes)?;
    number(request)
}

fn subscribe(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let workspace = call.text(0)?.to_owned();
    let (template, bytes) = template(rest(call, 1))?;
    if outbox.subscriptions.len() >= SUBSCRIPTIONS_MAX {
        return Err(format!("{SUBSCRIPTIONS_MAX} subscriptions exist already"));
    }
    let subscription = outbox.number();
    let kept = Subscription {
        workspace: workspace.clone(),
        template: template.clone(),
    };
    outbox.subscriptions.insert(subscription, kept);
    outbox.push(
        call,
        Effect::Subscribe {
            subscription,
            workspace,
            template,
        },
        bytes,
    )?;
    number(subscription)
}

/// The name of another actor, and the kind of a message to it.
fn addressed(call: &Call<'_>) -> Result<(String, String), String> {
    let (to, kind) = (call.text(0)?.to_owned(), call.text(1)?.to_owned());
    if kind.starts_with(CONSOLE) {
        return Err(format!(
            "messages of a kind like {CONSOLE} are for people, not for rules"
        ));
    }
    Ok((to, kind))
}

fn tell(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let (to, kind) = addressed(call)?;
    let (body, bytes) = call.argument(2).map_or(Ok((Datum::Null, 0)), sized)?;
    let bytes = bytes + to.len() + kind.len();
    outbox.push(call, Effect::Send { to, kind, body }, bytes)?;
    Ok(Value::bool(true))
}

fn ask(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let (to, kind) = addressed(call)?;
    let (body, bytes) = call.argument(2).map_or(Ok((Datum::Null, 0)), sized)?;
    let bytes = bytes + to.len() + kind.len();
    let request = outbox.request()?;
    outbox.push(
        call,
        Effect::Ask {
            request,
            to,
            kind,
            body,
        },
        bytes,
    )?;
    number(request)
}

/// Whether anybody waited for it.
fn reply(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    // A message is answered once; later replies in the same run find nobody waiting.
    let Some(ask) = outbox.ask.take() else {
        return Ok(Value::bool(false));
    };
    let (value, bytes) = call.argument(0).map_or(Ok((Datum::Null, 0)), sized)?;
    outbox.push(call, Effect::Reply { ask, value }, bytes)?;
    Ok(Value::bool(true))
}

fn reply_to(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    // A template's `ask` slot holds nil when nobody waits.
    if call.argument(0) == Some(&Value::symbol("nil")) {
        return Ok(Value::bool(false));
    }
    let ask = u64::try_from(call.integer(0)?).map_err(|_| "no such message".to_owned())?;
    if outbox.ask == Some(ask) {
        outbox.ask = None;
    }
    let (value, bytes) = call.argument(1).map_or(Ok((Datum::Null, 0)), sized)?;
    outbox.push(call, Effect::Reply { ask, value }, bytes)?;
    Ok(Value::bool(true))
}

fn after(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let ms = call.integer(0)?;
    if !(0..=AFTER_MS_MAX).contains(&ms) {
        return Err("argument 1 must be milliseconds from 0 to ten years".to_owned());
    }
    let relation = call.text(1)?.to_owned();
    let fields = rest(call, 2)
        .iter()
        .map(datum)
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = relation.len() + fields.iter().map(Datum::size).sum::<usize>();
    let fact = LaterFact { relation, fields };
    outbox.push(
        call,
        Effect::After {
            ms: ms.unsigned_abs(),
            fact,
        },
        bytes,
    )?;
    Ok(Value::bool(true))
}

fn forest(outbox: &mut Outbox, call: &mut Call<'_>, probabilities: bool) -> Result<Value, String> {
    let model = call.text(0)?.to_owned();
    let mut features = Vec::new();
    for value in rest(call, 1) {
        match value {
            Value::Multifield(fields) => {
                for field in fields {
                    features.push(datum(field)?);
                }
            }
            field => features.push(datum(field)?),
        }
    }
    let bytes = model.len() + features.iter().map(Datum::size).sum::<usize>();
    let request = outbox.request()?;
    outbox.push(
        call,
        Effect::ForestPredict {
            request,
            model,
            features,
            probabilities,
        },
        bytes,
    )?;
    number(request)
}

/// `(log level text...)`, or the natural logarithm of one number.
fn log(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    if let [x] = call.arguments() {
        let x = x.number().filter(|x| *x > 0.0);
        let x = x.ok_or("needs a level and a text, or a number above 0")?;
        return Ok(Value::Float(x.ln()));
    }
    let level = Level::from_word(call.text(0)?);
    let level = level.ok_or("the level is one of error, warn, info, debug")?;
    let mut text = String::new();
    for part in rest(call, 1) {
        match part.text() {
            Some(part) => text.push_str(part),
            None => text.push_str(&part.to_string()),
        }
    }
    let bytes = text.len();
    outbox.push(call, Effect::Log { level, text }, bytes)?;
    Ok(Value::bool(true))
}

fn spawn(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let (kind, name) = (call.text(0)?.to_owned(), call.text(1)?.to_owned());
    if outbox.spawns >= SPAWNS_MAX {
        return Err(format!(
            "{SPAWNS_MAX} actors are started in one run at most"
        ));
    }
    outbox.spawns += 1;
    let (args, bytes) = call.argument(2).map_or(Ok((Datum::Null, 0)), sized)?;
    let bytes = bytes + kind.len() + name.len();
    outbox.push(call, Effect::Spawn { kind, name, args }, bytes)?;
    Ok(Value::bool(true))
}

fn stop_self(outbox: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    outbox.push(call, Effect::Stop, 0)?;
    Ok(Value::bool(true))
}

/// `(map-of key value ...)`: a map that crosses as one.
fn map_of(_: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let mut fields = vec![Value::symbol("{")];
    let arguments = call.take_arguments();
    if arguments.len() % 2 == 1 {
        return Err("needs keys and values in turn".to_owned());
    }
    for (i, argument) in arguments.into_iter().enumerate() {
        if i % 2 == 0 && argument.text().is_none() && argument.integer().is_none() {
            return Err(format!(
                "argument {} must be a key: a symbol or a string",
                i + 1
            ));
        }
        nest(&mut fields, argument);
    }
    fields.push(Value::symbol("}"));
    Ok(Value::Multifield(fields))
}

/// `(list-of value ...)`: a list that stays one inside another.
fn list_of(_: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let mut fields = vec![Value::symbol("[")];
    for argument in call.take_arguments() {
        nest(&mut fields, argument);
    }
    fields.push(Value::symbol("]"));
    Ok(Value::Multifield(fields))
}

/// `(map-get map key ...)`: what lies under a key, and under a key in that, and so on; `nil` where
/// there is nothing. An integer counts the items of a list from 1, as `nth$` does.
fn map_get(_: &mut Outbox, call: &mut Call<'_>) -> Result<Value, String> {
    let mut found = call.argument(0).map_or(Ok(Datum::Null), datum)?;
    for key in rest(call, 1) {
        found = match (found, key) {
            (Datum::List(items), Value::Integer(n)) => {
                let at = usize::try_from(*n).ok().and_then(|n| n.checked_sub(1));
                at.and_then(|at| items.into_iter().nth(at))
                    .unwrap_or(Datum::Null)
            }
            (Datum::Map(mut map), key) => {
                let key = key.text().map_or_else(|| key.to_string(), str::to_owned);
                map.remove(&key).unwrap_or(Datum::Null)
            }
            _ => Datum::Null,
        };
    }
    to_clips(&found).map_err(|error| error.to_string())
}

/// The arguments from `from` on.
fn rest<'a>(call: &'a Call<'_>, from: usize) -> &'a [Value] {
    call.arguments().get(from..).unwrap_or_default()
}

fn datum(value: &Value) -> Result<Datum, String> {
    from_clips(value).map_err(|error| error.to_string())
}

fn sized(value: &Value) -> Result<(Datum, usize), String> {
    let datum = datum(value)?;
    let bytes = datum.size();
    Ok((datum, bytes))
}

fn number(number: u64) -> Result<Value, String> {
    i64::try_from(number)
        .map(Value::Integer)
        .map_err(|_| "numbers have run out".to_owned())
}

/// One name stands for a variable; several fields for a tuple of as many. `:any`, `:int` and so on
/// match by kind, `(create$ :prefix "a")` by prefix, `(create$ :range 3 9)` from 3 to below 9.
fn template(fields: &[Value]) -> Result<(Template, usize), String> {
    let template = match fields {
        [name] if kind_of(name).is_none() && name.text().is_some() => {
            Template::named(name.text().unwrap_or_default())
        }
        fields => Template::new(fields.iter().map(field).collect::<Result<_, _>>()?),
    };
    let bytes = fields.iter().map(|field| field.to_string().len()).sum();
    Ok((template.map_err(|error| error.to_string())?, bytes))
}

fn field(value: &Value) -> Result<Field, String> {
    if let Some(kind) = kind_of(value) {
        return Ok(kind);
    }
    if let Value::Multifield(fields) = value
        && let [Value::Symbol(form), arguments @ ..] = fields.as_slice()
    {
        match (form.as_str(), arguments) {
            (":prefix", [prefix]) => {
                let prefix = prefix.text().ok_or(":prefix needs a text")?;
                return Ok(Field::Prefix(prefix.to_owned()));
            }
            (":range", [low, high]) => {
                let (low, high) = (bound(low, Bound::Included)?, bound(high, Bound::Excluded)?);
                return Ok(Field::Range { low, high });
            }
            (":prefix" | ":range", _) => return Err(format!("{form} has other arguments")),
            _ => {}
        }
    }
    Ok(Field::Actual(datum(value)?))
}

/// `nil` for no bound.
fn bound(value: &Value, make: fn(Datum) -> Bound<Datum>) -> Result<Bound<Datum>, String> {
    Ok(match datum(value)? {
        Datum::Null => Bound::Unbounded,
        datum => make(datum),
    })
}

fn kind_of(value: &Value) -> Option<Field> {
    let Value::Symbol(word) = value else {
        return None;
    };
    let kind = word.strip_prefix(':')?;
    if kind == "any" {
        return Some(Field::Any);
    }
    kind.parse::<Kind>().ok().map(Field::Typed)
}
