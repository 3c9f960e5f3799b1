//! The answering side: requests to this node as a shard's home, and what decisions set off.

use cpe_membership::{Member, NodeId};
use cpe_space::{Applied, Command, Item, Name, OpId, Outcome, Session, ShardId};
use cpe_tuple::{Template, Value};

use crate::boot;
use crate::home::{Asked, Home, Waiter};
use crate::peer::{After, Peer, Slot, Timer};
use crate::persist::Table;
use crate::wire::{Message, Operation};

impl Peer {
    /// Answers a request meant for the home when this node is not it; true if it is.
    fn at_home(&mut self, from: NodeId, shard: ShardId) -> bool {
        let Some(slot) = self.slot(shard) else {
            return false;
        };
        if slot.home.is_some() {
            return true;
        }
        let config = slot.map.clone();
        // A node that is told "not me, you" by a home that has not heard of its own epoch yet
        // would only be confused.
        if config
            .members
            .first()
            .is_some_and(|member| member.node != from)
        {
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
        if !self.at_home(from, shard) {
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
        items: Vec<Item>,
    ) {
        if let Some(Slot {
            shard: replica,
            home: Some(home),
            ..
        }) = self.slot(shard)
        {
            home.store(replica.sm(), origin, first, items);
            self.proposed.insert(shard);
        }
    }

    pub(crate) fn serve_operation(
        &mut self,
        from: NodeId,
        shard: ShardId,
        op: OpId,
        acks: Vec<u64>,
        operation: Operation,
    ) {
        if op.session.member.node != from {
            return self.malformed(Some(from), "an operation in another node's name".to_owned());
        }
        if !self.at_home(from, shard) {
            return;
        }
        self.count("operations_served", 1);
        let now = self.now;
        let lease = self.config.park_lease;
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
        let command = match operation {
            Operation::Take {
                workspace,
                template,
                wait,
            } => {
                let waiter = Waiter {
                    op,
                    from,
                    workspace,
                    template,
                    seen: now,
                };
                let asked = home.take(sm, waiter, acks, wait);
                self.proposed.insert(shard);
                if asked == Asked::Parked {
                    self.timers.set_if_none(Timer::Park(shard), now + lease);
                    self.send_if(from, Message::Parked { shard, op });
                }
                return;
            }
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
            Operation::Release { name, token } => Command::Release { op, name, token },
        };
        home.propose_op(op, from, command);
        self.proposed.insert(shard);
    }

    /// Rule R18: whatever became of the operation, it ends cancelled.
    pub(crate) fn serve_cancel(&mut self, from: NodeId, shard: ShardId, op: OpId) {
        if op.session.member.node != from || !self.at_home(from, shard) {
            return;
        }
        let Some(Slot {
            shard: replica,
            home: Some(home),
            ..
        }) = self.slot(shard)
        else {
            return;
        };
        let sm = replica.sm();
        match sm.outcome(op) {
            Some(outcome @ (Outcome::Cancelled | Outcome::Stale | Outcome::Empty)) => {
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
            _ => {
                home.unpark(op);
                // Logged even for a take that never arrived: the message that carries it may
                // still be on its way.
                home.propose_op(op, from, Command::Untake { op });
                self.proposed.insert(shard);
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
        if session.member.node != from {
            return;
        }
        if let Some(Slot {
            home: Some(home), ..
        }) = self.slot(shard)
        {
            home.propose_plain(Command::Ack { session, seqs });
            self.proposed.insert(shard);
        }
    }

    pub(crate) fn serve_query(
        &mut self,
        from: NodeId,
        query: u64,
        shards: Vec<ShardId>,
        workspace: &Name,
        template: Option<&Template>,
    ) {
        if shards.len() > self.slots.len() {
            return self.malformed(
                Some(from),
                "a query of more shards than there are".to_owned(),
            );
        }
        let (mut nothing, mut found, mut more, mut elsewhere) = (vec![], None, vec![], vec![]);
        for shard in shards {
            let Some(slot) = self.slot(shard) else {
                continue;
            };
            if slot.home.is_none() {
                elsewhere.push((shard, slot.map.clone()));
                continue;
            }
            let sm = slot.shard.sm();
            let here = match template {
                Some(template) => sm.find(workspace, template).map(|(_, t)| Some(t.clone())),
                None => sm.variables(workspace).next().map(|_| None),
            };
            match here {
                None => nothing.push(shard),
                Some(tuple) if found.is_none() => found = Some((shard, tuple)),
                Some(_) => more.push(shard),
            }
        }
        self.send_if(
            from,
            Message::Answer {
                query,
                nothing,
                found,
                more,
                elsewhere,
            },
        );
    }

    /// Hands the shard's new proposals to storage.
    pub(crate) fn write_tail(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let Some(home) = slot.home.as_mut() else {
            return;
        };
        let already = home.written();
        let entries = home.unwritten();
        if entries.is_empty() {
            return;
        }
        let first = slot.shard.version().index + 1 + already as u64;
        let count = entries.len();
        for (index, entry) in (first..).zip(entries) {
            let bytes = entry.as_bytes().to_vec();
            self.batch
                .put(Table::Log, boot::indexed(shard, index), bytes);
        }
        self.afters.push(After::Decide(shard, count));
    }

    /// The first entries of the shard's tail are durable, hence decided: applies them.
    pub(crate) fn decide(&mut self, shard: ShardId, entries: usize) {
        let mut admitted = None;
        for _ in 0..entries {
            let Some(Slot {
                shard: replica,
                home: Some(home),
                ..
            }) = self.slot(shard)
            else {
                break;
            };
            let Some((entry, command)) = home.pop_written() else {
                break;
            };
            let applied = replica.push(entry, &command);
            home.after(replica, &applied);
            // A take that took nothing had kept others from being tried in its place.
            if let Command::Take {
                workspace,
                template,
                ..
            } = &command
                && !matches!(&applied, Applied::Done(_, Outcome::Taken { .. }))
            {
                if let Applied::Missed(op) = &applied {
                    home.concluded(*op, true);
                }
                let variable = template.key().cloned().unwrap_or(Value::Null);
                home.pump(replica.sm(), workspace, &variable);
            }
            let index = replica.version().index;
            if let Applied::Added { dot: Some(dot), .. } = &applied {
                home.admitted(dot.origin, dot.n);
                if let Some((origin, upto)) = admitted.replace((dot.origin, dot.n))
                    && origin != dot.origin
                {
                    self.tell_admitted(shard, origin, upto, index);
                }
            }
            self.tell_outcome(shard, &command, &applied, index);
            self.applied(shard, applied);
        }
        if let Some((origin, upto)) = admitted {
            let index = self
                .slot_ref(shard)
                .map_or(0, |slot| slot.shard.version().index);
            self.tell_admitted(shard, origin, upto, index);
        }
        self.count("decided", entries as u64);
        self.proposed.insert(shard);
        self.dirty.insert(shard);
        self.timers
            .set_if_none(Timer::Feed, self.now + self.config.feed_interval);
        self.compact(shard);
    }

    fn tell_admitted(&mut self, shard: ShardId, origin: Member, upto: u64, index: u64) {
        if origin == self.me {
            self.admitted(shard, origin, upto, index);
        } else {
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
    fn tell_outcome(&mut self, shard: ShardId, command: &Command, applied: &Applied, index: u64) {
        let (op, outcome) = match (command, applied) {
            // An undone take shows as an added tuple.
            (Command::Untake { op }, Applied::Added { .. }) => (*op, Outcome::Cancelled),
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
                workspace,
                tuple,
                ..
            } => {
                if dot.is_some_and(|dot| dot.origin == self.me) {
                    self.clear_outbox(shard);
                }
                self.wake_readers(&workspace, &tuple);
            }
            Applied::Sealed(config) => self.sealed(shard, config),
            Applied::Nothing | Applied::Skipped(_) | Applied::Done(..) | Applied::Missed(_) => {}
        }
    }

    pub(crate) fn expire_parked(&mut self, shard: ShardId) {
        let before = self.now.saturating_sub(self.config.park_lease);
        let again = self.now + self.config.park_lease;
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

    /// Makes this node the shard's home.
    pub(crate) fn become_home(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let mut home = Home::default();
        if slot.shard.sm().previous().is_some() {
            // The first entry of the epoch tells the old home that it may rest (rule R11).
            home.propose_plain(Command::Noop);
            self.proposed.insert(shard);
        }
        let Some(slot) = self.slot(shard) else { return };
        slot.home = Some(home);
        slot.fed = slot.fed.max(slot.shard.version().index);
    }
}

/// True for counts of stores that an origin can have reached.
pub(crate) fn are_dots(first: u64, count: usize) -> bool {
    first > 0
        && first
            .checked_add(count as u64)
            .is_some_and(|end| end < u64::MAX)
}
