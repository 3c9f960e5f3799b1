//! What has to be done so that a mesh has the actors of a crowd file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Agent, Crowd};
use crate::exit::Fault;

/// What is to become of one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is not there: start it.
    Add,
    /// These fields of it differ, `host` if its node is gone: stop it and start it.
    Change(Vec<&'static str>),
    /// It was applied with this crowd and the file has it no more: stop it.
    Remove,
    /// It is as the file wants it.
    Keep,
}

impl Step {
    /// How it is called where people and programs read it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Add => "added",
            Self::Change(_) => "changed",
            Self::Remove => "removed",
            Self::Keep => "unchanged",
        }
    }
}

/// One actor and its step. `agent` is what the file says of it, if it does.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) name: &'a str,
    pub(crate) step: Step,
    pub(crate) agent: Option<&'a Agent>,
    /// It is there and durable: stopping it ends its state too.
    pub(crate) has_state: bool,
}

/// Compares a crowd with the live actors that a node lists: those to remove by name, then the
/// agents of the file in its order.
///
/// # Errors
/// An actor of a name in the file that is not of this crowd: nobody wants it stopped by accident.
pub(crate) fn plan<'a>(crowd: &'a Crowd, there: &'a [Value]) -> Result<Vec<Planned<'a>>, Fault> {
    let live: BTreeMap<&str, Live<'_>> = there
        .iter()
        .filter(|actor| actor.get("host").is_some_and(Value::is_string))
        .filter_map(|actor| Some((actor.get("name")?.as_str()?, Live::of(actor)?)))
        .collect();
    let wanted: BTreeSet<&str> = crowd.agents.iter().map(|agent| &*agent.name).collect();
    let mut steps: Vec<Planned<'_>> = live
        .iter()
        .filter(|(name, it)| crowd_of(it.spec) == Some(&crowd.name) && !wanted.contains(*name))
        .map(|(name, it)| Planned {
            name,
            step: Step::Remove,
            agent: None,
            has_state: it.durable,
        })
        .collect();
    for agent in &crowd.agents {
        let there = live.get(&*agent.name);
        let step = match there {
            None => Step::Add,
            Some(there) => compare(crowd, agent, there)?,
        };
        steps.push(Planned {
            name: &agent.name,
            step,
            agent: Some(agent),
            has_state: there.is_some_and(|it| it.durable),
        });
    }
    Ok(steps)
}

/// An actor as a node lists it.
#[derive(Clone, Copy)]
struct Live<'a> {
    spec: &'a Value,
    durable: bool,
    gone: bool,
}

impl<'a> Live<'a> {
    fn of(actor: &'a Value) -> Option<Self> {
        let holds = |field: &str| actor.get(field) == Some(&Value::Bool(true));
        Some(Self {
            spec: actor.get("spec")?,
            durable: holds("durable"),
            gone: holds("gone"),
        })
    }
}

fn crowd_of(spec: &Value) -> Option<&str> {
    spec.get("crowd")?.as_str()
}

fn compare(crowd: &Crowd, agent: &Agent, there: &Live<'_>) -> Result<Step, Fault> {
    let spec = there.spec;
    let name = &agent.name;
    match crowd_of(spec) {
        Some(of) if of == crowd.name => {}
        other => {
            let whose = other.map_or_else(
                || "was not started by `cpe apply`".to_owned(),
                |of| format!("belongs to the crowd `{of}`"),
            );
            return Err(Fault::failed(format!(
                "an actor `{name}` is there already and {whose}; nothing was done"
            ))
            .next(format!(
                "give the agent another name, or stop that one first: cpe actor stop {name}"
            )));
        }
    }
    let require = json!(agent.require);
    let node = json!(agent.node);
    let durable = json!(agent.durable);
    let near = json!(agent.near);
    let kind = Value::from(&*agent.kind);
    let none = Value::Object(serde_json::Map::new());
    let fields = [
        ("kind", &kind, &Value::Null),
        ("args", &agent.args, &Value::Null),
        ("require", &require, &none),
        ("node", &node, &Value::Null),
        ("durable", &durable, &Value::Bool(false)),
        ("near", &near, &Value::Null),
    ];
    let differs = fields
        .into_iter()
        .filter(|(field, wanted, missing)| spec.get(*field).unwrap_or(missing) != *wanted)
        .map(|(field, ..)| field);
    let differs: Vec<_> = there
        .gone
        .then_some("host")
        .into_iter()
        .chain(differs)
        .collect();
    Ok(if differs.is_empty() {
        Step::Keep
    } else {
        Step::Change(differs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, args: Value) -> Agent {
        Agent {
            name: name.to_owned(),
            kind: "counter".to_owned(),
            args,
            require: BTreeMap::new(),
            node: None,
            durable: false,
            near: None,
        }
    }

    fn live(name: &str, spec: Value) -> Value {
        json!({"name": name, "host": "02", "spec": spec})
    }

    fn steps(crowd: &Crowd, there: &[Value]) -> Vec<(String, Step)> {
        let steps = plan(crowd, there).unwrap();
        steps
            .into_iter()
            .map(|planned| (planned.name.to_owned(), planned.step))
            .collect()
    }

    #[test]
    fn what_differs_is_named_and_only_the_crowds_own_are_removed() {
        let mut moved = agent("moved", json!(1));
        moved.require.insert("gpu".to_owned(), "yes".to_owned());
        let mut kept = agent("kept", Value::Null);
        kept.durable = true;
        let crowd = Crowd {
            name: "c".to_owned(),
            agents: vec![
                agent("new", Value::Null),
                agent("same", Value::Null),
                agent("other", json!(2)),
                moved,
                agent("ended", Value::Null),
                agent("bereft", Value::Null),
                kept,
            ],
        };
        let of = |crowd: &str, args: i64| json!({"kind": "counter", "args": args, "crowd": crowd});
        let bare = json!({"kind": "counter", "args": null, "crowd": "c"});
        let mut bereft = live("bereft", bare.clone());
        bereft["gone"] = json!(true);
        let there = [
            bereft,
            live("kept", bare),
            live(
                "same",
                json!({"kind": "counter", "args": null, "crowd": "c"}),
            ),
            live("other", of("c", 1)),
            live("moved", of("c", 1)),
            live("gone", of("c", 1)),
            live("foreign", of("d", 1)),
            live("nobodys", json!({"kind": "counter", "args": 1})),
            json!({"name": "ended", "host": null, "spec": of("c", 1)}),
        ];
        let wanted = [
            ("gone", Step::Remove),
            ("new", Step::Add),
            ("same", Step::Keep),
            ("other", Step::Change(vec!["args"])),
            ("moved", Step::Change(vec!["require"])),
            ("ended", Step::Add),
            ("bereft", Step::Change(vec!["host"])),
            ("kept", Step::Change(vec!["durable"])),
        ];
        let wanted = wanted.map(|(name, step)| (name.to_owned(), step));
        assert_eq!(steps(&crowd, &there), wanted);
    }

    #[test]
    fn an_actor_of_somebody_else_is_not_touched() {
        let crowd = Crowd {
            name: "c".to_owned(),
            agents: vec![agent("a", Value::Null)],
        };
        for (spec, says) in [
            (json!({"kind": "counter", "crowd": "d"}), "the crowd `d`"),
            (json!({"kind": "counter"}), "not started by `cpe apply`"),
        ] {
            let there = [live("a", spec)];
            let error = plan(&crowd, &there).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(error.contains("cpe actor stop a"), "{error}");
        }
    }
}
