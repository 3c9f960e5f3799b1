//! Operations bound to an instance of a workspace: across nodes, leaders and deletions.

use std::time::Duration;

use cpe_mesh::{Command, Failure, Reply, RequestId};
use cpe_space::{After, Bound, Mode, Terms};
use cpe_tuple::{Tuple, Value};

use crate::groups::{grown, leader_of, value};
use crate::{Net, SECOND, pair};

const LONG: Duration = Duration::from_secs(3600);

impl Net {
    fn bound(&mut self, n: u64, instance: u64, act: Bound, deadline: Duration) -> RequestId {
        let (workspace, after) = ("w".to_owned(), None);
        let terms = Terms { instance, after };
        self.ask(
            n,
            Command::Bound {
                workspace,
                terms,
                act,
                deadline,
            },
        )
    }

    fn declare(&mut self, n: u64, instance: u64, variable: &str) {
        let act = Bound::Declare {
            variable: Value::from(variable),
            mode: Some(Mode::Fifo),
        };
        let asked = self.bound(n, instance, act, LONG);
        self.pass(SECOND);
        assert_eq!(self.reply(asked), Some(&Reply::Done));
    }

    fn put(&mut self, n: u64, instance: u64, variable: &str, value: i64) -> RequestId {
        let tuple = pair(variable, value);
        self.bound(n, instance, Bound::Put { tuple }, 2 * SECOND)
    }

    /// A take that waits, or a copy.
    fn wait_for(&mut self, n: u64, variable: &str, leave: bool) -> RequestId {
        let act = Bound::Take {
            variable: Value::from(variable),
            wait: true,
            leave,
        };
        self.bound(n, 1, act, LONG)
    }

    fn put_now(&mut self, n: u64, variable: &str, value: i64) {
        let put = self.put(n, 1, variable, value);
        self.pass(SECOND);
        assert_eq!(self.reply(put), Some(&Reply::Done));
    }
}

fn tuple(net: &Net, request: RequestId) -> Option<Tuple> {
    match net.reply(request) {
        Some(Reply::Tuple(tuple)) => tuple.clone(),
        _ => None,
    }
}

#[test]
fn who_wants_a_copy_gets_it_before_who_takes() {
    let mut net = grown();
    net.declare(1, 1, "v");
    let first = net.wait_for(2, "v", false);
    net.pass(SECOND);
    let second = net.wait_for(3, "v", false);
    let copies = [net.wait_for(1, "v", true), net.wait_for(3, "v", true)];
    net.pass(SECOND);
    net.put_now(1, "v", 7);
    for copy in copies {
        assert_eq!(value(&net, copy), Some(7));
    }
    assert_eq!(value(&net, first), Some(7), "who waited longest");
    assert_eq!(net.reply(second), None);
    net.put_now(3, "v", 8);
    assert_eq!(value(&net, second), Some(8));
}

#[test]
fn who_waits_in_a_deleted_variable_is_told_whoever_deletes_it() {
    let drops = [
        Command::Delete {
            workspace: "w".to_owned(),
            variable: None,
            deadline: SECOND,
        },
        Command::Bound {
            workspace: "w".to_owned(),
            terms: Terms {
                instance: 1,
                after: None,
            },
            act: Bound::Drop {
                variable: Value::from("v"),
            },
            deadline: SECOND,
        },
    ];
    for drop in drops {
        let mut net = grown();
        net.declare(1, 1, "v");
        net.declare(1, 1, "other");
        let waits = [net.wait_for(2, "v", false), net.wait_for(3, "v", true)];
        net.pass(SECOND);
        let dropped = net.ask(1, drop);
        net.pass(SECOND);
        assert_eq!(net.reply(dropped), Some(&Reply::Done));
        for wait in waits {
            let reply = net.reply(wait);
            assert_eq!(reply, Some(&Reply::Failed(Failure::Absent)));
        }
        let put = net.put(2, 1, "v", 1);
        net.pass(SECOND);
        assert_eq!(net.reply(put), Some(&Reply::Failed(Failure::Absent)));
    }
}

#[test]
fn a_wait_outlives_the_leader_it_was_parked_at() {
    for leave in [false, true] {
        let mut net = grown();
        net.declare(1, 1, "v");
        let leader = leader_of(&mut net, "v");
        let asker = if leader == 3 { 2 } else { 3 };
        let waits = net.wait_for(asker, "v", leave);
        net.pass(SECOND);
        net.kill(leader);
        net.pass(10 * SECOND);
        net.put_now(asker, "v", 7);
        net.pass(5 * SECOND);
        assert_eq!(value(&net, waits), Some(7));
    }
}

#[test]
fn a_put_that_no_majority_decides_is_refused_and_never_comes_later() {
    let mut net = grown();
    net.declare(1, 1, "v");
    let leader = leader_of(&mut net, "v");
    let others: Vec<u64> = (1..=3).filter(|n| *n != leader).collect();
    for other in &others {
        net.kill(*other);
    }
    net.pass(10 * SECOND);
    let put = net.put(leader, 1, "v", 7);
    net.pass(10 * SECOND);
    let reply = net.reply(put);
    assert!(
        matches!(
            reply,
            Some(Reply::Failed(
                Failure::Unavailable { .. } | Failure::Unknown { .. }
            ))
        ),
        "{reply:?}"
    );
    for other in &others {
        net.start(*other);
    }
    net.link_all();
    net.pass(20 * SECOND);
    let act = Bound::Take {
        variable: Value::from("v"),
        wait: false,
        leave: true,
    };
    let found = net.bound(leader, 1, act, 5 * SECOND);
    net.pass(6 * SECOND);
    assert_eq!(net.reply(found), Some(&Reply::Tuple(None)));
}

#[test]
fn an_iteration_is_the_same_from_every_node() {
    let mut net = grown();
    net.declare(1, 1, "v");
    (0..3).for_each(|n| net.put_now(1 + n, "v", i64::try_from(n).unwrap()));
    let mut after = None;
    let mut values = Vec::new();
    for n in [2, 3, 1, 2] {
        let asked = net.ask(
            n,
            Command::Bound {
                workspace: "w".to_owned(),
                terms: Terms { instance: 1, after },
                act: Bound::Take {
                    variable: Value::from("v"),
                    wait: false,
                    leave: true,
                },
                deadline: SECOND,
            },
        );
        net.pass(SECOND);
        let Some(tuple) = tuple(&net, asked) else {
            break;
        };
        values.push(tuple[1].as_int().unwrap());
        let mark = tuple.mark().unwrap();
        after = Some(After {
            variable: Some(mark.variable),
            ordinal: mark.ordinal,
        });
    }
    assert_eq!(values, [0, 1, 2]);
}

#[test]
fn a_synced_replica_shows_what_was_decided_before() {
    let mut net = grown();
    for n in 1..=3 {
        let put = net.out(n, "v", 1);
        net.pass(SECOND / 4);
        assert!(matches!(net.reply(put), Some(Reply::Stored { .. })));
        for reader in 1..=3 {
            let synced = net.ask(reader, Command::Sync { deadline: SECOND });
            while net.reply(synced).is_none() {
                net.pass(Duration::from_millis(1));
            }
            assert_eq!(net.reply(synced), Some(&Reply::Done));
            let workspace = Some("w".to_owned());
            let listed = net.ask(reader, Command::List { workspace });
            let Some(Reply::Variables(all)) = net.reply(listed) else {
                panic!("no list");
            };
            assert_eq!(all[0].tuples as u64, n, "at node {reader}");
        }
    }
}
