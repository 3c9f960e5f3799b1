//! A peer on a disk that tears what it writes: it goes on with all it had acknowledged.

use std::collections::BTreeSet;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{Ack, Command, Genesis, Input, Output, Peer, PeerConfig, Reply, RequestId};
use cpe_storage::{OpenError, Opened};
use cpe_tuple::{Template, Tuple, Value};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::medium::Disk;

/// What is asked before the power goes, at most.
const ASKED: usize = 40;

/// Virtual time for answers, at most: far more than a node needs that is its own home.
const PATIENCE: Duration = Duration::from_secs(60);

const MEMBER: Member = Member {
    node: NodeId(1),
    inc: Incarnation(1),
};

/// A node that is alone in its mesh, between two power cuts.
struct Node {
    peer: Peer,
    opened: Opened,
    now: Duration,
    /// Batches handed over and not acknowledged.
    writing: usize,
    is_broken: bool,
    replies: Vec<(RequestId, Reply)>,
}

impl Node {
    fn start(disk: &Disk, seed: u64) -> Result<Self, OpenError> {
        let opened = disk.open()?;
        let mut config = PeerConfig::new(NodeCard::new(MEMBER, "n1"));
        // So that states are written, and entries deleted.
        config.log_entries_max = 8;
        config.log_kept = 4;
        config.genesis = Some(Genesis {
            mesh: "test".to_owned(),
            shards: 2,
            volatile: 0,
            founder: MEMBER,
            group_size: Genesis::GROUP_SIZE,
        });
        let now = Duration::ZERO;
        let peer = Peer::new(config, &opened.image, seed, now).unwrap();
        Ok(Self {
            peer,
            opened,
            now,
            writing: 0,
            is_broken: false,
            replies: Vec::new(),
        })
    }

    fn input(&mut self, input: Input) {
        self.peer.handle(self.now, input);
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Persist { token, batch, sync } => {
                    let taken = self.opened.storage.write(token, batch, sync);
                    self.is_broken |= taken.is_err();
                    self.writing += usize::from(taken.is_ok());
                }
                Output::Reply(request, reply) => self.replies.push((request, reply)),
                _ => {}
            }
        }
    }

    /// Waits for one write.
    fn write(&mut self) {
        let done = self.opened.completions.blocking_recv().unwrap();
        self.writing -= 1;
        match done.result {
            Ok(()) => self.input(Input::Persisted(done.token)),
            Err(_) => self.is_broken = true,
        }
    }

    /// Lets things happen until something was answered; false when the disk broke.
    fn answers(&mut self) -> bool {
        let until = self.now + PATIENCE;
        while self.replies.is_empty() && !self.is_broken {
            assert!(self.now < until, "no answer");
            if self.writing > 0 {
                self.write();
            } else if let Some(wake) = self.peer.next_wake() {
                self.now = self.now.max(wake);
                self.input(Input::Tick);
            }
        }
        !self.is_broken
    }
}

/// What the node's users know.
#[derive(Default)]
struct Books {
    next: i64,
    acknowledged: BTreeSet<i64>,
    taken: BTreeSet<i64>,
    /// Takes that were never answered: each may have cost a tuple (guarantee G7).
    excused: usize,
}

fn value_of(tuple: &Tuple) -> i64 {
    match tuple.fields().last() {
        Some(Value::Int(value)) => *value,
        other => panic!("{other:?} was never stored"),
    }
}

impl Books {
    fn ask(&mut self, node: &mut Node, request: RequestId, store: bool) {
        let (workspace, deadline) = ("w".to_owned(), PATIENCE);
        let command = if store {
            self.next += 1;
            let fields = vec![Value::from("x"), Value::Int(self.next)];
            Command::Out {
                workspace,
                tuple: Tuple::new(fields).unwrap(),
                ack: Ack::Home,
                deadline,
            }
        } else {
            Command::Take {
                workspace,
                template: Template::named("x").unwrap(),
                wait: false,
                deadline,
            }
        };
        node.input(Input::Command(request, command));
    }

    /// What was answered to whom asked for `value`, if it was a store.
    fn answer(&mut self, stored: Option<i64>, reply: &Reply) {
        match (stored, reply) {
            (Some(value), Reply::Stored { .. }) => {
                self.acknowledged.insert(value);
            }
            (None, Reply::Tuple(Some(tuple))) => {
                let value = value_of(tuple);
                assert!(self.taken.insert(value), "{value} was taken twice");
            }
            (None, Reply::Tuple(None)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }

    /// Until the disk breaks: a few users, each of which waits for its answer.
    fn work(&mut self, node: &mut Node, rng: &mut ChaCha8Rng) {
        let mut open = Vec::new();
        for number in 1..=ASKED {
            let store = rng.random_bool(0.6);
            let request = RequestId(number as u64);
            self.ask(node, request, store);
            open.push((request, store.then_some(self.next)));
            while open.len() > rng.random_range(0..4) && node.answers() {
                self.take_answers(node, &mut open);
            }
            if node.is_broken {
                break;
            }
        }
        // What was said before the disk broke counts.
        self.take_answers(node, &mut open);
        self.excused += open.iter().filter(|(_, stored)| stored.is_none()).count();
    }

    fn take_answers(&mut self, node: &mut Node, open: &mut Vec<(RequestId, Option<i64>)>) {
        for (request, reply) in std::mem::take(&mut node.replies) {
            let at = open.iter().position(|(asked, _)| *asked == request);
            let (_, stored) = open.swap_remove(at.unwrap());
            self.answer(stored, &reply);
            if stored.is_none() {
                node.input(Input::Received(request));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Power cuts again and again, in the middle of writes of which a part is there.
    #[test]
    fn a_peer_goes_on_after_torn_and_short_writes_with_all_it_acknowledged(
        cuts in proptest::collection::vec(0..60_u64, 1..5),
        seed in any::<u64>(),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut disk = Disk::default();
        let mut books = Books::default();
        for writes in cuts {
            let mut node = match Node::start(&disk, rng.random()) {
                Ok(node) => node,
                // A database torn before anything was acknowledged is refused, not guessed at.
                Err(OpenError::Corrupt { .. }) if books.acknowledged.is_empty() => return Ok(()),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            disk.state().writes_left = Some(writes);
            books.work(&mut node, &mut rng);
            // As a process that is killed: what close would still sync is not.
            disk.state().broken = true;
            drop(node);
            disk = Disk::holding(&disk.cut(&mut rng));
        }
        let mut node = match Node::start(&disk, rng.random()) {
            Ok(node) => node,
            Err(OpenError::Corrupt { .. }) if books.acknowledged.is_empty() => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        for number in 1.. {
            let before = books.taken.len();
            books.ask(&mut node, RequestId(number), false);
            let mut open = vec![(RequestId(number), None)];
            prop_assert!(node.answers(), "the disk is whole");
            books.take_answers(&mut node, &mut open);
            if books.taken.len() == before {
                break;
            }
        }
        let lost = books.acknowledged.difference(&books.taken).count();
        prop_assert!(lost <= books.excused, "{lost} lost, {} excused", books.excused);
    }
}
