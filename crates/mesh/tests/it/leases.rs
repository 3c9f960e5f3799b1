//! Leased takes and inquiries: across nodes, leaders and time.

use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{Command, Failure, Input, LeaseHandle, OpHandle, Reply, RequestId};
use cpe_space::{Bound, Fate, LeaseAct, LeaseEnd, Mode, ShardId, Terms};
use cpe_tuple::{Field, Kind, Template, Value};

use crate::groups::{grown, leader_of, value};
use crate::{Net, SECOND};

const TTL: Duration = Duration::from_secs(4);

impl Net {
    fn lease(&mut self, n: u64, variable: &str, wait: bool) -> RequestId {
        self.ask(
            n,
            Command::TakeLeased {
                workspace: "w".to_owned(),
                template: Template::named(variable).unwrap(),
                wait,
                ttl: TTL,
                deadline: 20 * SECOND,
            },
        )
    }

    /// The value and the handle.
    fn leased(&self, request: RequestId) -> (i64, LeaseHandle) {
        match self.reply(request) {
            Some(Reply::Leased { tuple, lease, .. }) => (tuple[1].as_int().unwrap(), *lease),
            other => panic!("{other:?}"),
        }
    }

    fn act(&mut self, n: u64, lease: LeaseHandle, act: LeaseAct) -> Option<Reply> {
        let deadline = SECOND;
        let asked = self.ask(
            n,
            Command::ActOnLease {
                lease,
                act,
                deadline,
            },
        );
        self.pass(2 * SECOND);
        self.reply(asked).cloned()
    }

    fn inquire(&mut self, n: u64, op: OpHandle) -> Option<Reply> {
        let deadline = SECOND;
        let asked = self.ask(n, Command::Inquire { op, deadline });
        self.pass(2 * SECOND);
        self.reply(asked).cloned()
    }

    fn take_now(&mut self, n: u64, variable: &str) -> Option<i64> {
        let taken = self.take(n, variable, false);
        self.pass(SECOND);
        assert!(matches!(self.reply(taken), Some(Reply::Tuple(_))));
        value(self, taken)
    }
}

fn lost(reply: Option<&Reply>) -> Option<LeaseEnd> {
    match reply {
        Some(Reply::Failed(Failure::LeaseLost { end, .. })) => Some(*end),
        _ => None,
    }
}

#[test]
fn a_lease_is_committed_by_another_node_than_the_one_that_took_it() {
    let mut net = Net::of(3, true);
    net.out(1, "v", 7);
    let taken = net.lease(2, "v", false);
    let (seven, lease) = net.leased(taken);
    net.input(NodeId(2), Input::Received(taken));
    assert_eq!(seven, 7);
    assert_eq!(net.take_now(3, "v"), None, "set aside");
    net.kill(2);
    let lease = lease.to_string().parse().unwrap();
    assert_eq!(net.act(3, lease, LeaseAct::Commit), Some(Reply::Done));
    net.pass(3 * TTL);
    assert_eq!(net.take_now(3, "v"), None);
    let again = net.act(1, lease, LeaseAct::Commit);
    assert_eq!(again, Some(Reply::Done), "and nothing happened twice");
}

#[test]
fn a_tuple_leased_by_a_crashed_node_comes_back_under_a_higher_token() {
    let mut net = Net::of(3, true);
    net.out(1, "v", 7);
    let taken = net.lease(2, "v", false);
    let (_, first) = net.leased(taken);
    net.kill(2);
    let next = net.lease(3, "v", true);
    net.pass(TTL - SECOND / 2);
    assert_eq!(net.reply(next), None, "not before its time");
    net.pass(SECOND);
    let (seven, second) = net.leased(next);
    assert_eq!(seven, 7);
    assert!(second.token() > first.token());
    for act in [LeaseAct::Commit, LeaseAct::Renew, LeaseAct::Return] {
        let reply = net.act(1, first, act);
        assert_eq!(lost(reply.as_ref()), Some(LeaseEnd::Expired), "{act:?}");
    }
}

#[test]
fn a_renewed_lease_outlives_its_first_time_and_a_returned_one_ends_at_once() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 7);
    let taken = net.lease(2, "v", false);
    let (_, lease) = net.leased(taken);
    net.input(NodeId(2), Input::Received(taken));
    for _ in 0..3 {
        net.pass(TTL - 3 * SECOND);
        assert_eq!(net.act(2, lease, LeaseAct::Renew), Some(Reply::Done));
    }
    assert_eq!(net.take_now(1, "v"), None);
    assert_eq!(net.act(2, lease, LeaseAct::Return), Some(Reply::Done));
    assert_eq!(net.take_now(1, "v"), Some(7));
    let late = net.act(2, lease, LeaseAct::Renew);
    assert_eq!(lost(late.as_ref()), Some(LeaseEnd::Returned));
}

#[test]
fn a_leased_tuple_nobody_received_goes_back_at_once() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    net.out(1, "v", 2);
    let dropped = net.lease(2, "v", true);
    assert_eq!(net.leased(dropped).0, 1);
    net.input(NodeId(2), Input::Cancel(dropped));
    assert_eq!(net.take_now(1, "v"), Some(1));
}

#[test]
fn a_tuple_under_lease_does_not_come_back_after_its_workspace_was_deleted() {
    let mut net = grown();
    net.out(1, "v", 1);
    net.pass(SECOND);
    // Nothing but what is under lease is left of the variable, and of the workspace.
    let taken = net.lease(2, "v", false);
    net.pass(SECOND);
    net.leased(taken);
    let deleted = net.ask(
        3,
        Command::Delete {
            workspace: "w".to_owned(),
            variable: None,
            deadline: SECOND,
        },
    );
    net.pass(SECOND);
    assert_eq!(net.reply(deleted), Some(&Reply::Done));
    net.kill(2);
    net.pass(3 * TTL);
    assert_eq!(net.take_now(1, "v"), None);
}

#[test]
fn waiting_takes_of_both_kinds_are_served_in_order_of_arrival() {
    let mut net = Net::of(2, true);
    let leased = net.lease(2, "v", true);
    let taken = net.take(1, "v", true);
    let again = net.lease(1, "v", true);
    for value in 1..=3 {
        net.out(2, "v", value);
    }
    assert_eq!(net.leased(leased).0, 1);
    assert_eq!(value(&net, taken), Some(2));
    assert_eq!(net.leased(again).0, 3);
}

#[test]
fn a_leased_take_finds_nothing_only_when_that_was_decided_and_any_variable_when_none_is_named() {
    let mut net = Net::of(2, true);
    let none = net.lease(2, "v", false);
    net.pass(SECOND);
    assert_eq!(net.reply(none), Some(&Reply::Tuple(None)));
    net.out(1, "x", 5);
    net.pass(SECOND);
    let fields = vec![Field::Typed(Kind::String), Field::Any];
    let any = net.ask(
        2,
        Command::TakeLeased {
            workspace: "w".to_owned(),
            template: Template::new(fields).unwrap(),
            wait: true,
            ttl: TTL,
            deadline: SECOND,
        },
    );
    net.pass(SECOND);
    assert_eq!(net.leased(any).0, 5);
    net.pass(TTL);
    assert_eq!(net.take_now(1, "x"), Some(5));
}

#[test]
fn a_new_leader_gives_every_lease_its_whole_time_again_and_then_ends_it() {
    let mut net = grown();
    net.out(2, "a", 7);
    net.pass(SECOND);
    let leader = leader_of(&mut net, "a");
    let holder = (1..=3).find(|n| *n != leader).unwrap();
    let taken = net.lease(holder, "a", false);
    let (_, lease) = net.leased(taken);
    net.input(NodeId(holder), Input::Received(taken));
    net.pass(TTL - SECOND);
    net.kill(leader);
    net.pass(2 * SECOND);
    assert_eq!(net.take_now(holder, "a"), None, "still leased");
    assert_eq!(net.act(holder, lease, LeaseAct::Renew), Some(Reply::Done));
    net.pass(TTL);
    assert_eq!(net.take_now(holder, "a"), Some(7));
    let late = net.act(holder, lease, LeaseAct::Commit);
    assert_eq!(lost(late.as_ref()), Some(LeaseEnd::Expired));
}

#[test]
fn leases_survive_a_restart_of_the_home() {
    let mut net = Net::of(1, true);
    // Enough for a snapshot to have been written in between.
    for value in 0..50 {
        net.out(1, "v", value);
    }
    let taken = net.lease(1, "v", false);
    let (zero, lease) = net.leased(taken);
    net.input(NodeId(1), Input::Received(taken));
    for value in 50..100 {
        net.out(1, "v", value);
    }
    net.kill(1);
    net.start(1);
    assert_eq!((zero, net.take_now(1, "v")), (0, Some(1)));
    net.pass(TTL);
    assert_eq!(net.take_now(1, "v"), Some(0), "back in its place");
    let late = net.act(1, lease, LeaseAct::Commit);
    assert_eq!(lost(late.as_ref()), Some(LeaseEnd::Expired));
}

#[test]
fn a_time_to_live_out_of_bounds_and_a_handle_of_another_mesh_are_refused() {
    let mut net = Net::of(1, true);
    for ttl in [99, 24 * 3_600_000 + 1] {
        let refused = net.ask(
            1,
            Command::TakeLeased {
                workspace: "w".to_owned(),
                template: Template::named("v").unwrap(),
                wait: false,
                ttl: Duration::from_millis(ttl),
                deadline: SECOND,
            },
        );
        let reply = net.reply(refused);
        let refused = matches!(reply, Some(Reply::Failed(Failure::Refused(_))));
        assert!(refused, "{reply:?}");
    }
    net.out(1, "v", 1);
    let taken = net.lease(1, "v", false);
    let (_, mut lease) = net.leased(taken);
    lease.shard = ShardId(99);
    let reply = net.act(1, lease, LeaseAct::Commit);
    let refused = matches!(reply, Some(Reply::Failed(Failure::Refused(_))));
    assert!(refused, "{reply:?}");
}

fn unknown(net: &Net, request: RequestId) -> OpHandle {
    match net.reply(request) {
        Some(Reply::Failed(Failure::Unknown { op })) => *op,
        other => panic!("{other:?}"),
    }
}

/// Cuts a leader off from its group, and asks it something it cannot decide.
fn cut_off(net: &mut Net, command: Command) -> (u64, RequestId) {
    net.out(2, "a", 1);
    net.pass(SECOND);
    let leader = leader_of(net, "a");
    for other in (1..=3).filter(|n| *n != leader) {
        net.kill(other);
    }
    let asked = net.ask(leader, command);
    net.pass(5 * SECOND);
    (leader, asked)
}

fn heal(net: &mut Net) {
    for n in 1..=3 {
        if !net.peers.contains_key(&NodeId(n)) {
            net.start(n);
        }
    }
    net.link_all();
    net.pass(5 * SECOND);
}

#[test]
fn an_unknown_take_is_known_later_and_its_tuple_is_back() {
    for ttl in [None, Some(TTL)] {
        let mut net = grown();
        let (workspace, template) = ("w".to_owned(), Template::named("a").unwrap());
        let (wait, deadline) = (true, SECOND);
        let take = match ttl {
            None => Command::Take {
                workspace,
                template,
                wait,
                deadline,
            },
            Some(ttl) => Command::TakeLeased {
                workspace,
                template,
                wait,
                ttl,
                deadline,
            },
        };
        let (leader, asked) = cut_off(&mut net, take);
        let op = unknown(&net, asked);
        let early = net.inquire(leader, op);
        let failed = matches!(
            early,
            Some(Reply::Failed(
                Failure::Unknown { .. } | Failure::Unavailable { .. }
            ))
        );
        assert!(failed, "{early:?}");
        heal(&mut net);
        for n in 1..=3 {
            let fate = net.inquire(n, op);
            assert_eq!(fate, Some(Reply::Fate(Fate::Never)), "at node {n}");
        }
        assert_eq!(net.take_now(leader, "a"), Some(1));
    }
}

#[test]
fn an_unknown_declaration_is_settled_by_asking_its_node() {
    let mut net = grown();
    let declare = Command::Declare {
        workspace: "w".to_owned(),
        variable: Value::from("a"),
        mode: Mode::Lifo,
        deadline: SECOND,
    };
    let (leader, asked) = cut_off(&mut net, declare);
    let op = unknown(&net, asked);
    heal(&mut net);
    let fate = net.inquire(leader, op);
    assert_eq!(fate, Some(Reply::Fate(Fate::Done)));
    let list = net.ask(
        leader,
        Command::List {
            workspace: Some("w".to_owned()),
        },
    );
    let mode = match net.reply(list) {
        Some(Reply::Variables(all)) => all[0].mode,
        other => panic!("{other:?}"),
    };
    assert_eq!(mode, Mode::Lifo);
}

#[test]
fn an_answered_operation_is_forgotten_once_its_node_has_said_so() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    let taken = net.lease(2, "v", false);
    let (_, lease) = net.leased(taken);
    let open = net.inquire(1, lease.op());
    let token = lease.token();
    assert_eq!(open, Some(Reply::Fate(Fate::Leased { token })));
    net.input(NodeId(2), Input::Received(taken));
    net.pass(SECOND);
    let fate = net.inquire(1, lease.op());
    assert_eq!(fate, Some(Reply::Fate(Fate::Forgotten)));
}

/// Acknowledgements that went along with another operation than a take were lost.
#[test]
fn an_acknowledgement_is_not_lost_to_an_operation_that_follows_at_once() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    let taken = net.lease(2, "v", false);
    let op = net.leased(taken).1.op();
    net.input(NodeId(2), Input::Received(taken));
    net.inquire(2, op);
    let fate = net.inquire(1, op);
    assert_eq!(fate, Some(Reply::Fate(Fate::Forgotten)));
}

/// A home parks such a take without a decision, and what came along with it was lost.
#[test]
fn an_acknowledgement_is_not_lost_to_an_operation_that_waits() {
    let workspace = || "w".to_owned();
    let template = || Template::named("v").unwrap();
    let deadline = 20 * SECOND;
    let waits = [
        Command::Take {
            workspace: workspace(),
            template: template(),
            wait: true,
            deadline,
        },
        Command::TakeLeased {
            workspace: workspace(),
            template: template(),
            wait: true,
            ttl: TTL,
            deadline,
        },
        Command::Bound {
            workspace: workspace(),
            terms: Terms {
                instance: 1,
                after: None,
            },
            act: Bound::Take {
                variable: Value::from("v"),
                wait: true,
                leave: false,
            },
            deadline,
        },
    ];
    for wait in waits {
        let mut net = Net::of(2, true);
        let declared = net.ask(
            1,
            Command::Bound {
                workspace: workspace(),
                terms: Terms {
                    instance: 1,
                    after: None,
                },
                act: Bound::Declare {
                    variable: Value::from("v"),
                    mode: None,
                },
                deadline,
            },
        );
        net.pass(SECOND);
        assert_eq!(net.reply(declared), Some(&Reply::Done));
        net.out(1, "v", 1);
        let taken = net.lease(2, "v", false);
        let op = net.leased(taken).1.op();
        net.input(NodeId(2), Input::Received(taken));
        let waiting = net.ask(2, wait);
        net.pass(2 * SECOND);
        assert_eq!(net.reply(waiting), None);
        let fate = net.inquire(1, op);
        assert_eq!(fate, Some(Reply::Fate(Fate::Forgotten)));
    }
}

#[test]
fn a_take_that_still_waits_is_open_and_goes_on_waiting() {
    let mut net = Net::of(2, true);
    let waiting = net.lease(2, "v", true);
    // The first operation of this node on this shard.
    net.out(1, "probe", 1);
    let probe = net.lease(2, "probe", false);
    let mut op = net.leased(probe).1.op();
    let workspace = cpe_space::Name::new("w").unwrap();
    op.shard = cpe_space::shard_of(&workspace, &Value::from("v"), 4);
    op.op.seq = 1;
    for n in [1, 2] {
        assert_eq!(net.inquire(n, op), Some(Reply::Fate(Fate::Open)));
    }
    op.op.seq = 2;
    assert_eq!(net.inquire(1, op), Some(Reply::Fate(Fate::Open)));
    let reply = net.inquire(2, op);
    let refused = matches!(reply, Some(Reply::Failed(Failure::Refused(_))));
    assert!(refused, "it has not begun a second one: {reply:?}");
    net.out(1, "v", 7);
    assert_eq!(net.leased(waiting).0, 7);
}
