//! Operations bound to an instance of a workspace: across nodes, leaders and deletions.

use std::time::Duration;

use cpe_mesh::{Command, Failure, Message, Reply, RequestId};
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

    fn sync(&mut self, n: u64, workspace: Option<&str>) -> RequestId {
        let workspace = workspace.map(str::to_owned);
        let deadline = SECOND;
        self.ask(
            n,
            Command::Sync {
                workspace,
                deadline,
            },
        )
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
fn what_is_refused_without_a_majority_never_comes_later() {
    let variable = || Value::from("v");
    let acts = [
        Bound::Drop {
            variable: variable(),
        },
        Bound::Declare {
            variable: Value::from("v"),
            mode: None,
        },
        Bound::Exchange {
            variable: variable(),
            expect: Some(pair("v", 7)),
            put: None,
        },
    ];
    for act in acts {
        let mut net = grown();
        net.declare(1, 1, "v");
        net.put_now(1, "v", 7);
        let leader = leader_of(&mut net, "v");
        let others: Vec<u64> = (1..=3).filter(|n| *n != leader).collect();
        for other in &others {
            net.kill(*other);
        }
        net.pass(10 * SECOND);
        // In another instance, a declaration would delete the values.
        let instance = if matches!(act, Bound::Declare { .. }) {
            2
        } else {
            1
        };
        let asked = net.bound(leader, instance, act.clone(), 2 * SECOND);
        net.pass(10 * SECOND);
        let reply = net.reply(asked).cloned();
        assert!(matches!(reply, Some(Reply::Failed(_))), "{reply:?}");
        for other in &others {
            net.start(*other);
        }
        net.link_all();
        net.pass(20 * SECOND);
        let take = Bound::Take {
            variable: variable(),
            wait: false,
            leave: true,
        };
        let found = net.bound(leader, 1, take, 5 * SECOND);
        net.pass(6 * SECOND);
        assert_eq!(value(&net, found), Some(7), "{act:?}: {reply:?}");
    }
}

/// A cancellation that comes after the decision must not say that there was none.
#[test]
fn an_exchange_that_was_decided_is_told_although_it_is_cancelled() {
    let mut net = grown();
    net.declare(1, 1, "v");
    let leader = leader_of(&mut net, "v");
    let asker = if leader == 3 { 2 } else { 3 };
    // The answers of the home are lost until the asker has given up and cancelled.
    net.wire = Some(Box::new(move |from, to, bytes| {
        let answers = (from, to) == (leader, asker)
            && matches!(Message::decode(&bytes), Ok(Message::Decided { .. }));
        (!answers).then_some(bytes)
    }));
    let act = Bound::Exchange {
        variable: Value::from("v"),
        expect: None,
        put: Some(pair("v", 7)),
    };
    let asked = net.bound(asker, 1, act, SECOND);
    net.pass(SECOND + SECOND / 10);
    assert_eq!(net.reply(asked), None, "it is being cancelled");
    net.wire = None;
    net.pass(2 * SECOND);
    let reply = net.reply(asked);
    assert!(matches!(reply, Some(Reply::Exchanged(_))), "{reply:?}");
}

#[test]
fn who_waits_gets_what_an_exchange_puts() {
    let mut net = grown();
    net.declare(1, 1, "v");
    let reader = net.ask(
        3,
        Command::Read {
            workspace: "w".to_owned(),
            template: cpe_tuple::Template::named("v").unwrap(),
            wait: true,
            fresh: false,
            deadline: LONG,
        },
    );
    let taker = net.wait_for(2, "v", false);
    net.pass(SECOND);
    let act = Bound::Exchange {
        variable: Value::from("v"),
        expect: None,
        put: Some(pair("v", 7)),
    };
    let asked = net.bound(1, 1, act, SECOND);
    net.pass(SECOND);
    let reply = net.reply(asked);
    assert!(matches!(reply, Some(Reply::Exchanged(_))), "{reply:?}");
    assert_eq!(value(&net, reader), Some(7));
    assert_eq!(value(&net, taker), Some(7));
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
            let synced = net.sync(reader, Some("w"));
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

/// The mesh of these tests has four shards that are kept on disk and two that are not.
#[test]
fn a_sync_asks_only_the_homes_that_its_workspace_can_be_at() {
    for (workspace, wanted) in [(Some("w"), 4), (None, 6)] {
        let mut net = grown();
        let (asked, seen) = std::sync::mpsc::channel();
        net.wire = Some(Box::new(move |_, _, bytes| {
            if let Ok(Message::Query { shards, .. }) = Message::decode(&bytes) {
                shards.into_iter().for_each(|it| asked.send(it.0).unwrap());
            }
            Some(bytes)
        }));
        // A node asks itself without a message: of three, two ask another one.
        for n in 1..=3 {
            let synced = net.sync(n, workspace);
            net.pass(SECOND);
            assert_eq!(net.reply(synced), Some(&Reply::Done));
        }
        let shards: std::collections::BTreeSet<u16> = seen.try_iter().collect();
        assert_eq!(shards, (0..wanted).collect());
    }
}
