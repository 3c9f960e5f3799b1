//! Bodies of large values: on the disks of a majority before a store is acknowledged, fetched by
//! who needs them, gone when nobody does.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_mesh::{
    Ack, BodyDone, BodyMessage, BodyPart, BodyWork, Command, Failure, Input, Message, Reply,
    RequestId,
};
use cpe_space::{Bound, ShardId, Terms};
use cpe_tuple::blob::{Builder, CHUNK_BYTES, Outline};
use cpe_tuple::{Blob, BlobHash, Template, Tuple, Value};

use crate::groups::{grown, leader_of};
use crate::{Net, SECOND};

/// What storage does for bodies, in memory.
#[derive(Default)]
pub(crate) struct Shelf {
    parts: BTreeMap<BlobHash, BTreeMap<u32, Vec<u8>>>,
    whole: BTreeMap<BlobHash, (Vec<u8>, Vec<u8>)>,
    new: BTreeMap<u64, Vec<u8>>,
}

impl Shelf {
    pub(crate) fn there(&self) -> BTreeMap<BlobHash, u64> {
        let whole = self.whole.iter();
        whole
            .map(|(hash, (body, _))| (*hash, body.len() as u64))
            .collect()
    }

    pub(crate) fn work(&mut self, work: BodyWork) -> Option<BodyDone> {
        match work {
            BodyWork::Write { hash, chunk, bytes } => {
                let before = self.parts.entry(hash).or_default().insert(chunk, bytes);
                assert_eq!(before, None, "a chunk is written once");
                Some(BodyDone::Written { hash, chunk })
            }
            BodyWork::Seal { blob, outline } => {
                let hash = blob.hash();
                let body = self.parts.remove(&hash).unwrap().into_values();
                let body = body.collect::<Vec<_>>().concat();
                assert_eq!(Blob::of(blob.is_text(), &body).unwrap(), blob);
                self.whole.insert(hash, (body, outline));
                let len = blob.len();
                Some(BodyDone::Sealed { hash, len })
            }
            BodyWork::Adopt { token, blob } => {
                let body = self.new.remove(&token).unwrap();
                let outline = built(&body).1.to_bytes();
                let hash = blob.hash();
                self.whole.insert(hash, (body, outline));
                let len = blob.len();
                Some(BodyDone::Sealed { hash, len })
            }
            BodyWork::Abandon { hash } => {
                self.parts.remove(&hash);
                None
            }
            BodyWork::Read { ticket, hash, part } => {
                let bytes = self
                    .whole
                    .get(&hash)
                    .and_then(|(body, outline)| match part {
                        BodyPart::Outline => Some(outline.clone()),
                        BodyPart::Chunk(chunk) => body
                            .chunks(CHUNK_BYTES)
                            .nth(chunk as usize)
                            .map(<[u8]>::to_vec),
                    });
                let damaged = !self.whole.contains_key(&hash);
                Some(BodyDone::Read {
                    ticket,
                    bytes,
                    damaged,
                })
            }
            BodyWork::Delete { hash } => {
                self.whole.remove(&hash);
                None
            }
        }
    }
}

fn built(body: &[u8]) -> (Blob, Outline) {
    let mut builder = Builder::default();
    for chunk in body.chunks(CHUNK_BYTES) {
        builder.push(chunk).unwrap();
    }
    builder.finish(false).unwrap()
}

fn body(chunks: usize, seed: u8) -> Vec<u8> {
    (0..chunks * CHUNK_BYTES + 7)
        .map(|i| (i % 251) as u8 ^ seed)
        .collect()
}

/// Gives a node a body of its own.
fn adopt(net: &mut Net, n: u64, body: Vec<u8>) -> Blob {
    let (blob, _) = built(&body);
    let token = net.next + 1_000;
    net.shelves
        .entry(NodeId(n))
        .or_default()
        .new
        .insert(token, body);
    let deadline = SECOND;
    let adopted = net.ask(
        n,
        Command::Adopt {
            token,
            blob,
            deadline,
        },
    );
    assert_eq!(net.reply(adopted), Some(&Reply::Done));
    blob
}

fn out(net: &mut Net, n: u64, variable: &str, blob: Blob, ack: Ack) -> RequestId {
    let tuple = Tuple::named(variable, Value::from(blob)).unwrap();
    let (workspace, deadline) = ("w".to_owned(), 3 * SECOND);
    net.ask(
        n,
        Command::Out {
            workspace,
            tuple,
            ack,
            deadline,
        },
    )
}

fn gather(net: &mut Net, n: u64, variable: &str, blob: Blob) -> RequestId {
    let (workspace, variable) = ("w".to_owned(), Value::from(variable));
    let deadline = 3 * SECOND;
    net.ask(
        n,
        Command::Gather {
            blob,
            workspace,
            variable,
            deadline,
        },
    )
}

fn holders(net: &Net, blob: Blob) -> Vec<u64> {
    let has = |shelf: &Shelf| shelf.whole.contains_key(&blob.hash());
    let all = net.shelves.iter().filter(|(_, shelf)| has(shelf));
    all.map(|(node, _)| node.0).collect()
}

fn is_about_parts(bytes: &[u8]) -> bool {
    let message = Message::decode(bytes).unwrap();
    matches!(message, Message::Body(BodyMessage::Part { .. }))
}

fn stored(net: &Net, request: RequestId) -> bool {
    matches!(net.reply(request), Some(Reply::Stored { .. }))
}

#[test]
fn a_store_is_acknowledged_with_its_body_on_the_disks_of_a_majority() {
    for variable in ["a", "b", "c", "d"] {
        let mut net = grown();
        let blob = adopt(&mut net, 2, body(10, 0));
        net.wire = Some(Box::new(|_, _, bytes| {
            (!is_about_parts(&bytes)).then_some(bytes)
        }));
        let request = out(&mut net, 2, variable, blob, Ack::Home);
        net.pass(2 * SECOND);
        assert_eq!(net.reply(request), None);
        net.wire = None;
        net.pass(3 * SECOND);
        assert!(stored(&net, request), "{:?}", net.reply(request));
        assert_eq!(holders(&net, blob), [1, 2, 3]);
        assert_eq!(net.malformed, 0);
    }
}

#[test]
fn a_store_without_its_body_here_is_refused() {
    let mut net = Net::of(1, true);
    let (blob, _) = built(&body(0, 0));
    let request = out(&mut net, 1, "a", blob, Ack::Home);
    let reply = net.reply(request);
    assert!(
        matches!(reply, Some(Reply::Failed(Failure::Refused(_)))),
        "{reply:?}"
    );
}

#[test]
fn a_reference_of_another_length_is_refused_and_blocks_nothing() {
    let mut net = Net::of(1, true);
    let blob = adopt(&mut net, 1, body(1, 0));
    for restart in [false, true] {
        if restart {
            net.kill(1);
            net.start(1);
        }
        let longer = Blob::new(false, blob.len() + 1, blob.hash()).unwrap();
        for ack in [Ack::Home, Ack::Local] {
            let request = out(&mut net, 1, "a", longer, ack);
            let reply = net.reply(request);
            let Some(Reply::Failed(Failure::Refused(why))) = reply else {
                unreachable!("{reply:?}");
            };
            assert!(why.contains("bytes, not "), "{why}");
        }
        let request = out(&mut net, 1, "a", blob, Ack::Home);
        net.pass(SECOND);
        assert!(stored(&net, request), "{:?}", net.reply(request));
    }
}

#[test]
fn a_reference_goes_nowhere_but_into_a_stored_tuple() {
    let mut net = Net::of(1, true);
    let blob = adopt(&mut net, 1, body(0, 0));
    let tuple = Tuple::named("a", Value::from(blob)).unwrap();
    let (variable, deadline) = (Value::from("a"), SECOND);
    let exchange = Bound::Exchange {
        variable,
        expect: None,
        put: Some(tuple),
    };
    let exchange = Command::Bound {
        workspace: "w".to_owned(),
        terms: Terms::default(),
        act: exchange,
        deadline,
    };
    let claim = Command::Claim {
        name: "a".to_owned(),
        expect: 0,
        spec: Value::List(vec![Value::from(blob)]),
        deadline,
    };
    for command in [exchange, claim] {
        let request = net.ask(1, command);
        let reply = net.reply(request);
        let Some(Reply::Failed(Failure::Refused(why))) = reply else {
            unreachable!("{reply:?}");
        };
        assert!(why.contains("give the value itself"), "{why}");
    }
}

fn put(net: &mut Net, n: u64, variable: &str, blob: Blob) -> RequestId {
    let tuple = Tuple::named(variable, Value::from(blob)).unwrap();
    bound(net, n, Bound::Put { tuple })
}

fn bound(net: &mut Net, n: u64, act: Bound) -> RequestId {
    let (workspace, instance, after) = ("w".to_owned(), 1, None);
    let terms = Terms { instance, after };
    let deadline = 3 * SECOND;
    let command = Command::Bound {
        workspace,
        terms,
        act,
        deadline,
    };
    net.ask(n, command)
}

fn take(net: &mut Net, n: u64, variable: &str) -> RequestId {
    let act = Bound::Take {
        variable: Value::from(variable),
        wait: false,
        leave: false,
    };
    bound(net, n, act)
}

#[test]
fn a_bound_put_is_decided_with_its_body_on_the_disks_of_a_majority() {
    for variable in ["a", "b", "c", "d"] {
        let mut net = grown();
        let (name, mode) = (Value::from(variable), None);
        let declare = Bound::Declare {
            variable: name.clone(),
            mode,
        };
        bound(&mut net, 2, declare);
        net.pass(SECOND);
        let blob = adopt(&mut net, 2, body(10, 0));
        net.wire = Some(Box::new(|_, _, bytes| {
            (!is_about_parts(&bytes)).then_some(bytes)
        }));
        let request = put(&mut net, 2, variable, blob);
        net.pass(2 * SECOND);
        assert_eq!(net.reply(request), None);
        net.wire = None;
        net.pass(3 * SECOND);
        assert_eq!(net.reply(request), Some(&Reply::Done));
        // As long as somebody may need it, however often the sweep comes by.
        net.pass(200 * SECOND);
        assert_eq!(holders(&net, blob), [1, 2, 3]);
        let taken = take(&mut net, 3, variable);
        net.pass(SECOND);
        let tuple = Tuple::named(variable, Value::from(blob)).unwrap();
        let Some(Reply::Tuple(Some(got))) = net.reply(taken) else {
            unreachable!("{:?}", net.reply(taken));
        };
        assert_eq!(got.fields(), tuple.fields());
        assert_eq!(net.malformed, 0);
    }
}

#[test]
fn a_bound_put_whose_body_reaches_no_majority_in_time_never_happens() {
    for variable in ["a", "b", "c", "d"] {
        let mut net = grown();
        let (name, mode) = (Value::from(variable), None);
        let declare = Bound::Declare {
            variable: name.clone(),
            mode,
        };
        bound(&mut net, 2, declare);
        net.pass(SECOND);
        let blob = adopt(&mut net, 2, body(10, 0));
        net.wire = Some(Box::new(|_, _, bytes| {
            (!is_about_parts(&bytes)).then_some(bytes)
        }));
        let request = put(&mut net, 2, variable, blob);
        net.pass(4 * SECOND);
        let reply = net.reply(request);
        assert!(
            matches!(reply, Some(Reply::Failed(Failure::Unavailable { .. }))),
            "{reply:?}"
        );
        net.wire = None;
        net.pass(10 * SECOND);
        let taken = take(&mut net, 3, variable);
        net.pass(SECOND);
        assert_eq!(net.reply(taken), Some(&Reply::Tuple(None)));
    }
}

#[test]
fn nobody_takes_an_undecided_entry_into_its_log_without_its_body() {
    for variable in ["a", "b", "c", "d"] {
        let mut net = grown();
        let blob = adopt(&mut net, 2, body(1, 0));
        net.wire = Some(Box::new(|_, _, bytes| {
            (!is_about_parts(&bytes)).then_some(bytes)
        }));
        // Acknowledged here alone: it goes to its home without waiting for the bodies.
        let request = out(&mut net, 2, variable, blob, Ack::Local);
        net.pass(3 * SECOND);
        assert_eq!(net.reply(request), Some(&Reply::Pending));
        let there = |net: &Net| {
            let peers = net.peers.values();
            peers
                .flat_map(cpe_mesh::Peer::shards)
                .map(|shard| shard.sm().len())
                .sum::<usize>()
        };
        assert_eq!(there(&net), 0);
        // What is small goes on meanwhile.
        let small = net.out(3, "other", 1);
        net.pass(SECOND);
        assert!(
            stored(&net, small) || variable != "a",
            "{:?}",
            net.reply(small)
        );
        net.wire = None;
        net.pass(6 * SECOND);
        assert!(there(&net) >= 3);
        assert_eq!(holders(&net, blob), [1, 2, 3]);
    }
}

#[test]
fn a_reader_outside_fetches_a_body_and_goes_on_elsewhere_when_a_link_breaks() {
    let mut net = grown();
    let blob = adopt(&mut net, 2, body(20, 0));
    let request = out(&mut net, 2, "a", blob, Ack::Home);
    net.pass(2 * SECOND);
    assert!(stored(&net, request));
    net.start(4);
    net.link_all();
    net.pass(2 * SECOND);
    // The first holder that serves a part falls silent after five of them.
    let mut served: BTreeMap<u64, usize> = BTreeMap::new();
    net.wire = Some(Box::new(move |from, to, bytes| {
        if to == 4 && is_about_parts(&bytes) {
            let first = served.is_empty() || served.contains_key(&from);
            let count = served.entry(if first { from } else { 0 }).or_default();
            *count += 1;
            if first && *count > 5 {
                return None;
            }
        }
        Some(bytes)
    }));
    let request = gather(&mut net, 4, "a", blob);
    net.pass(6 * SECOND);
    assert_eq!(net.reply(request), Some(&Reply::Done));
    assert!(holders(&net, blob).contains(&4));
    // Every chunk was written once: see the shelf.
    let mine = &net.shelves[&NodeId(4)].whole[&blob.hash()].0;
    assert_eq!(*mine, body(20, 0));
}

#[test]
fn a_changed_chunk_is_fetched_again_from_another_holder() {
    let mut net = grown();
    let blob = adopt(&mut net, 1, body(2, 0));
    let request = out(&mut net, 1, "a", blob, Ack::Home);
    net.pass(2 * SECOND);
    assert!(stored(&net, request));
    net.start(4);
    net.link_all();
    let mut liar = None;
    net.wire = Some(Box::new(move |from, to, bytes| {
        if to == 4
            && let Ok(Message::Body(BodyMessage::Part {
                hash,
                part,
                bytes: Some(mut part_bytes),
            })) = Message::decode(&bytes)
            && *liar.get_or_insert(from) == from
        {
            part_bytes[3] ^= 1;
            let bytes = Some(part_bytes);
            let lie = Message::Body(BodyMessage::Part { hash, part, bytes });
            return Some(lie.encode().unwrap());
        }
        Some(bytes)
    }));
    let request = gather(&mut net, 4, "a", blob);
    net.pass(3 * SECOND);
    assert_eq!(net.reply(request), Some(&Reply::Done));
    assert!(net.peers[&NodeId(4)].counter("parts_refused") > 0);
}

#[test]
fn a_question_for_a_chunk_that_is_not_there_costs_no_body() {
    let mut net = Net::of(2, true);
    let blob = adopt(&mut net, 1, body(0, 0));
    for chunk in [1, u32::MAX] {
        let (hash, part) = (blob.hash(), BodyPart::Chunk(chunk));
        let ask = Message::Body(BodyMessage::Ask { hash, part });
        let (from, bytes) = (NodeId(2), ask.encode().unwrap());
        net.input(NodeId(1), Input::Message { from, bytes });
    }
    assert_eq!(holders(&net, blob), [1]);
    assert_eq!(net.peers[&NodeId(1)].bodies().count(), 1);
    assert_eq!(net.peers[&NodeId(1)].counter("bodies_damaged"), 0);
}

#[test]
fn a_body_goes_after_its_tuple_was_taken_and_received_and_not_before() {
    let mut net = grown();
    let blob = adopt(&mut net, 2, body(1, 0));
    out(&mut net, 2, "a", blob, Ack::Home);
    net.pass(200 * SECOND);
    assert_eq!(holders(&net, blob), [1, 2, 3], "a tuple refers to it");
    let taken = net.take(3, "a", true);
    net.pass(200 * SECOND);
    assert!(matches!(net.reply(taken), Some(Reply::Tuple(Some(_)))));
    assert_eq!(
        holders(&net, blob),
        [1, 2, 3],
        "its taker has not received it"
    );
    net.input(NodeId(3), Input::Received(taken));
    net.pass(40 * SECOND);
    assert_eq!(holders(&net, blob), [1, 2, 3], "the grace is not over");
    net.pass(100 * SECOND);
    assert_eq!(holders(&net, blob), [0_u64; 0]);
}

#[test]
fn a_body_whose_taker_died_is_kept_for_a_day_and_no_longer() {
    let mut net = grown();
    let blob = adopt(&mut net, 2, body(0, 0));
    out(&mut net, 2, "a", blob, Ack::Home);
    net.pass(SECOND);
    net.take(3, "a", true);
    net.kill(3);
    net.pass(Duration::from_secs(3_600));
    assert!(holders(&net, blob).contains(&1));
    // A day in few steps: the peers would wake for it a million times.
    for peer in net.peers.values_mut() {
        let later = net.now + Duration::from_secs(24 * 3_600);
        peer.handle(later, Input::Tick);
    }
    net.now += Duration::from_secs(24 * 3_600);
    net.pass(200 * SECOND);
    assert!(!holders(&net, blob).contains(&1));
    assert!(!holders(&net, blob).contains(&2));
}

#[test]
fn a_round_deletes_so_many_bodies_and_the_next_one_the_others() {
    let mut net = Net::of(1, true);
    for n in 0..100_u8 {
        adopt(&mut net, 1, vec![n; 7]);
    }
    let mut left = vec![100];
    for _ in 0..200 {
        net.pass(SECOND);
        let now = net.peers[&NodeId(1)].bodies().count();
        if left.last() != Some(&now) {
            left.push(now);
        }
    }
    assert_eq!(left, [100, 36, 0]);
}

#[test]
fn a_body_nobody_stored_is_deleted_and_one_of_a_waiting_store_is_not() {
    let mut net = grown();
    let stray = adopt(&mut net, 2, body(1, 1));
    let blob = adopt(&mut net, 2, body(1, 2));
    // Cut off: the store waits in the outbox.
    for other in [1, 3] {
        net.input(NodeId(2), Input::LinkDown(NodeId(other)));
        net.input(NodeId(other), Input::LinkDown(NodeId(2)));
    }
    let waiting = out(&mut net, 2, "a", blob, Ack::Home);
    net.pass(4 * SECOND);
    assert_eq!(net.reply(waiting), Some(&Reply::Pending));
    net.pass(200 * SECOND);
    assert!(holders(&net, stray).is_empty());
    assert_eq!(holders(&net, blob), [2]);
    // And after a restart.
    net.kill(2);
    net.start(2);
    net.pass(200 * SECOND);
    assert_eq!(holders(&net, blob), [2]);
    net.link_all();
    net.pass(20 * SECOND);
    assert!(holders(&net, blob).len() >= 2);
    let taken = net.take(1, "a", true);
    net.pass(SECOND);
    assert!(matches!(net.reply(taken), Some(Reply::Tuple(Some(_)))));
}

#[test]
fn who_drains_leaves_when_the_others_have_its_bodies() {
    // A mesh of two has groups of one: all that node 1 has decided is on its disk alone.
    let mut net = Net::of(2, true);
    net.pass(6 * SECOND);
    let blob = adopt(&mut net, 1, body(3, 0));
    let mut names = ["a", "b", "c", "d"].into_iter();
    let variable = names.find(|name| {
        net.out(1, name, 1);
        net.pass(SECOND);
        leader_of(&mut net, name) == 1
    });
    let Some(variable) = variable else { return };
    let request = out(&mut net, 1, variable, blob, Ack::Home);
    net.pass(SECOND);
    assert!(stored(&net, request));
    net.wire = Some(Box::new(|_, _, bytes| {
        (!is_about_parts(&bytes)).then_some(bytes)
    }));
    let deadline = 60 * SECOND;
    let drained = net.ask(
        1,
        Command::Drain {
            deadline,
            whole: true,
        },
    );
    net.pass(10 * SECOND);
    assert_eq!(net.reply(drained), None);
    net.wire = None;
    net.pass(10 * SECOND);
    assert_eq!(net.reply(drained), Some(&Reply::Done));
    assert_eq!(holders(&net, blob), [1, 2]);
    net.kill(1);
    let template = Template::named(variable).unwrap();
    let (workspace, wait, fresh, deadline) = ("w".to_owned(), false, false, SECOND);
    let read = Command::Read {
        workspace,
        template,
        wait,
        fresh,
        deadline,
    };
    let read = net.ask(2, read);
    assert!(matches!(net.reply(read), Some(Reply::Tuple(Some(_)))));
}

#[test]
fn thousands_of_wanted_bodies_outlive_the_loss_of_the_last_link() {
    let mut net = Net::of(2, true);
    let wanted = |net: &mut Net, n: u32| {
        let blob = Blob::of(false, &n.to_be_bytes()).unwrap();
        let shard = ShardId(0);
        let hold = Message::Body(BodyMessage::Hold { blob, shard });
        let (from, bytes) = (NodeId(2), hold.encode().unwrap());
        net.input(NodeId(1), Input::Message { from, bytes });
    };
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    net.wire = Some(Box::new(move |from, _, bytes| {
        let ask = matches!(
            Message::decode(&bytes).unwrap(),
            Message::Body(BodyMessage::Ask { .. })
        );
        count.set(count.get() + u32::from(ask && from == 1));
        (!ask).then_some(bytes)
    }));
    for n in 0..5_000 {
        wanted(&mut net, n);
    }
    assert_eq!(asked.get(), 4, "four at a time");
    net.input(NodeId(1), Input::LinkDown(NodeId(2)));
    assert_eq!(asked.get(), 4, "there is nobody to ask");
    net.input(NodeId(1), Input::LinkUp(NodeId(2)));
    assert_eq!(asked.get(), 8, "the next four");
}

#[test]
fn who_drains_hands_over_the_body_of_a_take_that_is_not_acknowledged() {
    let mut net = Net::of(2, true);
    net.pass(6 * SECOND);
    let blob = adopt(&mut net, 1, body(3, 0));
    let variable = ["a", "b", "c", "d"].into_iter().find(|name| {
        let small = net.out(1, name, 1);
        net.pass(SECOND);
        assert!(stored(&net, small));
        leader_of(&mut net, name) == 1
    });
    let variable = variable.unwrap();
    let request = out(&mut net, 1, variable, blob, Ack::Home);
    net.pass(SECOND);
    assert!(stored(&net, request));
    // The small one, and the large one: its taker has not fetched the body.
    for _ in 0..2 {
        let taken = net.take(2, variable, true);
        net.pass(SECOND);
        assert!(matches!(net.reply(taken), Some(Reply::Tuple(Some(_)))));
    }
    assert_eq!(holders(&net, blob), [1]);
    let deadline = 60 * SECOND;
    let drained = net.ask(
        1,
        Command::Drain {
            deadline,
            whole: true,
        },
    );
    net.pass(20 * SECOND);
    assert_eq!(net.reply(drained), Some(&Reply::Done));
    assert_eq!(holders(&net, blob), [1, 2]);
}

#[test]
fn a_body_somebody_reads_is_fetched_before_those_that_nobody_waits_for() {
    let mut net = grown();
    // Node 3 is away while stores are decided, and comes back with nobody to ask for bodies.
    net.kill(3);
    let blobs: Vec<Blob> = (0..12)
        .map(|n| adopt(&mut net, 1, vec![n; 100_000]))
        .collect();
    for blob in &blobs {
        let request = out(&mut net, 1, "a", *blob, Ack::Home);
        net.pass(SECOND);
        assert!(stored(&net, request), "{:?}", net.reply(request));
    }
    let asked = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&asked);
    net.wire = Some(Box::new(move |from, _, bytes| {
        if let Ok(Message::Body(BodyMessage::Ask { hash, .. })) = Message::decode(&bytes)
            && from == 3
        {
            seen.borrow_mut().push(hash);
            return None;
        }
        Some(bytes)
    }));
    net.start(3);
    net.link_all();
    net.pass(SECOND);
    let begun: BTreeSet<BlobHash> = asked.borrow().iter().copied().collect();
    assert_eq!(begun.len(), 3, "the last place is kept");
    let last = blobs.iter().find(|blob| !begun.contains(&blob.hash()));
    let last = *last.unwrap();
    gather(&mut net, 3, "a", last);
    assert_eq!(asked.borrow().last(), Some(&last.hash()));
}
