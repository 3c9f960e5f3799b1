//! Stores, takes, reads and homes, fact by fact.

use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{Ack, Command, Failure, Input, Message, Operation, Reply, RequestId};
use cpe_tuple::{Field, Kind, Template, Tuple, Value};

use crate::{Net, SECOND, pair};

pub(crate) fn tuple(net: &Net, request: RequestId) -> Option<i64> {
    match net.reply(request) {
        Some(Reply::Tuple(Some(tuple))) => tuple[1].as_int(),
        _ => None,
    }
}

#[test]
fn a_tuple_stored_on_one_node_is_read_and_taken_on_the_others() {
    let mut net = Net::of(3, true);
    let stored = net.out(2, "v", 7);
    assert!(matches!(net.reply(stored), Some(Reply::Stored { .. })));
    net.pass(SECOND);
    let read = net.read(3, "v");
    assert_eq!(tuple(&net, read), Some(7));
    let taken = net.take(3, "v", false);
    assert_eq!(tuple(&net, taken), Some(7));
    let again = net.take(1, "v", false);
    assert_eq!(net.reply(again), Some(&Reply::Tuple(None)));
}

/// A killed leader took a store with it; those that followed put off its repetition for ever.
#[test]
fn a_lost_store_is_repeated_while_others_follow_it() {
    let mut net = Net::of(2, true);
    let home = net.peers.remove(&NodeId(1)).unwrap();
    let lost = net.out(2, "v", 1);
    net.peers.insert(NodeId(1), home);
    for value in 2..=40 {
        net.out(2, "v", value);
        net.pass(Duration::from_millis(20));
    }
    assert!(matches!(net.reply(lost), Some(Reply::Stored { .. })));
}

#[test]
fn waiting_takes_are_served_in_order_of_arrival() {
    let mut net = Net::of(3, true);
    let waiting: Vec<_> = [2, 3, 1, 2].map(|n| net.take(n, "v", true)).into();
    assert!(waiting.iter().all(|request| net.reply(*request).is_none()));
    for value in 1..=4 {
        net.out(3, "v", value);
    }
    let got: Vec<_> = waiting
        .iter()
        .map(|request| tuple(&net, *request))
        .collect();
    assert_eq!(got, [Some(1), Some(2), Some(3), Some(4)]);
}

#[test]
fn a_take_nobody_waits_for_any_more_takes_nothing() {
    let mut net = Net::of(2, true);
    let abandoned = net.take(2, "v", true);
    net.input(NodeId(2), Input::Cancel(abandoned));
    net.out(2, "v", 1);
    assert_eq!(net.reply(abandoned), None);
    let taken = net.take(1, "v", false);
    assert_eq!(tuple(&net, taken), Some(1));
}

/// A take that waits longer than any of these tests takes. In their first seconds node 1 is the
/// home of everything, alone.
fn wait_long(net: &mut Net, n: u64) -> RequestId {
    let command = Command::Take {
        workspace: "w".to_owned(),
        template: Template::named("v").unwrap(),
        wait: true,
        deadline: 600 * SECOND,
    };
    net.ask(n, command)
}

#[test]
fn what_is_stored_after_a_node_has_died_is_not_for_those_who_waited_there() {
    let mut net = Net::of(3, true);
    for _ in 0..3 {
        wait_long(&mut net, 3);
    }
    net.pass(SECOND);
    net.kill(3);
    net.out(1, "v", 1);
    let taken = net.take(2, "v", false);
    assert_eq!(tuple(&net, taken), Some(1));
    // Nor in the place of one that was there, and took nothing.
    let waits = wait_long(&mut net, 2);
    net.out(1, "v", 2);
    assert_eq!(tuple(&net, waits), Some(2));
}

/// The connection hangs, as of a host without power: the others find the node dead first.
#[test]
fn who_waits_at_a_node_that_is_found_dead_is_passed_over_though_its_link_is_there() {
    let mut net = Net::of(3, true);
    net.pass(SECOND);
    wait_long(&mut net, 3);
    net.peers.remove(&NodeId(3));
    net.pass(7 * SECOND);
    net.out(1, "v", 1);
    let taken = net.take(2, "v", false);
    assert_eq!(tuple(&net, taken), Some(1));
}

#[test]
fn who_waits_at_a_node_whose_link_was_lost_for_a_while_keeps_its_turn() {
    let mut net = Net::of(3, true);
    net.pass(SECOND);
    let (first, second) = (wait_long(&mut net, 3), wait_long(&mut net, 2));
    for (n, other) in [(1, 3), (3, 1)] {
        net.input(NodeId(n), Input::LinkDown(NodeId(other)));
    }
    net.out(1, "v", 1);
    assert_eq!(
        tuple(&net, second),
        Some(1),
        "it goes to who can be reached"
    );
    let third = wait_long(&mut net, 2);
    for (n, other) in [(1, 3), (3, 1)] {
        net.input(NodeId(n), Input::LinkUp(NodeId(other)));
    }
    net.pass(2 * SECOND);
    net.out(1, "v", 2);
    assert_eq!(tuple(&net, first), Some(2));
    assert!(net.reply(third).is_none());
}

#[test]
fn a_tuple_nobody_received_goes_back_to_its_place() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    net.out(1, "v", 2);
    let dropped = net.take(2, "v", true);
    assert_eq!(tuple(&net, dropped), Some(1));
    net.input(NodeId(2), Input::Cancel(dropped));
    let next = net.take(1, "v", false);
    assert_eq!(tuple(&net, next), Some(1));
}

#[test]
fn a_received_tuple_is_not_given_back_by_a_late_cancellation() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    let taken = net.take(2, "v", true);
    net.input(NodeId(2), Input::Received(taken));
    net.input(NodeId(2), Input::Cancel(taken));
    net.pass(SECOND);
    let next = net.take(1, "v", false);
    assert_eq!(net.reply(next), Some(&Reply::Tuple(None)));
}

#[test]
fn a_home_that_cannot_be_reached_is_unavailable_and_never_empty() {
    let mut net = Net::of(3, true);
    net.out(1, "v", 1);
    net.pass(SECOND);
    net.kill(1);
    let take = net.take(2, "v", false);
    let fresh = {
        let template = Template::named("v").unwrap();
        let (workspace, wait, fresh) = ("w".to_owned(), false, true);
        net.ask(
            2,
            Command::Read {
                workspace,
                template,
                wait,
                fresh,
                deadline: SECOND,
            },
        )
    };
    net.pass(2 * SECOND);
    for request in [take, fresh] {
        let reply = net.reply(request);
        assert!(
            matches!(reply, Some(Reply::Failed(Failure::Unavailable { .. }))),
            "{reply:?}"
        );
    }
    let local = net.read(2, "v");
    assert_eq!(tuple(&net, local), Some(1), "the replica still answers");
}

#[test]
fn a_store_while_the_home_is_away_is_pending_readable_and_admitted_once() {
    let mut net = Net::of(3, true);
    net.pass(SECOND);
    net.kill(1);
    let stored = net.out(2, "v", 5);
    net.pass(2 * SECOND);
    assert_eq!(net.reply(stored), Some(&Reply::Pending));
    for n in [2, 3] {
        let read = net.read(n, "v");
        assert_eq!(
            tuple(&net, read),
            Some(5),
            "shown to node {n} before it is admitted"
        );
    }
    net.start(1);
    net.link_all();
    net.pass(5 * SECOND);
    let first = net.take(3, "v", false);
    assert_eq!(tuple(&net, first), Some(5));
    let second = net.take(3, "v", false);
    assert_eq!(net.reply(second), Some(&Reply::Tuple(None)));
}

/// A tuple of the variable `v` with so many bytes.
fn large(n: i64, bytes: usize) -> Tuple {
    let bytes = Value::Bytes(vec![7; bytes]);
    Tuple::new(vec![Value::from("v"), Value::from(n), bytes]).unwrap()
}

/// What node `n` shows of those tuples at once.
fn shows(net: &mut Net, n: u64, number: i64) -> bool {
    let fields = vec![
        Field::Actual(Value::from("v")),
        Field::Actual(Value::from(number)),
        Field::Any,
    ];
    let read = net.ask(
        n,
        Command::Read {
            workspace: "w".to_owned(),
            template: Template::new(fields).unwrap(),
            wait: false,
            fresh: false,
            deadline: SECOND,
        },
    );
    matches!(net.reply(read), Some(Reply::Tuple(Some(_))))
}

fn out_large(net: &mut Net, n: u64, number: i64, bytes: usize) {
    let command = Command::Out {
        workspace: "w".to_owned(),
        tuple: large(number, bytes),
        ack: Ack::Home,
        deadline: SECOND,
    };
    net.ask(n, command);
}

#[test]
fn a_long_backlog_is_shown_piece_by_piece_before_it_is_admitted() {
    let mut net = Net::of(3, true);
    net.pass(SECOND);
    net.kill(1);
    // One that no frame of gossip can hold is shown, and so are those behind it.
    out_large(&mut net, 2, 0, 60_000);
    for number in 1..=6 {
        out_large(&mut net, 2, number, 20_000);
    }
    out_large(&mut net, 2, 7, 300_000);
    net.pass(60 * SECOND);
    for number in 0..=7 {
        assert!(shows(&mut net, 3, number), "{number}");
    }
}

#[test]
fn an_entry_too_large_for_gossip_reaches_every_replica() {
    let mut net = Net::of(3, true);
    net.pass(SECOND);
    out_large(&mut net, 2, 1, 200_000);
    net.pass(SECOND);
    for n in 1..=3 {
        assert!(shows(&mut net, n, 1), "{n}");
    }
}

#[test]
fn a_store_acknowledged_locally_survives_a_restart_of_its_node() {
    let mut net = Net::of(2, true);
    net.pass(SECOND);
    net.kill(1);
    let (workspace, tuple_) = ("w".to_owned(), pair("v", 5));
    let store = Command::Out {
        workspace,
        tuple: tuple_,
        ack: Ack::Local,
        deadline: SECOND,
    };
    let stored = net.ask(2, store);
    assert_eq!(net.reply(stored), Some(&Reply::Pending));
    net.kill(2);
    net.start(1);
    net.start(2);
    net.link_all();
    net.pass(5 * SECOND);
    let taken = net.take(1, "v", false);
    assert_eq!(tuple(&net, taken), Some(5));
}

#[test]
fn a_home_comes_back_with_everything_it_acknowledged() {
    let mut net = Net::of(1, true);
    for value in 0..200 {
        net.out(1, "v", value);
    }
    for _ in 0..50 {
        let taken = net.take(1, "v", false);
        net.input(NodeId(1), Input::Received(taken));
    }
    net.kill(1);
    net.start(1);
    for value in 50..200 {
        let taken = net.take(1, "v", false);
        assert_eq!(tuple(&net, taken), Some(value));
    }
}

#[test]
fn a_drained_node_hands_its_homes_to_the_others() {
    let mut net = Net::of(3, true);
    for value in 0..20 {
        net.out(2, "v", value);
    }
    net.pass(2 * SECOND);
    let drain = net.ask(
        1,
        Command::Drain {
            deadline: 10 * SECOND,
            whole: true,
        },
    );
    net.pass(5 * SECOND);
    assert_eq!(net.reply(drain), Some(&Reply::Done));
    net.input(NodeId(1), Input::Leave);
    net.kill(1);
    let taken = net.take(3, "v", false);
    net.pass(2 * SECOND);
    assert_eq!(tuple(&net, taken), Some(0));
    // The former home comes back, follows, and can be asked like any other.
    net.start(1);
    net.link_all();
    net.pass(5 * SECOND);
    let taken = net.take(1, "v", false);
    net.pass(SECOND);
    assert_eq!(tuple(&net, taken), Some(1));
}

#[test]
fn a_node_that_joins_late_is_brought_up_by_snapshot() {
    let mut net = Net::of(2, true);
    for value in 0..6_000 {
        net.out(1, "v", value);
        let taken = net.take(1, "v", false);
        net.input(NodeId(1), Input::Received(taken));
    }
    net.out(1, "v", 9_999);
    net.start(3);
    // Whoever waits there already gets it too, though the template names no variable.
    let waits = net.ask(
        3,
        Command::Read {
            workspace: "w".to_owned(),
            template: Template::new(vec![Field::Any, Field::Any]).unwrap(),
            wait: true,
            fresh: false,
            deadline: 20 * SECOND,
        },
    );
    net.link_all();
    net.pass(10 * SECOND);
    let read = net.read(3, "v");
    assert_eq!(tuple(&net, read), Some(9_999));
    assert_eq!(tuple(&net, waits), Some(9_999));
    let status = net.ask(3, Command::Status);
    let installed = match net.reply(status) {
        Some(Reply::Status(status)) => status.counters.get("snapshots_installed").copied(),
        other => panic!("{other:?}"),
    };
    assert_eq!(installed, Some(1), "by snapshot and not entry by entry");
}

#[test]
fn a_template_without_a_name_takes_from_whichever_shard_has_a_match() {
    let mut net = Net::of(3, true);
    net.out(2, "a", 1);
    net.out(2, "b", 2);
    let fields = vec![Field::Typed(Kind::String), Field::Actual(Value::from(2))];
    let template = Template::new(fields).unwrap();
    let scan = |wait| Command::Take {
        workspace: "w".to_owned(),
        template: template.clone(),
        wait,
        deadline: 3 * SECOND,
    };
    let first = net.ask(3, scan(false));
    net.pass(SECOND);
    assert_eq!(tuple(&net, first), Some(2));
    let none = net.ask(3, scan(false));
    net.pass(SECOND);
    assert_eq!(net.reply(none), Some(&Reply::Tuple(None)));
    let waiting = net.ask(3, scan(true));
    net.pass(SECOND);
    net.out(1, "c", 2);
    net.pass(SECOND);
    assert_eq!(tuple(&net, waiting), Some(2));
}

#[test]
fn deleting_a_workspace_deletes_it_in_every_shard() {
    let mut net = Net::of(2, true);
    for n in 0..20 {
        net.out(2, &format!("v{n}"), n);
    }
    let (workspace, variable) = ("w".to_owned(), None);
    let gone = net.ask(
        2,
        Command::Delete {
            workspace,
            variable,
            deadline: 5 * SECOND,
        },
    );
    net.pass(2 * SECOND);
    assert_eq!(net.reply(gone), Some(&Reply::Done));
    for n in 0..20 {
        let taken = net.take(1, &format!("v{n}"), false);
        assert_eq!(net.reply(taken), Some(&Reply::Tuple(None)));
    }
}

#[test]
fn a_deletion_that_was_begun_is_unknown_when_its_time_is_up() {
    let mut net = Net::of(2, true);
    net.out(2, "v", 1);
    net.wire = Some(Box::new(|_, _, bytes| {
        let said = Message::decode(&bytes).unwrap();
        let drops = matches!(
            said,
            Message::Operate {
                operation: Operation::Drop { .. },
                ..
            }
        );
        (!drops).then_some(bytes)
    }));
    let delete = |net: &mut Net| {
        let (workspace, variable) = ("w".to_owned(), None);
        let deadline = SECOND;
        let delete = Command::Delete {
            workspace,
            variable,
            deadline,
        };
        let asked = net.ask(2, delete);
        net.pass(3 * SECOND);
        net.reply(asked).cloned()
    };
    let begun = delete(&mut net);
    let unknown = matches!(begun, Some(Reply::Failed(Failure::Unknown { .. })));
    assert!(unknown, "it goes on: {begun:?}");
    net.wire = None;
    net.pass(5 * SECOND);
    let taken = net.take(1, "v", false);
    assert_eq!(net.reply(taken), Some(&Reply::Tuple(None)), "and ended");
    // What was never begun is told as that.
    net.wire = Some(Box::new(|from, to, bytes| {
        (from != 2 && to != 2).then_some(bytes)
    }));
    let begun = delete(&mut net);
    let nothing = matches!(begun, Some(Reply::Failed(Failure::Unavailable { .. })));
    assert!(nothing, "{begun:?}");
}

#[test]
fn a_name_is_claimed_once_and_known_everywhere() {
    let mut net = Net::of(3, true);
    let claim = |expect| Command::Claim {
        name: "a".to_owned(),
        expect,
        spec: Value::from("echo"),
        deadline: SECOND,
    };
    let first = net.ask(2, claim(0));
    let second = net.ask(3, claim(0));
    assert!(matches!(net.reply(first), Some(Reply::Actor(Some(info))) if info.token == 1));
    assert!(matches!(
        net.reply(second),
        Some(Reply::Failed(Failure::Refused(_)))
    ));
    net.pass(SECOND);
    let found = net.ask(
        3,
        Command::Where {
            name: "a".to_owned(),
        },
    );
    let host = match net.reply(found) {
        Some(Reply::Actor(Some(info))) => info.host.map(|member| member.node),
        other => panic!("{other:?}"),
    };
    assert_eq!(host, Some(NodeId(2)));
}

#[test]
fn a_watch_sees_what_is_there_and_what_comes() {
    let mut net = Net::of(2, true);
    net.out(1, "v", 1);
    net.pass(SECOND);
    let template = Template::named("v").unwrap();
    let watch = net.ask(
        2,
        Command::Watch {
            workspace: "w".to_owned(),
            template,
        },
    );
    net.out(1, "v", 2);
    net.out(1, "other", 3);
    net.pass(SECOND);
    let seen: Vec<_> = net.replies[&watch].clone();
    let expected = [1, 2].map(|n| Reply::Tuple(Some(pair("v", n))));
    assert_eq!(seen, expected);
}

/// What watches of `w` on these nodes have been shown, in order of values.
pub(crate) fn shown(net: &Net, watches: &[RequestId]) -> Vec<Vec<i64>> {
    let of = |watch: &RequestId| {
        let replies = net.replies.get(watch).into_iter().flatten();
        let values = replies.filter_map(|reply| match reply {
            Reply::Tuple(Some(tuple)) => tuple[1].as_int(),
            _ => None,
        });
        let mut values: Vec<i64> = values.collect();
        values.sort_unstable();
        values
    };
    watches.iter().map(of).collect()
}

#[test]
fn a_watch_shows_a_store_once_though_it_is_pending_first() {
    let mut net = Net::of(3, true);
    net.pass(SECOND);
    let watch = |net: &mut Net, node| {
        let (workspace, template) = ("w".to_owned(), Template::named("v").unwrap());
        net.ask(
            node,
            Command::Watch {
                workspace,
                template,
            },
        )
    };
    let early: Vec<RequestId> = [1, 2, 3].map(|node| watch(&mut net, node)).into();
    for value in 1..=9 {
        net.out(1 + value as u64 % 3, "v", value);
    }
    net.pass(SECOND);
    let first: Vec<i64> = (1..=9).collect();
    assert_eq!(shown(&net, &early), vec![first; 3]);

    // Without its home a store is pending: those who watch see it, and who begins now does.
    let homes = net.peers.remove(&NodeId(1)).unwrap();
    for value in 10..=12 {
        net.out(2, "v", value);
    }
    let seen = shown(&net, &early[1..2]);
    assert_eq!(seen, [(1..=12).collect::<Vec<i64>>()]);
    let late = watch(&mut net, 2);
    let seen = shown(&net, &[late]);
    assert_eq!(seen, [(1..=12).collect::<Vec<i64>>()]);
    net.peers.insert(NodeId(1), homes);
    for value in 13..=15 {
        net.out(3, "v", value);
        net.pass(SECOND);
    }
    let all: Vec<i64> = (1..=15).collect();
    assert_eq!(
        shown(&net, &[early[0], early[1], early[2], late]),
        vec![all; 4]
    );
}

#[test]
fn commands_before_the_mesh_is_known_wait_for_it() {
    let mut net = Net::of(1, true);
    net.start(2);
    let stored = net.out(2, "v", 1);
    assert_eq!(net.reply(stored), None);
    net.link_all();
    net.pass(SECOND);
    assert!(
        matches!(net.reply(stored), Some(Reply::Stored { .. })),
        "{:?}",
        net.reply(stored)
    );
    net.start(3);
    let never = net.out(3, "v", 1);
    net.pass(2 * SECOND);
    assert!(matches!(
        net.reply(never),
        Some(Reply::Failed(Failure::Unavailable { .. }))
    ));
}

#[test]
fn a_node_that_has_not_joined_says_so_to_who_does_not_wait() {
    let mut net = Net::of(1, true);
    net.start(2);
    let read = net.read(2, "v");
    let list = net.ask(2, Command::List { workspace: None });
    net.pass(3 * SECOND);
    for request in [read, list] {
        let reply = net.reply(request);
        let said = matches!(reply, Some(Reply::Failed(Failure::Unavailable { .. })));
        assert!(said, "{reply:?}");
    }
}

/// A read that waits and counts only what the home has.
fn wait_fresh(net: &mut Net, n: u64, variable: Option<&str>) -> RequestId {
    let template = match variable {
        Some(variable) => Template::named(variable).unwrap(),
        None => Template::new(vec![Field::Any, Field::Any]).unwrap(),
    };
    let (workspace, deadline) = ("w".to_owned(), 10 * SECOND);
    let (wait, fresh) = (true, true);
    net.ask(
        n,
        Command::Read {
            workspace,
            template,
            wait,
            fresh,
            deadline,
        },
    )
}

#[test]
fn a_fresh_find_that_waits_never_shows_what_is_gone() {
    for variable in [Some("v"), None] {
        let mut net = Net::of(2, true);
        let waits = wait_fresh(&mut net, 2, variable);
        net.pass(SECOND);
        // The feed brings both at once, when the tuple is long taken.
        net.out(1, "v", 1);
        let taken = net.take(1, "v", false);
        assert_eq!(tuple(&net, taken), Some(1));
        net.pass(SECOND);
        assert_eq!(net.reply(waits), None);
        net.out(1, "v", 2);
        net.pass(SECOND);
        assert_eq!(tuple(&net, waits), Some(2));
    }
}

#[test]
fn a_fresh_find_that_waits_in_vain_says_so_or_why() {
    let mut net = Net::of(2, true);
    let in_vain = wait_fresh(&mut net, 2, Some("v"));
    net.pass(11 * SECOND);
    let reply = net.reply(in_vain);
    let said = matches!(reply, Some(Reply::Failed(Failure::TimedOut(_))));
    assert!(said, "{reply:?}");
    net.kill(1);
    let cut_off = wait_fresh(&mut net, 2, Some("v"));
    net.pass(11 * SECOND);
    let reply = net.reply(cut_off);
    let said = matches!(reply, Some(Reply::Failed(Failure::Unavailable { .. })));
    assert!(said, "{reply:?}");
}

#[test]
fn a_take_that_found_nothing_does_not_strand_the_next_waiter() {
    let mut net = Net::of(1, true);
    net.out(1, "v", 1);
    let now = net.now;
    let take = |fields: Vec<Field>, wait| Command::Take {
        workspace: "w".to_owned(),
        template: Template::new(fields).unwrap(),
        wait,
        deadline: 5 * SECOND,
    };
    let name = || Field::Actual(Value::from("v"));
    let other = take(vec![name(), Field::Actual(Value::from(2))], false);
    let any = take(vec![name(), Field::Any], true);
    // Both are asked before the disk has answered for the first.
    let peer = net.peers.get_mut(&NodeId(1)).unwrap();
    peer.handle(now, Input::Command(RequestId(100), other));
    peer.handle(now, Input::Command(RequestId(101), any));
    net.settle();
    assert_eq!(net.reply(RequestId(100)), Some(&Reply::Tuple(None)));
    assert_eq!(tuple(&net, RequestId(101)), Some(1));
}

#[test]
fn an_outcome_is_forgotten_although_its_acknowledgement_was_lost() {
    let mut net = crate::groups::grown();
    net.out(2, "a", 1);
    net.pass(SECOND);
    net.wire = Some(Box::new(|_, _, bytes| {
        let ack = matches!(Message::decode(&bytes), Ok(Message::Ack { .. }));
        (!ack).then_some(bytes)
    }));
    let leader = crate::groups::leader_of(&mut net, "a");
    let other = (1..=3).find(|n| *n != leader).unwrap();
    let taken = net.take(other, "a", false);
    net.pass(SECOND);
    net.input(NodeId(other), Input::Received(taken));
    net.pass(2 * SECOND);
    let remembered = |net: &Net| {
        let shards = net.peers.values().flat_map(cpe_mesh::Peer::shards);
        shards.map(|shard| shard.sm().remembered()).sum::<usize>()
    };
    assert_eq!(remembered(&net), 3, "at each of three replicas");
    net.wire = None;
    net.pass(4 * SECOND);
    assert_eq!(remembered(&net), 0);
}

/// Simulation, seed 100: a client that asks nothing more had only heard of a leader that leads no
/// longer, and told that one alone.
#[test]
fn an_acknowledgement_finds_a_leader_that_its_node_has_not_heard_of() {
    let mut net = Net::of(4, true);
    net.pass(Duration::from_secs(6));
    net.out(1, "a", 1);
    net.pass(SECOND);
    let nth = usize::from(
        cpe_space::shard_of(&cpe_space::Name::new("w").unwrap(), &Value::from("a"), 4).0,
    );
    let group = crate::groups::shards(&mut net, 1).swap_remove(nth);
    let there = |n: &u64| group.members.iter().any(|member| member.node.0 == *n);
    let outside = (1..=4).find(|n| !there(n)).unwrap();
    let leader = group.leader.unwrap().0;
    let taken = net.take(outside, "a", false);
    net.pass(SECOND);
    // Cut off for as long as an election takes, and back as a follower.
    net.wire = Some(Box::new(move |from, to, bytes| {
        let ack = matches!(Message::decode(&bytes), Ok(Message::Ack { .. }));
        (from != leader && to != leader && !ack).then_some(bytes)
    }));
    net.input(NodeId(outside), Input::Received(taken));
    net.pass(3 * SECOND);
    net.wire = None;
    net.pass(SECOND);
    assert_ne!(crate::groups::leader_of(&mut net, "a"), leader);
    net.pass(8 * SECOND);
    let shards = net.peers.values().flat_map(cpe_mesh::Peer::shards);
    assert_eq!(shards.map(|it| it.sm().remembered()).sum::<usize>(), 0);
}
