//! The facts and laws of the space.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bound;
mod hosts;
mod laws;
mod leases;
mod machine;
mod outbox;
mod parts;
mod sessions;
mod sketch;
mod takes;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{Applied, Command, Config, Dot, Entry, Name, OpId, Session, Shard, ShardId};
use cpe_tuple::{Template, Tuple, Value};

/// A home and its log, for tests that drive a shard by hand.
struct Home {
    shard: Shard,
    stored: u64,
    seq: u64,
}

fn member(n: u64) -> Member {
    Member {
        node: NodeId(n),
        inc: Incarnation(1),
    }
}

fn founder() -> Config {
    Config {
        epoch: 1,
        members: vec![member(1)],
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn pair(variable: &str, n: i64) -> Tuple {
    Tuple::new(vec![Value::from(variable), Value::from(n)]).unwrap()
}

impl Home {
    fn new() -> Self {
        Self {
            shard: Shard::new(ShardId(0), founder()),
            stored: 0,
            seq: 0,
        }
    }

    fn decide(&mut self, command: &Command) -> Applied {
        self.shard.push(Entry::new(command).unwrap(), command)
    }

    fn store(&mut self, variable: &str, n: i64) -> Applied {
        self.store_value(variable, Value::from(n))
    }

    fn store_value(&mut self, variable: &str, value: Value) -> Applied {
        self.stored += 1;
        self.decide(&Command::Admit {
            dot: Dot {
                origin: member(1),
                n: self.stored,
            },
            workspace: name("w"),
            tuple: Tuple::new(vec![Value::from(variable), value]).unwrap(),
        })
    }

    fn op(&mut self) -> OpId {
        self.seq += 1;
        OpId {
            session: Session {
                member: member(7),
                boot: 1,
            },
            seq: self.seq,
        }
    }

    fn take_as(&mut self, op: OpId, variable: &str, wait: bool) -> Applied {
        self.decide(&Command::Take {
            op,
            acks: Vec::new(),
            workspace: name("w"),
            template: Template::named(variable).unwrap(),
            wait,
        })
    }

    fn take(&mut self, variable: &str) -> Applied {
        let op = self.op();
        self.take_as(op, variable, false)
    }
}
