//! The demand that things go on once they can: with the faults over and a majority of every home
//! group up, a store and a take succeed in time, on every shard and through every node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_mesh::{Ack, Command, Input, Reply, RequestId};
use cpe_space::Name;
use cpe_tuple::{Template, Tuple, Value};
use rand::seq::SliceRandom;

use crate::check::Violation;
use crate::record::value_of;
use crate::scenario::Scenario;
use crate::world::World;

/// Nobody else uses it.
const WORKSPACE: &str = "progress";

/// The same, of volatile shards.
const SCRATCH: &str = "tmp:progress";

/// Nodes asked about one shard at most; in a large mesh each shard asks others.
const ASKED_MAX: usize = 8;

/// How long one request may take before it is asked again.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often it is looked whether all are done.
const POLL: Duration = Duration::from_millis(100);

/// How long the mesh has to itself before nodes are taken away.
const REST: Duration = Duration::from_secs(1);

/// How much longer at most, until all nodes are linked. A node that starts knows only the
/// founder's address, as real ones know only those they are given: with the founder taken away
/// before it has told of the others, they could not find each other.
const MEETING: Duration = Duration::from_secs(10);

/// The nodes still to ask about each shard, and what is being asked.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    chains: BTreeMap<u16, Chain>,
    open: BTreeMap<RequestId, u16>,
    stored: BTreeSet<i64>,
}

#[derive(Debug)]
struct Chain {
    workspace: &'static str,
    variable: String,
    /// The next is the last.
    nodes: Vec<usize>,
    /// True when the store has succeeded and the take has not.
    taking: bool,
    last: String,
}

/// A variable of each shard, and its workspace.
fn variables(scenario: &Scenario) -> BTreeMap<u16, (&'static str, String)> {
    let mut variables = BTreeMap::new();
    let genesis = scenario.founded();
    let (mut number, mut workspaces) = (0_u32, vec![WORKSPACE]);
    workspaces.extend((scenario.volatile > 0).then_some(SCRATCH));
    while variables.len() < usize::from(scenario.all_shards()) {
        let variable = format!("p{number}");
        for text in &workspaces {
            // Names made here are short.
            let Ok(workspace) = Name::new(text) else {
                return variables;
            };
            let shard = genesis.shard_of(&workspace, &Value::from(variable.clone()));
            let place = variables.entry(shard.0);
            place.or_insert_with(|| (*text, variable.clone()));
        }
        number += 1;
    }
    variables
}

impl World {
    /// Takes away as many nodes as leave every group a majority, and demands progress.
    pub(crate) fn demand_progress(&mut self) -> Result<(), Violation> {
        let bound = self.scenario.progress();
        if bound.is_zero() {
            return Ok(());
        }
        let began = self.now;
        self.run_until(began + REST)?;
        while self.now < began + MEETING && !self.have_met() {
            let next = self.now + POLL;
            self.run_until(next)?;
        }
        self.keep_a_core();
        let limit = self.now + bound;
        self.begin_progress();
        while self.now < limit && !self.is_progress_made() {
            let next = self.now + POLL;
            self.run_until(next)?;
        }
        let Some(progress) = self.progress.take() else {
            return Ok(());
        };
        for (shard, chain) in progress.chains {
            if let Some(node) = chain.nodes.last()
                && self.must_serve(shard)
            {
                self.note_shard(shard);
                return Err(Violation::NoProgress {
                    node: node + 1,
                    shard,
                    seconds: bound.as_secs(),
                    last: chain.last,
                });
            }
        }
        self.report.progress_seconds = (self.now - began).as_secs_f64();
        Ok(())
    }

    fn have_met(&self) -> bool {
        let nodes = 0..self.nodes.len();
        let mut pairs = nodes
            .clone()
            .flat_map(|a| nodes.clone().map(move |b| (a, b)));
        pairs.all(|(a, b)| a >= b || self.links.linked(a, b))
    }

    fn is_progress_made(&self) -> bool {
        let left = self.progress.iter().flat_map(|p| p.chains.values());
        left.map(|chain| chain.nodes.len()).sum::<usize>() == 0
    }

    /// Crashes nodes, in random order, while those that stay are most of the nodes and of every
    /// home group.
    fn keep_a_core(&mut self) {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.shuffle(&mut self.rng);
        let mut gone = BTreeSet::new();
        for n in order {
            if (gone.len() + 1) * 2 >= self.nodes.len() {
                break;
            }
            gone.insert(n);
            let stays = |n| !gone.contains(&n);
            if !(0..self.scenario.all_shards()).all(|shard| self.has_majority(shard, &stays)) {
                gone.remove(&n);
            }
        }
        for n in gone {
            self.crash(n, None);
        }
    }

    /// True when the newest group of a shard that is known, and the one before it if it has only
    /// begun, have most of their members among these.
    pub(crate) fn has_majority(&self, shard: u16, stays: &dyn Fn(usize) -> bool) -> bool {
        let Some(sm) = self.newest(shard) else {
            return false;
        };
        let before = sm.previous().filter(|(_, at)| *at == sm.index());
        let before = before.map(|(config, _)| config);
        [sm.config()].into_iter().chain(before).all(|config| {
            let up = config.members.iter().filter(|member| {
                let n = usize::try_from(member.node.0 - 1).unwrap_or(usize::MAX);
                stays(n) && self.is_current(shard, **member)
            });
            up.count() * 2 > config.members.len()
        })
    }

    fn begin_progress(&mut self) {
        let core: Vec<usize> = (0..self.nodes.len()).filter(|n| self.is_up(*n)).collect();
        let mut progress = Progress::default();
        for (shard, (workspace, variable)) in variables(&self.scenario) {
            let first = usize::from(shard) * ASKED_MAX;
            let nodes = core.iter().cycle().skip(first % core.len().max(1));
            let chain = Chain {
                workspace,
                variable,
                nodes: nodes.take(core.len().min(ASKED_MAX)).copied().collect(),
                taking: false,
                last: "no answer".to_owned(),
            };
            progress.chains.insert(shard, chain);
        }
        self.progress = Some(progress);
        for shard in 0..self.scenario.all_shards() {
            self.ask_progress(shard);
        }
    }

    /// Asks what the chain of a shard needs next.
    fn ask_progress(&mut self, shard: u16) {
        let request = self.fresh_request();
        self.next_value += 1;
        let value = self.next_value;
        let Some(progress) = self.progress.as_mut() else {
            return;
        };
        let Some(chain) = progress.chains.get_mut(&shard) else {
            return;
        };
        let Some(node) = chain.nodes.last().copied() else {
            return;
        };
        let (workspace, deadline) = (chain.workspace.to_owned(), DEADLINE);
        let variable = chain.variable.clone();
        let command = if chain.taking {
            Template::named(variable)
                .ok()
                .map(|template| Command::Take {
                    workspace,
                    template,
                    wait: true,
                    deadline,
                })
        } else {
            progress.stored.insert(value);
            let fields = vec![Value::from(variable), Value::Int(value)];
            let ack = Ack::Home;
            Tuple::new(fields).ok().map(|tuple| Command::Out {
                workspace,
                tuple,
                ack,
                deadline,
            })
        };
        progress.open.insert(request, shard);
        if let Some(command) = command {
            self.note(node, || format!("progress {} {command:?}", request.0));
            self.input(node, Input::Command(request, command));
        }
    }

    /// An answer came; false when it is not one of these.
    pub(crate) fn progressed(&mut self, n: usize, request: RequestId, reply: &Reply) -> bool {
        let Some(progress) = self.progress.as_mut() else {
            return false;
        };
        let Some(shard) = progress.open.remove(&request) else {
            return false;
        };
        let Some(chain) = progress.chains.get_mut(&shard) else {
            return true;
        };
        let mut received = false;
        match reply {
            Reply::Stored { .. } => {
                chain.taking = true;
                self.report.progressed += 1;
            }
            Reply::Tuple(Some(tuple)) => {
                received = true;
                let value = value_of(tuple);
                if !progress.stored.remove(&value) {
                    self.violation = Some(Violation::TakenTwice(value));
                }
                chain.taking = false;
                chain.nodes.pop();
                self.report.progressed += 1;
            }
            other => {
                chain.last = format!("{other:?}");
                // A take that was given up may have put the tuple back, or not: store another.
                chain.taking = false;
            }
        }
        self.note(n, || format!("got {} {reply:?}", request.0));
        if received {
            self.input(n, Input::Received(request));
        }
        self.ask_progress(shard);
        true
    }
}
