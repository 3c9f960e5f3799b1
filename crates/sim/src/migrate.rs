//! Actors that are handed from one host to another (rule A8), at any time, also by a host that has
//! been replaced and does not know it.
//!
//! The host stops the actor first and keeps what arrives for it; a commit under way it waits for,
//! or gives up. Once the home says that the actor is another's, what was kept is sent after it. If
//! the home refuses, the actor goes on where it is, but only when no earlier question of the host
//! may still be decided: a host that was not answered asks what became of it.

use std::time::Duration;

use cpe_membership::Member;
use cpe_mesh::{Command, Failure, OpHandle, Reply};
use cpe_space::Fate;
use rand::RngExt;

use crate::actors::{Asked, Parcel, Step, name};
use crate::check::Violation;
use crate::posts::Why;
use crate::world::{Happening, World};

/// Milliseconds. So often somebody hands an actor on.
pub(crate) const MOVE_MS: std::ops::Range<u64> = 300..3_000;

/// Share of moves that do not wait for the commit under way.
const GIVE_UP: f64 = 0.5;

/// How long a question may take; then it is asked anew.
const DEADLINE: Duration = Duration::from_millis(700);

/// Pause before that.
const PAUSE: Duration = Duration::from_millis(50);

/// An actor on its way to another host.
#[derive(Debug)]
pub(crate) struct Moving {
    to: Member,
    /// The commit under way is not waited for: it is part of what was handed on, or never will be.
    gave_up: bool,
    /// A question to the home is open, or its fate is asked for.
    asked: bool,
    /// The home has decided an earlier question: what becomes of a later one says nothing more.
    decided: bool,
    /// What arrived meanwhile.
    held: Vec<Parcel>,
}

impl Moving {
    pub(crate) fn hold(&mut self, parcel: Parcel) {
        self.held.push(parcel);
    }

    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up
    }
}

impl World {
    /// Somebody who runs an actor, or believes so, hands it to another host that it knows.
    pub(crate) fn move_actor(&mut self, actor: usize) {
        if self.actors_end {
            return;
        }
        self.step_in(MOVE_MS, Step::Move(actor));
        let running = self.actors.running.iter();
        let at: Vec<usize> = running
            .filter(|((_, it), instance)| *it == actor && instance.moving.is_none())
            .map(|((n, _), _)| *n)
            .collect();
        let pick = self.rng.random_range(0..at.len().max(1));
        let Some(n) = at.get(pick).copied() else {
            return;
        };
        let node = self.nodes.get(n).filter(|node| !node.is_held());
        let Some(peer) = node.and_then(|node| node.peer.as_ref()) else {
            return;
        };
        let me = peer.member().node;
        let records = peer.shards().flat_map(|shard| shard.sm().hosts());
        let others: Vec<Member> = records
            .filter(|(node, _)| *node != me)
            .filter_map(|(_, record)| record.living())
            .collect();
        let pick = self.rng.random_range(0..others.len().max(1));
        let gave_up = self.rng.random_bool(GIVE_UP);
        if let Some(to) = others.get(pick).copied()
            && self.mailbox_moves(n, actor, gave_up)
            && let Some(instance) = self.actors.running.get_mut(&(n, actor))
        {
            instance.moving = Some(Moving {
                to,
                gave_up,
                asked: false,
                decided: false,
                held: Vec::new(),
            });
            self.note(n, || format!("is to hand a{actor} to {to}"));
            self.hand_on(n, actor);
        }
    }

    /// Asks the home, once nothing else has to be known first.
    pub(crate) fn hand_on(&mut self, n: usize, actor: usize) {
        let Some(instance) = self.actors.running.get_mut(&(n, actor)) else {
            return;
        };
        let Some(moving) = &mut instance.moving else {
            return;
        };
        if moving.asked || (instance.pending.is_some() && !moving.gave_up) {
            return;
        }
        // It finishes the message that it is at.
        if instance.pending.is_none() && self.posts.is_at_one(n, actor) {
            return;
        }
        moving.asked = true;
        let (token, seq, to) = (instance.token, instance.seq, moving.to);
        self.actors.handed.insert((actor, token), seq);
        self.begin_order(n, actor, token);
        let command = Command::Migrate {
            name: name(actor),
            token,
            seq,
            to,
            deadline: DEADLINE,
        };
        self.ask_actor(n, Asked::Migrate { actor, token }, command);
    }

    /// A question was not answered, and its fate has to be known.
    pub(crate) fn ask_fate(&mut self, n: usize, actor: usize, token: u64, op: OpHandle) {
        let running = self.actors.running.get(&(n, actor));
        if running.is_some_and(|it| it.token == token && it.moving.is_some()) {
            let deadline = DEADLINE;
            self.ask_actor(
                n,
                Asked::Fate { actor, token, op },
                Command::Inquire { op, deadline },
            );
        }
    }

    pub(crate) fn migrate_ended(&mut self, n: usize, actor: usize, token: u64, reply: &Reply) {
        let running = self.actors.running.get_mut(&(n, actor));
        let Some(instance) = running.filter(|it| it.token == token) else {
            return;
        };
        let Some(moving) = &mut instance.moving else {
            return;
        };
        match reply {
            Reply::Moved { host, token: next } => {
                let held = std::mem::take(&mut moving.held);
                self.actors.running.remove(&(n, actor));
                self.report.moved += 1;
                if let Some(host) = host {
                    self.mailbox_leaves(n, actor, (*host, *next));
                    let to = usize::try_from(host.node.0 - 1).unwrap_or(usize::MAX);
                    for parcel in held {
                        self.pass_on(Step::Arrive(to, parcel));
                    }
                } else {
                    self.mailbox_lost(n, actor, Why::Ended);
                }
            }
            Reply::Failed(Failure::Fenced { .. }) => {
                self.report.fenced += 1;
                self.actors.running.remove(&(n, actor));
                self.mailbox_lost(n, actor, Why::Lost);
            }
            // What was given up lasts after all.
            Reply::Failed(Failure::OutOfTurn { last }) => {
                let (last, seq) = (*last, instance.seq);
                moving.asked = false;
                if last != seq + 1 || instance.pending.is_none() {
                    self.violation = Some(Violation::NoChain { actor, token, seq });
                    return;
                }
                self.pending_lasts(n, actor);
                self.hand_on(n, actor);
            }
            Reply::Failed(Failure::Refused(_)) => self.stays(n, actor),
            Reply::Failed(Failure::Unknown { op }) => self.ask_fate(n, actor, token, *op),
            _ => {
                moving.asked = false;
                self.at(self.now + PAUSE, Happening::Actor(Step::HandOn(n, actor)));
            }
        }
    }

    pub(crate) fn fate_known(
        &mut self,
        n: usize,
        (actor, token, op): (usize, u64, OpHandle),
        reply: &Reply,
    ) {
        let running = self.actors.running.get_mut(&(n, actor));
        let Some(instance) = running.filter(|it| it.token == token) else {
            return;
        };
        let Some(moving) = &mut instance.moving else {
            return;
        };
        match reply {
            // Certainly not: another host may be chosen, or the actor go on here.
            Reply::Fate(Fate::Never) if !moving.decided => self.stays(n, actor),
            // Decided: asked again, the home says the same.
            Reply::Fate(_) => {
                moving.decided = true;
                moving.asked = false;
                self.hand_on(n, actor);
            }
            _ => {
                let again = Step::AskFate(n, actor, token, op);
                self.at(self.now + PAUSE, Happening::Actor(again));
            }
        }
    }

    /// The actor was not handed on, and goes on here.
    fn stays(&mut self, n: usize, actor: usize) {
        let Some(instance) = self.actors.running.get_mut(&(n, actor)) else {
            return;
        };
        let moving = instance.moving.take();
        let commits = instance.pending.is_some();
        self.note(n, || format!("keeps a{actor}"));
        self.mailbox_stays(n, actor);
        self.look_at_runners(actor);
        if commits && moving.is_some_and(|it| it.gave_up) {
            self.commit(n, actor);
        }
    }

    /// An actor that was handed on begins from the commit that its former host knew of.
    pub(crate) fn look_at_handed(&mut self, actor: usize, token: u64, seq: u64) {
        let handed = self.actors.handed.get(&(actor, token - 1));
        if handed.is_some_and(|handed| *handed != seq) {
            self.violation = Some(Violation::HandedOther { actor, token });
        }
    }
}
