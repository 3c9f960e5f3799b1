//! What the simulated users ask, and what they make of the answers.

use std::time::Duration;

use cpe_mesh::{Ack, Command, Failure, Input, Reply, RequestId};
use cpe_tuple::{Field, Kind, Template, Tuple, Value};
use rand::RngExt;

use crate::check::Violation;
use crate::world::{Happening, World};

const WORKSPACE: &str = "w";

/// A request somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Store(i64),
    Take,
    Find,
}

impl World {
    /// Somebody at some node asks something.
    pub(crate) fn ask(&mut self) {
        let n = self.rng.random_range(0..self.nodes.len());
        if !self.is_up(n) {
            return;
        }
        let work = self.scenario.workload.clone();
        let deadline = Duration::from_secs_f64(work.deadline_ms / 1_000.0);
        let variable = format!("v{}", self.rng.random_range(0..work.variables));
        let workspace = WORKSPACE.to_owned();
        // Names made here are short.
        let Ok(template) = Template::named(variable.clone()) else {
            return;
        };
        let draw: f64 = self.rng.random();
        let request = self.fresh_request();
        let mut below = work.stores;
        let (open, command) = if draw < below {
            self.next_value += 1;
            let value = self.next_value;
            let Ok(tuple) = Tuple::new(vec![Value::from(variable), Value::Int(value)]) else {
                return;
            };
            self.books.stored.insert(value);
            self.report.stores += 1;
            let ack = if self.rng.random_bool(0.2) {
                Ack::Local
            } else {
                Ack::Home
            };
            (
                Open::Store(value),
                Command::Out {
                    workspace,
                    tuple,
                    ack,
                    deadline,
                },
            )
        } else if draw < {
            below += work.takes;
            below
        } {
            (
                Open::Take,
                Command::Take {
                    workspace,
                    template,
                    wait: true,
                    deadline,
                },
            )
        } else if draw < {
            below += work.try_takes;
            below
        } {
            (
                Open::Take,
                Command::Take {
                    workspace,
                    template,
                    wait: false,
                    deadline,
                },
            )
        } else if draw < {
            below += work.scans;
            below
        } {
            let fields = vec![Field::Typed(Kind::String), Field::Typed(Kind::Int)];
            let Ok(template) = Template::new(fields) else {
                return;
            };
            let wait = self.rng.random();
            (
                Open::Take,
                Command::Take {
                    workspace,
                    template,
                    wait,
                    deadline,
                },
            )
        } else {
            let (wait, fresh) = (self.rng.random(), self.rng.random());
            (
                Open::Find,
                Command::Read {
                    workspace,
                    template,
                    wait,
                    fresh,
                    deadline,
                },
            )
        };
        let boot = self.nodes.get(n).map_or(0, |node| node.boot);
        if let Some(node) = self.nodes.get_mut(n) {
            node.open.insert(request, open);
        }
        if !matches!(open, Open::Store(_)) && self.rng.random_bool(work.abandon) {
            let at = self.now + deadline.mul_f64(self.rng.random_range(0.0..1.0));
            self.at(
                at,
                Happening::Abandon {
                    node: n,
                    boot,
                    request,
                },
            );
        }
        self.note(n, &format!("ask {} {command:?}", request.0));
        self.input(n, Input::Command(request, command));
    }

    /// Whoever asked goes away.
    pub(crate) fn abandon(&mut self, n: usize, boot: u32, request: RequestId) {
        if !self.is_boot(n, boot) {
            return;
        }
        let was_open = self
            .nodes
            .get_mut(n)
            .and_then(|node| node.open.remove(&request));
        if was_open.is_some() {
            self.note(n, &format!("abandon {}", request.0));
            self.input(n, Input::Cancel(request));
        }
    }

    /// An answer arrived.
    pub(crate) fn replied(&mut self, n: usize, request: RequestId, reply: Reply) {
        let abandon = self.scenario.workload.abandon;
        let Some(open) = self
            .nodes
            .get_mut(n)
            .and_then(|node| node.open.remove(&request))
        else {
            return;
        };
        self.note(n, &format!("got {} {reply:?}", request.0));
        match (open, reply) {
            (Open::Store(value), Reply::Stored { .. }) => {
                self.books.acknowledged.insert(value);
                self.report.acknowledged += 1;
            }
            (Open::Take, Reply::Tuple(Some(tuple))) => {
                let value = tuple.get(1).and_then(Value::as_int).unwrap_or(-1);
                if !self.calm && self.rng.random_bool(abandon) {
                    // It arrived, and nobody was there any more.
                    self.input(n, Input::Cancel(request));
                    return;
                }
                self.report.taken += 1;
                if let Err(violation) = self.books.take(value, n) {
                    self.violation = Some(violation);
                }
                self.input(n, Input::Received(request));
            }
            (Open::Take, Reply::Tuple(None)) => self.report.empty += 1,
            (Open::Find, Reply::Tuple(Some(tuple))) => {
                let value = tuple.get(1).and_then(Value::as_int).unwrap_or(-1);
                if !self.books.stored.contains(&value) {
                    self.violation = Some(Violation::FromNowhere(value));
                }
            }
            (_, Reply::Failed(Failure::TimedOut(_))) => self.report.timed_out += 1,
            (_, Reply::Failed(Failure::Unavailable { .. })) => self.report.unavailable += 1,
            (_, Reply::Failed(Failure::Unknown { .. })) => self.report.unknown += 1,
            _ => {}
        }
    }
}
