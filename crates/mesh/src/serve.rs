//! The answering side: requests to this node as a shard's home, and what decisions set off.

use cpe_membership::{Member, NodeId};
use cpe_space::{Applied, Bound, Command, Item, Name, OpId, Outcome, Session, ShardId, Sm};
use cpe_tuple::Template;

use crate::guard::{Guard, holds};
use crate::home::{Asked, Waiter, Wanted};
use crate::io::Event;
use crate::peer::{Peer, Slot, Timer};
use crate::wire::{Message, Operation};

/// How often a home looks within [`park_lease`](crate::PeerConfig::park_lease) whose is over.
const LOOKS_PER_LEASE: u32 = 4;

impl Peer {
    /// Answers a request meant for the shard's leading home when this node is not it; true if it
    /// is. `op` is what the request names, if it names an operation.
    pub(crate) fn leads_for(
        &mut self,
        from: NodeId,
        shard: ShardId,
        op: Option<(OpId, u32)>,
    ) -> bool {
        let Some(slot) = self.slot_ref(shard) else {
            return false;
        };
        if slot.home.is_some() {
            return true;
        }
        let config = slot.map.clone();
        self.note_asker(from, shard);
        let Some(slot) = self.slot_ref(shard) else {
            return false;
        };
        if let Some(group) = slot.seat.group() {
            let epoch = group.epoch();
            let leader = group.leader().map(|member| member.node);
            // Whoever believed to lead and does not yet has no better hint than its group.
            let leader = leader.filter(|leader| *leader != self.me.node);
            // Another copy of the same request may have been proposed here, and be decided yet.
            let op = op.filter(|(op, _)| {
                !slot.proposed.may_hold(*op) && slot.shard.sm().outcome(*op).is_none()
            });
            self.send_if(
                from,
                Message::NotLeader {
                    shard,
                    epoch,
                    leader,
                    op,
                },
            );
        } else if config.members.iter().all(|member| member.node != from) {
            // A node that is told "not me, you" by one that has not heard of its own epoch yet
            // would only be confused.
            self.send_if(from, Message::WrongHome { shard, config });
        }
        false
    }

    pub(crate) fn serve_store(
        &mut self,
        from: NodeId,
        shard: ShardId,
        origin: Member,
        first: u64,
        items: Vec<Item>,
    ) {
        if !are_dots(first, items.len()) {
            return self.malformed(Some(from), "stores beyond all numbers".to_owned());
        }
        if !self.is_of_now(shard, first) {
            return;
        }
        if !self.leads_for(from, shard, None) {
            return;
        }
        self.count("stores_served", 1);
        let Some(slot) = self.slot(shard) else { return };
        let (upto, index) = (slot.shard.sm().admitted(origin), slot.shard.version().index);
        if upto >= first {
            self.send_if(
                from,
                Message::Admitted {
                    shard,
                    origin,
                    upto,
                    index,
                },
            );
        }
        self.store_at_home(shard, origin, first, items);
    }

    /// Proposes stores at this node's own home of the shard.
    pub(crate) fn store_at_home(
        &mut self,
        shard: ShardId,
        origin: Member,
        first: u64,
        mut items: Vec<Item>,
    ) -> Option<u64> {
        // Rule B2, for the leader's own log.
        let present = self.present(shard, origin.node, &items);
        items.truncate(present);
        self.with_home(shard, |home, sm, log| {
            home.store(sm, origin, first, items, log)
        })
    }

    pub(crate) fn serve_operation(
        &mut self,
        from: NodeId,
        shard: ShardId,
        (op, attempt): (OpId, u32),
        acks: Vec<u64>,
        operation: Operation,
    ) {
        if op.session.member.node != from {
            return self.malformed(Some(from), "an operation in another node's name".to_owned());
        }
        // Its own node refuses it, see `start`.
        if operation.refers() {
            return self.malformed(Some(from), "a reference in a bound operation".to_owned());
        }
        if !self.is_of_now(shard, op.seq) {
            return;
        }
        if !self.leads_for(from, shard, Some((op, attempt))) {
            return;
        }
        // Rule B2, for the leader's own log: as good as lost, and asked again, when the bodies that
        // are fetched now may be here.
        if let Some(tuple) = operation.adds()
            && !self.has_bodies_for(shard, from, tuple)
        {
            return;
        }
        self.count("operations_served", 1);
        let now = self.now;
        let Some(Slot {
            shard: replica,
            home: Some(home),
            ..
        }) = self.slot(shard)
        else {
            return;
        };
        let sm = replica.sm();
        if let Some(outcome) = sm.outcome(op) {
            let index = sm.index();
            self.send_if(
                from,
                Message::Decided {
                    shard,
                    op,
                    outcome,
                    index,
                },
            );
            return;
        }
        if home.is_asked(op) {
            return;
        }
        let lease_ms = match &operation {
            Operation::TakeLeased { ttl_ms, .. } => Some(*ttl_ms),
            _ => None,
        };
        let command = match operation {
            Operation::Take {
                workspace,
                template,
                wait,
            }
            | Operation::TakeLeased {
                workspace,
                template,
                wait,
                ..
            } => {
                if let Some(outcome) = undecided(sm, &workspace, &template, wait) {
                    let index = sm.index();
                    let said = Message::Decided {
                        shard,
                        op,
                        outcome,
                        index,
                    };
                    self.send_if(from, said);
                }
                let waiter = Waiter {
                    op,
                    from,
                    workspace,
                    wanted: Wanted::Match {
                        template,
                        lease: lease_ms,
                    },
                    seen: now,
                    away: false,
                };
                return self.take_at_home(shard, waiter, acks, wait);
            }
            Operation::TakeFor {
                taker,
                workspace,
                template,
                wait,
            } => {
                if template.key().is_none() {
                    return self.malformed(Some(from), "a take without a variable".to_owned());
                }
                let waiter = Waiter {
                    op,
                    from,
                    workspace,
                    wanted: Wanted::For { taker, template },
                    seen: now,
                    away: false,
                };
                return self.take_at_home(shard, waiter, acks, wait);
            }
            Operation::Bound {
                workspace,
                terms,
                act:
                    Bound::Take {
                        variable,
                        wait,
                        leave,
                    },
            } => {
                let waiter = Waiter {
                    op,
                    from,
                    workspace,
                    wanted: Wanted::Bound {
                        variable,
                        terms,
                        leave,
                    },
                    seen: now,
                    away: false,
                };
                return self.take_at_home(shard, waiter, acks, wait);
            }
            Operation::Bound {
                workspace,
                terms,
                act,
            } => Command::Bound {
                op,
                acks,
                workspace,
                terms,
                act,
            },
            Operation::Declare {
                workspace,
                variable,
                mode,
            } => Command::Declare {
                op,
                workspace,
                variable,
                mode,
            },
            Operation::Drop {
                workspace,
                variable,
            } => Command::Drop {
                op,
                workspace,
                variable,
            },
            Operation::Claim {
                name,
                expect,
                spec,
                host,
            } => Command::Claim {
                op,
                name,
                expect,
                spec,
                host,
            },
            Operation::Release {
                name,
                token,
                void,
                keeps,
                sent,
            } => Command::Release {
                op,
                name,
                token,
                // Rule A3: as of claims, that a life is over is for ever.
                void: void.filter(|life| self.is_over(*life)),
                keeps,
                sent,
            },
            Operation::ActOnLease { lease, act } => Command::ActOnLease { op, lease, act },
            Operation::Inquire { about } => Command::Inquire { op, about },
            Operation::Resume { n } => Command::Resume { op, n },
            Operation::Enlist { lease_ms } => Command::Enlist { op, lease_ms },
            claim @ Operation::ClaimLeased { .. } => match self.propose_claim(op, claim) {
                Some(command) => command,
                None => return self.malformed(Some(from), "a claim for another node".to_owned()),
            },
            Operation::Commit {
                name,
                token,
                seq,
                snapshot,
                marks,
                effects,
                sent,
                rest_over,
            } => Command::Commit {
                op,
                name,
                token,
                seq,
                snapshot,
                marks,
                effects,
                sent,
                rest_over,
            },
            Operation::Emit {
                name,
                born,
                n,
                workspace,
                tuple,
            } => Command::Emit {
                op,
                name,
                born,
                n,
                workspace,
                tuple,
            },
            Operation::Sent { name, sent } => Command::Sent { op, name, sent },
            Operation::EndTake { taker, back } => Command::EndTake { op, taker, back },
            Operation::TakesOver {
                name,
                born,
                takes,
                ended,
            } => Command::TakesOver {
                op,
                name,
                born,
                takes,
                ended,
            },
            Operation::NoteFailures {
                name,
                token,
                failures,
            } => Command::NoteFailures {
                op,
                name,
                token,
                failures,
            },
            Operation::Migrate {
                name,
                token,
                seq,
                to,
            } => Command::Migrate {
                op,
                name,
                token,
                seq,
                to: Some(to).filter(|to| self.lives(*to)),
            },
        };
        self.with_home(shard, |home, sm, log| {
            home.propose_op(sm, op, from, command, log)
        });
    }

    /// Proposes a take, or parks it until there is something for it (rule R17): in memory, and
    /// dropped when its client is silent.
    fn take_at_home(&mut self, shard: ShardId, waiter: Waiter, acks: Vec<u64>, wait: bool) {
        let (op, from) = (waiter.op, waiter.from);
        let asked = self.with_home(shard, |home, sm, log| {
            home.take(sm, waiter, acks, wait, log)
        });
        if asked == Some(Asked::Parked) {
            let at = self.now + self.config.park_lease / LOOKS_PER_LEASE;
            self.timers.set_if_none(Timer::Park(shard), at);
            self.send_if(from, Message::Parked { shard, op });
        }
    }

    /// Rule R18: whatever became of the operation, it ends cancelled.
    pub(crate) fn serve_cancel(&mut self, from: NodeId, shard: ShardId, op: OpId) {
        let own = op.session.member.node == from && self.is_of_now(shard, op.seq);
        if !own || !self.leads_for(from, shard, None) {
            return;
        }
        let Some(slot) = self.slot(shard) else { return };
        let sm = slot.shard.sm();
        match sm.outcome(op) {
            Some(outcome)
                if outcome.stays()
                    || matches!(
                        outcome,
                        Outcome::Cancelled | Outcome::Stale | Outcome::Empty
                    ) =>
            {
                let index = sm.index();
                self.send_if(
                    from,
                    Message::Decided {
                        shard,
                        op,
                        outcome,
                        index,
                    },
                );
            }
            None if !holds(Guard::LogCancel) => {
                let index = sm.index();
                let outcome = Outcome::Cancelled;
                self.with_home(shard, |home, _, _| home.unpark(op));
                self.send_if(
                    from,
                    Message::Decided {
                        shard,
                        op,
                        outcome,
                        index,
                    },
                );
            }
            _ => {
                self.with_home(shard, |home, sm, log| {
                    home.unpark(op);
                    // Logged even for a take that never arrived: the message that carries it may
                    // still be on its way.
                    home.propose_op(sm, op, from, Command::Untake { op }, log);
                });
            }
        }
    }

    pub(crate) fn serve_ack(
        &mut self,
        from: NodeId,
        shard: ShardId,
        session: Session,
        seqs: Vec<u64>,
    ) {
        let of_now = seqs.iter().all(|seq| self.is_of_now(shard, *seq));
        if session.member.node != from || !of_now || !self.leads_for(from, shard, None) {
            return;
        }
        self.with_home(shard, |_, _, log| {
            log.propose(Command::Ack { session, seqs })
        });
    }

    pub(crate) fn tell_admitted(&mut self, shard: ShardId, origin: Member, upto: u64, index: u64) {
        if self.slot_ref(shard).is_some_and(|slot| slot.me == origin) {
            self.admitted(shard, origin, upto, index);
        } else if self.slot_ref(shard).is_some_and(|slot| slot.home.is_some()) {
            self.send_if(
                origin.node,
                Message::Admitted {
                    shard,
                    origin,
                    upto,
                    index,
                },
            );
        }
    }

    /// Tells the client of a decided operation its outcome.
    pub(crate) fn tell_outcome(
        &mut self,
        shard: ShardId,
        command: &Command,
        applied: &Applied,
        index: u64,
    ) {
        let (op, outcome) = match (command, applied) {
            // An undone take and a returned lease show as an added tuple.
            (Command::Untake { op }, Applied::Added { .. }) => (*op, Outcome::Cancelled),
            (
                Command::ActOnLease { op, .. }
                | Command::Emit { op, .. }
                | Command::EndTake { op, .. }
                | Command::Bound {
                    op,
                    act: Bound::Put { .. },
                    ..
                },
                Applied::Added { .. },
            ) => (*op, Outcome::Done),
            (
                Command::Bound {
                    op,
                    act: Bound::Exchange { .. },
                    ..
                },
                Applied::Added { index, .. },
            ) => (*op, Outcome::Exchanged { index: *index }),
            (_, Applied::Done(op, outcome)) => (*op, outcome.clone()),
            _ => return,
        };
        let Some(Slot {
            home: Some(home), ..
        }) = self.slot(shard)
        else {
            return;
        };
        if let Some(from) = home.concluded(op, false) {
            if from == self.me.node {
                self.decided(shard, op, outcome, index);
            } else {
                self.send_if(
                    from,
                    Message::Decided {
                        shard,
                        op,
                        outcome,
                        index,
                    },
                );
            }
        }
    }

    /// What every replica does once an entry is part of its prefix.
    pub(crate) fn applied(&mut self, shard: ShardId, applied: Applied) {
        match applied {
            Applied::Added {
                dot,
                pending,
                workspace,
                tuple,
                ..
            } => {
                self.added_with_bodies(shard, &tuple);
                let me = self.slot_ref(shard).map(|slot| slot.me);
                if dot.is_some_and(|dot| Some(dot.origin) == me) {
                    self.clear_outbox(shard);
                }
                if pending {
                    self.wake_admitted(&workspace, &tuple);
                } else {
                    self.wake_readers(&workspace, &tuple);
                }
            }
            Applied::Sealed(config) => self.sealed(shard, config),
            Applied::Forked(config) => {
                self.event(Event::Forked(shard, config.clone()));
                self.sealed(shard, config);
            }
            Applied::Registered(volatile) => self.registered(volatile),
            it @ (Applied::Voided(_)
            | Applied::Done(
                _,
                Outcome::Enlisted(_) | Outcome::Claimed(_) | Outcome::Moved(_),
            )) => {
                self.host_applied(shard, &it);
                self.send_effects(shard);
            }
            Applied::Done(_, Outcome::Done | Outcome::Unsent(_)) => self.send_effects(shard),
            Applied::Nothing | Applied::Skipped(_) | Applied::Done(..) | Applied::Missed(_) => {}
        }
        self.tell_named(shard);
    }

    /// A node is out of sight: its link was lost, or it is believed dead or said good-bye. Whoever
    /// waits there is passed over until it asks again: what it was given could reach nobody.
    pub(crate) fn pass_over(&mut self, node: NodeId) {
        for home in self.slots.iter_mut().filter_map(|slot| slot.home.as_mut()) {
            home.step_aside(node);
        }
    }

    pub(crate) fn expire_parked(&mut self, shard: ShardId) {
        let before = self.now.saturating_sub(self.config.park_lease);
        let again = self.now + self.config.park_lease / LOOKS_PER_LEASE;
        if let Some(Slot {
            home: Some(home), ..
        }) = self.slot(shard)
        {
            home.expire(before);
            if home.waiting() > 0 {
                self.timers.set(Timer::Park(shard), again);
            }
        }
    }
}

/// What a home that does not wait for decisions would answer a take; nothing with guards in place.
fn undecided(sm: &Sm, workspace: &Name, template: &Template, wait: bool) -> Option<Outcome> {
    if holds(Guard::DecidedFirst) && holds(Guard::DecideEmpty) {
        return None;
    }
    match sm.find(workspace, template) {
        Some((index, tuple)) if !holds(Guard::DecidedFirst) => {
            let tuple = tuple.clone();
            Some(Outcome::Taken { index, tuple })
        }
        None if !wait && !holds(Guard::DecideEmpty) => Some(Outcome::Empty),
        _ => None,
    }
}

/// True for counts of stores that an origin can have reached.
pub(crate) fn are_dots(first: u64, count: usize) -> bool {
    first > 0
        && first
            .checked_add(count as u64)
            .is_some_and(|end| end < u64::MAX)
}
