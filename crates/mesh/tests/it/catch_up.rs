//! A replica that no log can help any more catches up, with few bytes and whatever happens.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{Ack, Command, Genesis, Input, Message, Part, PeerConfig, RequestId};
use cpe_space::{Shard, ShardId, Sm};
use cpe_tuple::{Template, Tuple, Value};

use crate::facts::shown;
use crate::{Net, SECOND, member};

/// Node 1 is the home of everything and trims its log at once.
fn settings(n: u64, shards: u16) -> impl FnOnce(&mut PeerConfig) {
    move |config| {
        config.takes_homes = n == 1;
        config.log_kept = 4;
        config.log_bytes_max = 4_096;
        if n == 1 {
            config.genesis = Some(Genesis {
                mesh: "test".to_owned(),
                shards,
                volatile: 0,
                founder: member(1),
                group_size: 1,
            });
        }
    }
}

fn net(nodes: u64, shards: u16) -> Net {
    let mut net = Net::of(0, true);
    for n in 1..=nodes {
        net.start_with(n, settings(n, shards));
    }
    net.link_all();
    net.pass(SECOND);
    net
}

fn link(net: &mut Net, a: u64, b: u64) {
    net.input(NodeId(a), Input::LinkUp(NodeId(b)));
    net.input(NodeId(b), Input::LinkUp(NodeId(a)));
}

fn unlink(net: &mut Net, a: u64, b: u64) {
    net.input(NodeId(a), Input::LinkDown(NodeId(b)));
    net.input(NodeId(b), Input::LinkDown(NodeId(a)));
}

fn store(net: &mut Net, variable: &str, value: i64, bytes: usize) {
    let payload = Value::Bytes(value.to_be_bytes().repeat(bytes / 8));
    let tuple = Tuple::new(vec![Value::from(variable), Value::from(value), payload]).unwrap();
    let (workspace, ack) = ("w".to_owned(), Ack::Home);
    let out = Command::Out {
        workspace,
        tuple,
        ack,
        deadline: SECOND,
    };
    net.ask(1, out);
}

fn ask_take(net: &mut Net, variable: &str, value: i64) -> RequestId {
    let template = Template::new(vec![
        cpe_tuple::Field::Actual(Value::from(variable)),
        cpe_tuple::Field::Actual(Value::from(value)),
        cpe_tuple::Field::Any,
    ])
    .unwrap();
    let (workspace, wait) = ("w".to_owned(), false);
    let take = Command::Take {
        workspace,
        template,
        wait,
        deadline: SECOND,
    };
    net.ask(1, take)
}

fn take(net: &mut Net, variable: &str, value: i64) {
    let request = ask_take(net, variable, value);
    assert!(
        matches!(net.reply(request), Some(cpe_mesh::Reply::Tuple(Some(_)))),
        "{variable} {value}: {:?}",
        net.reply(request)
    );
    net.input(NodeId(1), Input::Received(request));
}

fn replica(net: &Net, n: u64, shard: u16) -> &Shard {
    let peer = &net.peers[&NodeId(n)];
    peer.shards().nth(usize::from(shard)).unwrap()
}

fn equal(net: &Net, a: u64, b: u64) -> bool {
    net.peers[&NodeId(a)]
        .shards()
        .zip(net.peers[&NodeId(b)].shards())
        .all(|(a, b)| a.sm() == b.sm())
}

fn count(net: &Net, n: u64, name: &str) -> u64 {
    net.peers[&NodeId(n)].counter(name)
}

fn decode(bytes: &[u8]) -> Message {
    Message::decode(bytes).unwrap()
}

fn is_about_state(message: &Message) -> bool {
    matches!(
        message,
        Message::State { .. }
            | Message::StateReq { .. }
            | Message::Trimmed { .. }
            | Message::FeedReq { .. }
            | Message::Feed { .. }
    )
}

/// Counts the bytes of catching up.
fn metered(net: &mut Net) -> Rc<Cell<usize>> {
    let bytes = Rc::new(Cell::new(0));
    let meter = Rc::clone(&bytes);
    net.wire = Some(Box::new(move |_, _, message| {
        if is_about_state(&decode(&message)) {
            meter.set(meter.get() + message.len());
        }
        Some(message)
    }));
    bytes
}

/// Node 2 has 1,000 tuples; while it is away, 40 go and 40 come, and no log tells which.
fn away() -> Net {
    let mut net = net(2, 1);
    for n in 0..1_000 {
        store(&mut net, "v", n, 64);
    }
    net.pass(3 * SECOND);
    assert!(equal(&net, 1, 2));
    net.kill(2);
    for n in 0..40 {
        take(&mut net, "v", 25 * n);
        store(&mut net, "new", n, 64);
    }
    // What comes and goes meanwhile is nobody's business.
    for n in 0..40 {
        store(&mut net, "brief", n, 64);
        take(&mut net, "brief", n);
    }
    net.start_with(2, settings(2, 1));
    assert!(replica(&net, 1, 0).base() > replica(&net, 2, 0).version().index);
    net
}

#[test]
fn a_node_away_for_long_fetches_what_is_new_and_learns_what_is_gone() {
    let mut net = away();
    let bytes = metered(&mut net);
    link(&mut net, 1, 2);
    net.pass(5 * SECOND);
    assert!(equal(&net, 1, 2));
    assert_eq!(count(&net, 2, "sketches_installed"), 1);
    assert_eq!(count(&net, 2, "snapshots_installed"), 0);
    let new = replica(&net, 1, 0).sm().live();
    let new = new.filter(|live| live.tuple.first() == Some(&Value::from("new")));
    let bodies: usize = new
        .map(|live| cpe_tuple::codec::encode(&live).unwrap().len())
        .sum();
    let beyond = bytes.get() - bodies;
    let whole = cpe_tuple::codec::encode(replica(&net, 1, 0).sm()).unwrap();
    assert!(
        beyond < 1_500,
        "{beyond} bytes beyond the {bodies} of what is new; a snapshot has {}",
        whole.len()
    );
}

#[test]
fn a_watch_is_shown_what_is_new_in_a_state_that_was_fetched() {
    let mut net = net(2, 1);
    for n in 0..100 {
        store(&mut net, "v", n, 64);
    }
    net.pass(3 * SECOND);
    let any = cpe_tuple::Field::Any;
    let fields = vec![cpe_tuple::Field::Actual(Value::from("v")), any.clone(), any];
    let watch = net.ask(
        2,
        Command::Watch {
            workspace: "w".to_owned(),
            template: Template::new(fields).unwrap(),
        },
    );
    let installed =
        |net: &Net| ["sketches_installed", "snapshots_installed"].map(|tier| count(net, 2, tier));
    let before = installed(&net);
    // Cut off, and not killed: its watch goes on.
    unlink(&mut net, 1, 2);
    let away = net.peers.remove(&NodeId(2)).unwrap();
    for n in 0..100 {
        store(&mut net, "brief", n, 64);
        take(&mut net, "brief", n);
    }
    take(&mut net, "v", 7);
    store(&mut net, "v", 100, 64);
    assert!(replica(&net, 1, 0).base() > away.shards().next().unwrap().version().index);
    net.peers.insert(NodeId(2), away);
    link(&mut net, 1, 2);
    net.pass(10 * SECOND);
    assert!(equal(&net, 1, 2));
    assert!(installed(&net) > before, "entry by entry");
    assert_eq!(shown(&net, &[watch]), [(0..=100).collect::<Vec<i64>>()]);
}

#[test]
fn what_was_fetched_survives_a_crash() {
    let mut net = away();
    link(&mut net, 1, 2);
    net.pass(5 * SECOND);
    net.kill(2);
    net.start_with(2, settings(2, 1));
    assert!(equal(&net, 1, 2));
}

#[test]
fn a_tuple_that_came_back_meanwhile_is_fetched_again() {
    let mut net = net(2, 1);
    for n in 0..100 {
        store(&mut net, "v", n, 64);
    }
    // Taken, seen as taken by node 2, and given back while node 2 is away.
    let request = ask_take(&mut net, "v", 7);
    net.pass(Duration::from_millis(300));
    assert!(equal(&net, 1, 2));
    assert_eq!(replica(&net, 2, 0).sm().len(), 99);
    net.kill(2);
    net.input(NodeId(1), Input::Cancel(request));
    for n in 0..200 {
        store(&mut net, "brief", n, 64);
        take(&mut net, "brief", n);
    }
    net.pass(SECOND);
    assert_eq!(replica(&net, 1, 0).sm().len(), 100);
    net.start_with(2, settings(2, 1));
    link(&mut net, 1, 2);
    net.pass(3 * SECOND);
    assert!(equal(&net, 1, 2));
    assert_eq!(count(&net, 2, "sketches_installed"), 1);
    assert_eq!(count(&net, 2, "states_failed"), 0);
}

#[test]
fn a_replica_of_which_little_is_true_takes_all_tuples() {
    let mut net = net(2, 1);
    for n in 0..400 {
        store(&mut net, "v", n, 64);
    }
    net.pass(2 * SECOND);
    net.kill(2);
    for n in 0..300 {
        take(&mut net, "v", n);
        store(&mut net, "new", n, 64);
    }
    net.start_with(2, settings(2, 1));
    link(&mut net, 1, 2);
    net.pass(5 * SECOND);
    assert!(equal(&net, 1, 2));
    assert_eq!(count(&net, 2, "sketches_installed"), 0);
    assert_eq!(count(&net, 2, "snapshots_installed"), 1);
}

/// Bytes of tuples that arrive at a node, page by page; and how many pages may arrive.
fn pages(net: &mut Net, to: u64, most: usize) -> Rc<Cell<usize>> {
    let bytes = Rc::new(Cell::new(0));
    let (meter, left) = (Rc::clone(&bytes), Cell::new(most));
    net.wire = Some(Box::new(move |_, target, message| {
        if let Message::State { parts, .. } = decode(&message)
            && target == to
        {
            if left.get() == 0 {
                return None;
            }
            let listed = |part: &Part| matches!(part, Part::Page { .. });
            if parts.iter().any(listed) {
                left.set(left.get() - 1);
                meter.set(meter.get() + message.len());
            }
        }
        Some(message)
    }));
    bytes
}

/// Nodes 1 and 2 hold 200 tuples of 8 kB: seven pages.
fn large() -> (Net, usize) {
    let mut net = net(2, 1);
    for n in 0..200 {
        store(&mut net, "v", n, 8_192);
    }
    net.pass(3 * SECOND);
    assert!(equal(&net, 1, 2));
    let size = cpe_tuple::codec::encode(replica(&net, 1, 0).sm()).unwrap();
    net.start_with(3, settings(3, 1));
    (net, size.len())
}

#[test]
fn a_state_larger_than_a_message_goes_on_where_it_stopped() {
    let (mut net, size) = large();
    let first = pages(&mut net, 3, 3);
    link(&mut net, 1, 3);
    net.pass(2 * SECOND);
    assert_eq!(replica(&net, 3, 0).version().index, 0);
    let half = first.get();
    assert!(half > size / 3, "{half} of {size}");
    unlink(&mut net, 1, 3);
    let rest = pages(&mut net, 3, usize::MAX);
    net.pass(SECOND);
    link(&mut net, 1, 3);
    net.pass(3 * SECOND);
    assert!(equal(&net, 1, 3));
    let total = half + rest.get();
    assert!(total < size + size / 20, "{total} bytes for {size}");
    assert_eq!(count(&net, 3, "snapshots_installed"), 1);
}

#[test]
fn another_peer_with_the_same_state_goes_on_with_it() {
    let (mut net, size) = large();
    let first = pages(&mut net, 3, 3);
    link(&mut net, 1, 3);
    net.pass(2 * SECOND);
    net.kill(1);
    let half = first.get();
    let rest = pages(&mut net, 3, usize::MAX);
    link(&mut net, 2, 3);
    net.pass(5 * SECOND);
    assert!(equal(&net, 2, 3));
    let total = half + rest.get();
    assert!(total < size + size / 20, "{total} bytes for {size}");
}

#[test]
fn a_peer_that_changes_meanwhile_does_not_make_it_begin_anew() {
    let (mut net, size) = large();
    let first = pages(&mut net, 3, 3);
    link(&mut net, 1, 3);
    net.pass(2 * SECOND);
    let half = first.get();
    unlink(&mut net, 1, 3);
    // Long enough for the offer to be given up.
    net.wire = None;
    net.pass(5 * SECOND);
    for n in 0..20 {
        take(&mut net, "v", 3 * n);
        store(&mut net, "new", n, 64);
    }
    let rest = pages(&mut net, 3, usize::MAX);
    link(&mut net, 1, 3);
    net.pass(5 * SECOND);
    assert!(equal(&net, 1, 3));
    let total = half + rest.get();
    assert!(total < size + size / 20, "{total} bytes for {size}");
    assert_eq!(count(&net, 3, "states_failed"), 0);
}

/// Changes parts of states on their way, as often as told.
fn spoiled(net: &mut Net, times: usize, spoil: fn(&mut Part) -> bool) {
    let left = Cell::new(times);
    net.wire = Some(Box::new(move |_, _, bytes| {
        let Message::State {
            shard,
            index,
            mut parts,
        } = decode(&bytes)
        else {
            return Some(bytes);
        };
        for part in &mut parts {
            if left.get() > 0 && spoil(part) {
                left.set(left.get() - 1);
            }
        }
        let message = Message::State {
            shard,
            index,
            parts,
        };
        Some(message.encode().unwrap())
    }));
}

fn spoil_symbols(part: &mut Part) -> bool {
    if let Part::Symbols { bytes, .. } = part {
        for byte in bytes.iter_mut().step_by(3) {
            *byte ^= 0x15;
        }
        return true;
    }
    false
}

fn spoil_tuple(part: &mut Part) -> bool {
    if let Part::Page { tuples, .. } = part
        && let Some(live) = tuples.first_mut()
    {
        live.tuple = crate::pair("forged", 1);
        return true;
    }
    false
}

#[test]
fn a_garbage_sketch_ends_in_all_tuples() {
    let mut net = away();
    spoiled(&mut net, usize::MAX, spoil_symbols);
    link(&mut net, 1, 2);
    net.pass(8 * SECOND);
    assert!(equal(&net, 1, 2));
    assert_eq!(count(&net, 2, "snapshots_installed"), 1);
    assert_eq!(count(&net, 2, "sketches_installed"), 0);
}

#[test]
fn a_state_that_is_not_the_one_offered_is_taken_whole_the_next_time() {
    let mut net = away();
    spoiled(&mut net, 1, spoil_tuple);
    link(&mut net, 1, 2);
    net.pass(8 * SECOND);
    assert!(equal(&net, 1, 2));
    assert_eq!(count(&net, 2, "states_failed"), 1);
    assert_eq!(count(&net, 2, "snapshots_installed"), 1);
    assert_eq!(net.malformed, 0);
}

#[test]
fn a_peer_that_only_lies_changes_nothing_and_is_told_of() {
    let mut net = away();
    let before = replica(&net, 2, 0).version();
    spoiled(&mut net, usize::MAX, spoil_tuple);
    link(&mut net, 1, 2);
    net.pass(8 * SECOND);
    assert_eq!(replica(&net, 2, 0).version(), before);
    assert!(net.malformed > 0);
    net.wire = None;
    net.pass(8 * SECOND);
    assert!(
        equal(&net, 1, 2),
        "it is believed again once it tells the truth"
    );
}

#[test]
fn any_one_lost_message_costs_time_only() {
    for nth in 0..8 {
        let mut net = away();
        let seen = Cell::new(0);
        net.wire = Some(Box::new(move |_, _, message| {
            if is_about_state(&decode(&message)) {
                seen.set(seen.get() + 1);
                if seen.get() == nth + 1 {
                    return None;
                }
            }
            Some(message)
        }));
        link(&mut net, 1, 2);
        net.pass(8 * SECOND);
        assert!(equal(&net, 1, 2), "message {nth} was lost");
        assert_eq!(count(&net, 2, "sketches_installed"), 1);
    }
}

#[test]
fn messages_from_the_past_change_nothing() {
    let mut net = away();
    let past = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&past);
    net.wire = Some(Box::new(move |from, to, message| {
        if is_about_state(&decode(&message)) {
            kept.borrow_mut().push((from, to, message.clone()));
        }
        Some(message)
    }));
    link(&mut net, 1, 2);
    net.pass(5 * SECOND);
    assert!(equal(&net, 1, 2));
    net.kill(2);
    for n in 0..30 {
        take(&mut net, "new", n);
        store(&mut net, "newer", n, 64);
    }
    net.start_with(2, settings(2, 1));
    // Each is repeated whenever anything is said about states.
    let past = past.borrow().clone();
    net.wire = None;
    link(&mut net, 1, 2);
    for _ in 0..40 {
        for (from, to, bytes) in &past {
            let (from, bytes) = (NodeId(*from), bytes.clone());
            net.input(NodeId(*to), Input::Message { from, bytes });
        }
        net.pass(Duration::from_millis(100));
    }
    assert!(equal(&net, 1, 2));
    assert_eq!(net.malformed, 0);
    assert_eq!(count(&net, 2, "states_failed"), 0);
}

#[test]
fn few_states_are_fetched_at_a_time_and_all_in_the_end() {
    let mut net = net(1, 64);
    for n in 0..640 {
        store(&mut net, &format!("v{}", n % 200), n, 512);
    }
    net.pass(SECOND);
    net.start_with(2, settings(2, 64));
    let asked: Rc<RefCell<BTreeSet<ShardId>>> = Rc::default();
    let seen = Rc::clone(&asked);
    net.wire = Some(Box::new(move |_, _, message| {
        match decode(&message) {
            Message::StateReq { shard, .. } => {
                seen.borrow_mut().insert(shard);
            }
            Message::State { .. } => return None,
            _ => {}
        }
        Some(message)
    }));
    link(&mut net, 1, 2);
    net.pass(Duration::from_millis(1_500));
    let first = asked.borrow().len();
    assert!((1..=8).contains(&first), "{first} states asked for at once");
    net.wire = None;
    net.pass(10 * SECOND);
    assert!(equal(&net, 1, 2));
    assert!(count(&net, 2, "snapshots_installed") > 20);
}

#[test]
fn what_is_offered_is_bounded_and_those_refused_come_again() {
    // Forty replicas of one node want a state each, of which each has only a part so far.
    let mut net = net(1, 64);
    for n in 0..64 {
        for m in 0..3 {
            store(&mut net, &format!("v{n}"), m, 200_000);
        }
    }
    net.pass(SECOND);
    let begin = |shard| Message::StateReq {
        shard: ShardId(shard),
        index: 0,
        after: 0,
        want: cpe_mesh::Want::Begin,
    };
    net.start_with(2, settings(2, 64));
    link(&mut net, 1, 2);
    for shard in 0..64 {
        let bytes = begin(shard).encode().unwrap();
        let from = NodeId(2);
        net.peers
            .get_mut(&NodeId(1))
            .unwrap()
            .handle(net.now, Input::Message { from, bytes });
    }
    assert!(count(&net, 1, "offers_refused") > 0);
    net.settle();
    net.pass(20 * SECOND);
    assert!(equal(&net, 1, 2));
}

/// The digest names the state, not the way it was reached.
#[test]
fn a_digest_is_of_the_encoding() {
    let net = away();
    let sm = replica(&net, 1, 0).sm();
    let encoded = cpe_tuple::codec::encode(sm).unwrap();
    let again: Sm = cpe_tuple::codec::decode(&encoded, usize::MAX).unwrap();
    let encoded_again = cpe_tuple::codec::encode(&again).unwrap();
    assert_eq!(Sm::digest(&encoded), Sm::digest(&encoded_again));
    let other = replica(&net, 2, 0).sm();
    let other = cpe_tuple::codec::encode(other).unwrap();
    assert_ne!(Sm::digest(&encoded), Sm::digest(&other));
}
