//! One of each message and command, and of what they carry.

mod commands;

use super::*;

pub(super) use commands::{bounds, commands, of_bound, of_command};

fn op() -> OpId {
    OpId {
        session: Session {
            member: member(2),
            boot: 1,
        },
        seq: 9,
    }
}

fn lease() -> LeaseId {
    LeaseId {
        op: op(),
        token: 70,
    }
}

fn record() -> ActorRecord {
    ActorRecord {
        token: 3,
        host: Some(member(1)),
        spec: Value::from("spec"),
        leased: true,
        needs: needs(),
        kept: None,
        from: Some(member(2)),
        ending: true,
        failures: 4,
        born: 2,
        rest: Some(member(2)),
    }
}

fn marked() -> Marked {
    Marked {
        sender: Sender::Start(op().session),
        seq: 7,
        low: 5,
    }
}

fn marked_by_actor() -> Marked {
    let (name, born) = (Name::new("b").unwrap(), 3);
    Marked {
        sender: Sender::Actor { name, born },
        seq: 7,
        low: 5,
    }
}

fn marked_by_take() -> Marked {
    Marked {
        sender: Sender::Take { born: 3, n: 4 },
        seq: 1,
        low: 1,
    }
}

fn taker() -> Taker {
    Taker {
        name: "a".to_owned(),
        born: 3,
        token: 5,
        n: 9,
        open: vec![4, 9],
    }
}

fn sent() -> Sent {
    Sent { born: 3, upto: 8 }
}

/// One of each.
fn effects() -> Vec<Effect> {
    let name = |text: &str| Name::new(text).unwrap();
    vec![
        Effect::Out {
            workspace: name("w"),
            tuple: pair("v", 1),
        },
        Effect::Tell {
            actor: name("b"),
            message: Value::from("m"),
        },
        Effect::Spawn {
            kind: "counter".to_owned(),
            name: name("c"),
            args: Value::Null,
        },
        Effect::Take(Taking {
            workspace: name("w"),
            template: Template::named("v").unwrap(),
            wait: true,
            answer: "took".to_owned(),
            request: 6,
        }),
    ]
}

fn needs() -> BTreeMap<String, String> {
    BTreeMap::from([("kinds".to_owned(), "counter".to_owned())])
}

fn terms() -> Terms {
    Terms {
        instance: 7,
        after: Some(After {
            variable: Some(5),
            ordinal: 3,
        }),
    }
}

pub(super) fn of_message(message: &Message) -> (usize, usize) {
    let place = match message {
        Message::Hello { .. } => 0,
        Message::Swim(_) => 1,
        Message::Store { .. } => 2,
        Message::Admitted { .. } => 3,
        Message::Operate { .. } => 4,
        Message::Decided { .. } => 5,
        Message::Parked { .. } => 6,
        Message::Cancel { .. } => 7,
        Message::Ack { .. } => 8,
        Message::WrongHome { .. } => 9,
        Message::Query { .. } => 10,
        Message::Answer { .. } => 11,
        Message::Feed { .. } => 12,
        Message::Feeds(_) => 13,
        Message::FeedReq { .. } => 14,
        Message::Root { .. } => 15,
        Message::Digest { .. } => 16,
        Message::StateReq { .. } => 17,
        Message::State { .. } => 18,
        Message::EpochStart { .. } => 19,
        Message::Pending { .. } => 20,
        Message::NotLeader { .. } => 21,
        Message::Group { .. } => 22,
        Message::HbReq { .. } => 23,
        Message::HbRep { .. } => 24,
        Message::Trimmed { .. } => 25,
        Message::Survey { .. } => 26,
        Message::Standings { .. } => 27,
        Message::Fork { .. } => 28,
        Message::Forked { .. } => 29,
        Message::Register { .. } => 30,
        Message::GiveUp { .. } => 31,
        Message::Body(_) => 32,
        Message::Renew { .. } => 33,
        Message::Granted { .. } => 34,
        Message::Over { .. } => 35,
        Message::GoodBye { .. } => 36,
        Message::Leads { .. } => 37,
    };
    (place, 38)
}

/// One of everything that members of a group say to each other.
fn group_messages() -> Vec<GroupMessage> {
    let ballot = Ballot {
        round: 7,
        node: member(2),
    };
    let entries: Vec<Proposal> = commands().into_iter().filter_map(Proposal::new).collect();
    assert_eq!(entries.len(), commands().len());
    let (accepted, len, decided, from) = (Some(ballot), u64::MAX / 2, 3, 1);
    vec![
        GroupMessage::Prepare {
            ballot,
            decided,
            accepted,
            len,
        },
        GroupMessage::Promise {
            ballot,
            accepted: None,
            len,
            decided,
            from,
            suffix: entries.clone(),
        },
        GroupMessage::Sync {
            ballot,
            from,
            suffix: entries.clone(),
            decided,
        },
        GroupMessage::Accept {
            ballot,
            from,
            entries,
            decided,
        },
        GroupMessage::Accepted {
            ballot,
            len,
            decided,
            gap: true,
        },
        GroupMessage::NeedPrepare,
        GroupMessage::Refuse { promised: ballot },
        GroupMessage::CatchUp { decided },
        GroupMessage::Confirm { ballot, round: 4 },
        GroupMessage::Confirmed { ballot, round: 4 },
    ]
}

pub(super) fn of_operation(operation: &Operation) -> (usize, usize) {
    let place = match operation {
        Operation::Take { .. } => 0,
        Operation::Declare { .. } => 1,
        Operation::Drop { .. } => 2,
        Operation::Claim { .. } => 3,
        Operation::Release { .. } => 4,
        Operation::TakeLeased { .. } => 5,
        Operation::ActOnLease { .. } => 6,
        Operation::Inquire { .. } => 7,
        Operation::Resume { .. } => 8,
        Operation::Bound { .. } => 9,
        Operation::Enlist { .. } => 10,
        Operation::ClaimLeased { .. } => 11,
        Operation::Commit { .. } => 12,
        Operation::Migrate { .. } => 13,
        Operation::Emit { .. } => 14,
        Operation::Sent { .. } => 15,
        Operation::TakeFor { .. } => 16,
        Operation::EndTake { .. } => 17,
        Operation::TakesOver { .. } => 18,
        Operation::NoteFailures { .. } => 19,
    };
    (place, 20)
}

pub(super) fn of_outcome(outcome: &Outcome) -> (usize, usize) {
    let place = match outcome {
        Outcome::Taken { .. } => 0,
        Outcome::Empty => 1,
        Outcome::Cancelled => 2,
        Outcome::Done => 3,
        Outcome::ModeIs(_) => 4,
        Outcome::Claimed(_) => 5,
        Outcome::Fenced(_) => 6,
        Outcome::Stale => 7,
        Outcome::Leased { .. } => 8,
        Outcome::TooManyLeases => 9,
        Outcome::LeaseLost(_) => 10,
        Outcome::Fate(_) => 11,
        Outcome::Found { .. } => 12,
        Outcome::Absent => 13,
        Outcome::NoIteration => 14,
        Outcome::Exchanged { .. } => 15,
        Outcome::Differs(_) => 16,
        Outcome::Enlisted(_) => 17,
        Outcome::StillAlive(_) => 18,
        Outcome::OutOfTurn(_) => 19,
        Outcome::Moved(_) => 20,
        Outcome::NoSuchHost => 21,
        Outcome::Unsent(_) => 22,
        Outcome::TooManyTakes(_) => 23,
    };
    (place, 24)
}

pub(super) fn of_field(field: &Field) -> (usize, usize) {
    let place = match field {
        Field::Actual(_) => 0,
        Field::Typed(_) => 1,
        Field::Any => 2,
        Field::Range { .. } => 3,
        Field::Prefix(_) => 4,
    };
    (place, 5)
}

/// One message of every variant, and every variant of what they carry.
pub(super) fn all() -> Vec<Message> {
    let shard = ShardId(3);
    let name = Name::new("w").unwrap();
    let op = op();
    let config = Config {
        epoch: 2,
        members: vec![member(1), member(2), member(3)],
    };
    let version = Version {
        epoch: 1,
        index: 17,
        hash: u64::MAX,
    };
    let template = Template::new(vec![
        Field::Actual(Value::symbol("s")),
        Field::Typed(Kind::Float),
        Field::Any,
        Field::Prefix("a".to_owned()),
        Field::Range {
            low: Bound::Excluded(Value::from(1)),
            high: Bound::Unbounded,
        },
        Field::Range {
            low: Bound::Unbounded,
            high: Bound::Included(Value::from("z")),
        },
    ])
    .unwrap();
    let tuple = pair("v", -1);
    let item = Item {
        workspace: name.clone(),
        tuple: tuple.clone(),
    };
    let entries: Vec<_> = commands()
        .iter()
        .map(|command| Entry::new(command).unwrap())
        .collect();
    let mut all = vec![
        Message::Hello {
            genesis: Some(Genesis {
                mesh: "m".into(),
                shards: 256,
                volatile: 64,
                founder: member(1),
                group_size: Genesis::GROUP_SIZE,
            }),
            map: vec![(shard, config.clone())],
        },
        Message::Hello {
            genesis: None,
            map: vec![],
        },
        Message::Swim(vec![0, 255]),
        Message::Store {
            shard,
            origin: member(1),
            first: 1,
            items: vec![item.clone()],
        },
        Message::Admitted {
            shard,
            origin: member(1),
            upto: 4,
            index: 5,
        },
        Message::Parked { shard, op },
        Message::Cancel { shard, op },
        Message::Ack {
            shard,
            session: op.session,
            seqs: vec![1, 2],
        },
        Message::WrongHome {
            shard,
            config: config.clone(),
        },
        Message::Query {
            query: 1,
            shards: vec![shard],
            workspace: name.clone(),
            template: Some(template.clone()),
        },
        Message::Answer {
            query: 1,
            nothing: vec![shard],
            found: Some((shard, Some(tuple.clone()))),
            more: vec![shard],
            elsewhere: vec![(shard, config.clone(), Some(cpe_membership::NodeId(2)))],
            reached: vec![(shard, 12)],
        },
        Message::Feed {
            shard,
            from: 0,
            entries: entries.clone(),
            version,
        },
        Message::Feeds(vec![FeedPart {
            shard,
            from: 0,
            entries,
            version,
        }]),
        Message::FeedReq { shard, from: 7 },
        Message::Root { root: 1 },
        Message::Digest {
            reply: true,
            versions: vec![(shard, version)],
        },
        Message::Trimmed { shard, index: 9 },
        Message::EpochStart {
            shard,
            config: config.clone(),
            index: 8,
        },
        Message::Pending {
            shard,
            origin: member(1),
            first: 1,
            items: vec![item],
        },
    ];
    let variable = Value::from("v");
    let bound = bounds().into_iter().map(|act| Operation::Bound {
        workspace: name.clone(),
        terms: terms(),
        act,
    });
    let bound: Vec<_> = bound.collect();
    let others = [
        Operation::Enlist { lease_ms: 5_000 },
        Operation::ClaimLeased {
            name: "a".to_owned(),
            expect: 4,
            spec: Value::from("spec"),
            needs: needs(),
            host: member(2),
            void: None,
        },
        Operation::Commit {
            name: "a".to_owned(),
            token: 5,
            seq: 9,
            snapshot: Value::from("state"),
            marks: vec![marked(), marked_by_actor(), marked_by_take()],
            effects: effects(),
            sent: sent(),
            rest_over: true,
        },
        Operation::Emit {
            name: "a".to_owned(),
            born: 3,
            n: 9,
            workspace: name.clone(),
            tuple: pair("v", 1),
        },
        Operation::Sent {
            name: "a".to_owned(),
            sent: sent(),
        },
        Operation::TakeFor {
            taker: taker(),
            workspace: name.clone(),
            template: template.clone(),
            wait: true,
        },
        Operation::EndTake {
            taker: taker(),
            back: true,
        },
        Operation::TakesOver {
            name: "a".to_owned(),
            born: 3,
            takes: vec![4, 9],
            ended: Some(5),
        },
        Operation::NoteFailures {
            name: "a".to_owned(),
            token: 5,
            failures: 3,
        },
        Operation::Migrate {
            name: "a".to_owned(),
            token: 5,
            seq: 9,
            to: member(2),
        },
        Operation::Take {
            workspace: name.clone(),
            template,
            wait: true,
        },
        Operation::Declare {
            workspace: name.clone(),
            variable: variable.clone(),
            mode: Mode::Lifo,
        },
        Operation::Drop {
            workspace: name.clone(),
            variable: Some(variable.clone()),
        },
        Operation::Claim {
            name: "a".into(),
            expect: 0,
            spec: variable.clone(),
            host: member(1),
        },
        Operation::Release {
            name: "a".into(),
            token: 1,
            void: Some(member(3)),
            keeps: true,
            sent: sent(),
        },
        Operation::TakeLeased {
            workspace: name,
            template: Template::named("v").unwrap(),
            wait: false,
            ttl_ms: 100,
        },
        Operation::ActOnLease {
            lease: lease(),
            act: LeaseAct::Renew,
        },
        Operation::Inquire { about: op },
        Operation::Resume { n: 3 },
    ];
    for operation in others.into_iter().chain(bound) {
        all.push(Message::Operate {
            attempt: 2,
            shard,
            op,
            acks: vec![3],
            operation,
        });
    }
    for message in group_messages() {
        all.push(Message::Group {
            shard,
            epoch: 2,
            message,
        });
    }
    for refused in [None, Some((op, 3))] {
        all.push(Message::NotLeader {
            shard,
            epoch: 2,
            leader: refused.map(|_| member(2).node),
            op: refused,
        });
    }
    all.extend(state_messages());
    all.push(Message::Leads { shard, epoch: 2 });
    all.push(Message::HbReq { round: 1, have: 2 });
    let ballot = Ballot {
        round: 7,
        node: member(2),
    };
    let heartbeat = Heartbeat {
        ballot,
        quorum: true,
    };
    all.push(Message::HbRep {
        round: 1,
        since: 0,
        version: u64::MAX,
        groups: vec![(shard, 2, Some(heartbeat)), (shard, 3, None)],
    });
    all.push(Message::Survey {
        query: 1,
        shards: vec![shard],
    });
    let standing = |tail| Standing {
        shard,
        version: Version {
            epoch: 2,
            index: 8,
            hash: 9,
        },
        config: Config {
            epoch: 2,
            members: vec![member(1)],
        },
        tail,
        quorum: false,
    };
    all.push(Message::Standings {
        query: 1,
        member: member(2),
        standings: [None, Some((None, 8)), Some((Some(ballot), 9))]
            .map(standing)
            .into(),
        start: Incarnation(3),
    });
    all.push(Message::Fork {
        query: 1,
        shard,
        epoch: 1 << 33,
        index: 8,
        hash: u64::MAX,
    });
    for refused in [None, Some("no".to_owned())] {
        all.push(Message::Forked {
            query: 1,
            shard,
            epoch: 1 << 33,
            index: 9,
            refused,
        });
    }
    all.push(Message::Register { shard, config });
    all.push(Message::GiveUp {
        shard,
        epoch: 1 << 40,
    });
    let (life, sent) = (member(2), u64::MAX);
    all.push(Message::Renew { shard, life, sent });
    all.push(Message::Granted { life, sent });
    all.push(Message::Over { life });
    all.push(Message::GoodBye { shard, life });
    let blob = Blob::of(true, b"long").unwrap();
    let (hash, part) = (blob.hash(), BodyPart::Chunk(7));
    all.extend(
        [
            BodyMessage::Hold { blob, shard },
            BodyMessage::Held { hash },
            BodyMessage::Ask {
                hash,
                part: BodyPart::Outline,
            },
            BodyMessage::Part {
                hash,
                part,
                bytes: Some(vec![0, 255].into()),
            },
            BodyMessage::Part {
                hash,
                part,
                bytes: None,
            },
        ]
        .map(Message::Body),
    );
    for outcome in [
        Outcome::Leased {
            index: 1,
            tuple: tuple.clone(),
            token: 2,
        },
        Outcome::TooManyLeases,
        Outcome::LeaseLost(LeaseEnd::Expired),
        Outcome::Fate(Fate::Took { index: 1 }),
        Outcome::Fate(Fate::Forgotten),
        Outcome::Found {
            tuple: tuple.clone(),
        },
        Outcome::Absent,
        Outcome::NoIteration,
        Outcome::Exchanged { index: 4 },
        Outcome::Differs(Some(tuple.clone())),
        Outcome::Enlisted(member(2)),
        Outcome::StillAlive(member(1)),
        Outcome::OutOfTurn(8),
        Outcome::Moved(record()),
        Outcome::NoSuchHost,
        Outcome::Unsent(3),
        Outcome::TooManyTakes(256),
        Outcome::Taken { index: 1, tuple },
        Outcome::Empty,
        Outcome::Cancelled,
        Outcome::Done,
        Outcome::ModeIs(Mode::Single),
        Outcome::Claimed(record()),
        Outcome::Fenced(Some(record())),
        Outcome::Fenced(None),
        Outcome::Stale,
    ] {
        all.push(Message::Decided {
            shard,
            op,
            outcome,
            index: 2,
        });
    }
    all
}

/// One of each part of a state, and one request for each.
fn state_messages() -> Vec<Message> {
    let shard = ShardId(3);
    let live = Live {
        index: 7,
        workspace: Name::new("w").unwrap(),
        tuple: pair("v", 1),
    };
    let wants = [
        Want::Begin,
        Want::Outline { offset: 9 },
        Want::Symbols { from: 8, count: 4 },
        Want::Page { after: 7, upto: 0 },
        Want::Bodies(vec![1, 2]),
    ];
    let parts = vec![
        Part::Head {
            digest: 1,
            live: 2,
            packed: 3,
            raw: 4,
        },
        Part::Outline {
            offset: 5,
            bytes: vec![1; 9],
        },
        Part::Symbols {
            from: 8,
            bytes: vec![2; 9],
        },
        Part::Page {
            after: 7,
            upto: 0,
            tuples: vec![live.clone()],
            end: true,
        },
        Part::Bodies(vec![live]),
    ];
    let mut messages: Vec<Message> = wants
        .into_iter()
        .map(|want| Message::StateReq {
            shard,
            index: 1,
            after: 2,
            want,
        })
        .collect();
    messages.push(Message::State {
        shard,
        index: 1,
        parts,
    });
    messages
}
