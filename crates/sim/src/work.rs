//! What the simulated users ask, and what they make of the answers.

use std::time::Duration;

use cpe_mesh::{Ack, Command, Failure, Input, Reply, RequestId};
use cpe_space::Mode;
use cpe_tuple::{Field, Kind, Template, Tuple, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::bound;
use crate::check::Violation;
use crate::leases::Acting;
use crate::record::{What, value_of};
use crate::world::{Happening, World};

/// Where the users work.
pub(crate) const WORKSPACE: &str = "w";

/// Keeps the draws of one request apart from all others: what is asked does not depend on what
/// was asked before.
const ASK_STREAM: u64 = 1 << 32;

/// A request somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Store(i64),
    Take,
    /// A leased take, asked for at this time.
    Lease(Duration),
    /// A holder acts on its lease.
    Act(Acting),
    /// A read of this variable; of the replica as it is, or another.
    Find {
        variable: u32,
        at_once: bool,
    },
    /// Has a body written, before its tuple is stored.
    Adopt,
    /// Fetches the body of a tuple that was answered.
    Gather,
    /// Sets the mode of a variable, by its number.
    Declare(u32),
    /// What the user asked who deletes.
    Deletion,
}

impl World {
    /// Somebody at some node asks something.
    pub(crate) fn ask(&mut self, number: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(ASK_STREAM + number);
        let n = rng.random_range(0..self.nodes.len());
        if !self.is_up(n) {
            return;
        }
        let work = self.scenario.workload.clone();
        let deadline = Duration::from_secs_f64(work.deadline_ms / 1_000.0);
        let number = rng.random_range(0..work.variables);
        let variable = format!("v{number}");
        let mode = work.mode(number);
        if (mode != Mode::Fifo || work.bound) && !self.declared.contains(&number) {
            return self.declare(n, number, mode, deadline);
        }
        let workspace = self.workspace_of(number).to_owned();
        // Names made here are short.
        let Ok(template) = Template::named(variable.clone()) else {
            return;
        };
        let mut named = Some(variable.clone());
        let draw: f64 = rng.random();
        let request = self.fresh_request();
        let mut below = work.stores;
        let (open, command) = if draw < below {
            self.next_value += 1;
            let value = self.next_value;
            // Drawn only where there are any: other runs stay as they were.
            let plain = mode != Mode::Single && workspace == WORKSPACE && !work.bound;
            if plain && work.bodies > 0.0 && rng.random_bool(work.bodies) {
                let ack = if rng.random_bool(0.2) {
                    Ack::Local
                } else {
                    Ack::Home
                };
                let what = (variable, value);
                return self.store_large(n, &mut rng, what, ack, deadline);
            }
            let Ok(tuple) = Tuple::new(vec![Value::from(variable), Value::Int(value)]) else {
                return;
            };
            self.books.stored.insert(value, self.now);
            self.storing_in(&workspace, &format!("v{number}"), value);
            if mode == Mode::Single {
                self.books.replaceable.insert(value);
            }
            self.report.stores += 1;
            let ack = if rng.random_bool(0.2) {
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
            let fields = vec![Field::Typed(Kind::String), Field::Any];
            let Ok(template) = Template::new(fields) else {
                return;
            };
            named = None;
            let workspace = WORKSPACE.to_owned();
            let wait = rng.random();
            (
                Open::Take,
                Command::Take {
                    workspace,
                    template,
                    wait,
                    deadline,
                },
            )
        } else if draw < {
            below += work.leases;
            below
        } && workspace == WORKSPACE
        {
            let (wait, ttl) = (self.rng.random(), self.draw_ttl());
            (
                Open::Lease(self.now),
                Command::TakeLeased {
                    workspace,
                    template,
                    wait,
                    ttl,
                    deadline,
                },
            )
        } else {
            let (wait, fresh): (bool, bool) = (rng.random(), rng.random());
            // A node that knows no mesh yet answers all it was asked when it does.
            let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
            let knows = peer.is_some_and(|peer| peer.genesis().is_some());
            let at_once = knows && !wait && !fresh && !work.bound;
            let variable = number;
            (
                Open::Find { variable, at_once },
                Command::Read {
                    workspace,
                    template,
                    wait,
                    fresh,
                    deadline,
                },
            )
        };
        let command = if work.bound {
            bound::under_terms(command)
        } else {
            command
        };
        let boot = self.nodes.get(n).map_or(0, |node| node.boot);
        if let Some(node) = self.nodes.get_mut(n) {
            node.open.insert(request, open);
        }
        let what = match (open, &command) {
            (Open::Store(value), _) => What::Store(value),
            (Open::Take | Open::Lease(_), _) => What::Take,
            // One that waits asks the home too, before it shows what the local replica learned.
            (Open::Find { .. }, Command::Read { fresh: true, .. } | Command::Bound { .. }) => {
                What::Find
            }
            (_, _) => What::LocalFind,
        };
        self.record.asked(request, n, self.now, named, what);
        if !matches!(open, Open::Store(_)) && rng.random_bool(work.abandon) {
            let at = self.now + deadline.mul_f64(rng.random_range(0.0..1.0));
            self.at(
                at,
                Happening::Abandon {
                    node: n,
                    boot,
                    request,
                },
            );
        }
        self.note(n, || format!("ask {} {command:?}", request.0));
        self.input(n, Input::Command(request, command));
    }

    /// Users agree on a variable's mode before they use it.
    fn declare(&mut self, n: usize, number: u32, mode: Mode, deadline: Duration) {
        let request = self.fresh_request();
        if let Some(node) = self.nodes.get_mut(n) {
            node.open.insert(request, Open::Declare(number));
        }
        let mut command = Command::Declare {
            workspace: self.workspace_of(number).to_owned(),
            variable: Value::from(format!("v{number}")),
            mode,
            deadline,
        };
        if self.scenario.workload.bound {
            command = bound::under_terms(command);
        }
        self.note(n, || format!("ask {} {command:?}", request.0));
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
            self.record.abandoned(request);
            self.note(n, || format!("abandon {}", request.0));
            self.input(n, Input::Cancel(request));
        }
    }

    /// An answer arrived.
    pub(crate) fn replied(&mut self, n: usize, request: RequestId, reply: Reply) {
        if self.progressed(n, request, &reply) {
            return;
        }
        let Some(open) = self
            .nodes
            .get_mut(n)
            .and_then(|node| node.open.remove(&request))
        else {
            return;
        };
        self.note(n, || format!("got {} {reply:?}", request.0));
        if let (
            Open::Find {
                variable,
                at_once: true,
            },
            Reply::Tuple(found),
        ) = (open, &reply)
        {
            self.check_local_read(n, variable, found.as_ref());
        }
        let absent = self.may_be_absent(&reply);
        let reply = match bound::told(open, reply, absent) {
            Ok(reply) => reply,
            Err(violation) => {
                self.violation = Some(violation);
                return;
            }
        };
        if let (
            Open::Store(value),
            Reply::Failed(Failure::Unavailable { .. } | Failure::Absent),
            true,
        ) = (open, &reply, self.scenario.workload.bound)
        {
            // It never happens: nobody may be handed it.
            self.books.stored.remove(&value);
        }
        match open {
            Open::Act(acting) => return self.acted(n, acting, &reply),
            Open::Adopt => return self.adopted(n, request, &reply),
            Open::Gather => return self.gathered(n, request, &reply),
            Open::Deletion => return self.deletion_answered(n, request, &reply),
            _ => {}
        }
        if !self.gather_first(n, request, open, &reply) {
            self.settle_reply(n, request, open, reply, true);
        }
    }

    /// An answer is whole, or, if not `here`, its body could not be had.
    pub(crate) fn settle_reply(
        &mut self,
        n: usize,
        request: RequestId,
        open: Open,
        reply: Reply,
        here: bool,
    ) {
        let abandon = self.scenario.workload.abandon;
        // It arrived, and nobody was there any more.
        let tuple = matches!(reply, Reply::Tuple(Some(_)) | Reply::Leased { .. });
        let received = !(matches!(open, Open::Take | Open::Lease(_))
            && tuple
            && (!here || (!self.calm && self.rng.random_bool(abandon))));
        self.record.answered(request, self.now, &reply, received);
        match (open, reply) {
            (Open::Store(value), Reply::Stored { index }) => {
                self.acknowledged_in(value, index);
                self.books.acknowledged.insert(value);
                self.report.acknowledged += 1;
            }
            (Open::Take, Reply::Tuple(Some(tuple))) => {
                let value = value_of(&tuple);
                if !received {
                    self.input(n, Input::Cancel(request));
                    return;
                }
                self.report.taken += 1;
                if let Err(violation) = self.books.take(value, n) {
                    self.violation = Some(violation);
                }
                self.input(n, Input::Received(request));
            }
            (Open::Lease(asked), reply @ Reply::Leased { .. }) => {
                if received {
                    self.leased(n, request, asked, &reply);
                } else {
                    self.input(n, Input::Cancel(request));
                }
            }
            (Open::Take | Open::Lease(_), Reply::Tuple(None)) => self.report.empty += 1,
            (Open::Declare(number), Reply::Done) => {
                let mode = self.scenario.workload.mode(number);
                self.declared.insert(number);
                self.record.declare(&format!("v{number}"), mode);
            }
            (Open::Find { .. }, Reply::Tuple(Some(tuple))) => {
                self.look(n);
                let value = value_of(&tuple);
                if !self.books.stored.contains_key(&value) {
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
