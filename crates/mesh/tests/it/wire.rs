//! Every message is plain CBOR and comes back as it was.

use cpe_mesh::{FeedPart, Genesis, Message, Operation};
use cpe_space::{
    Command, Config, Dot, Entry, Item, Mode, Name, OpId, Outcome, Session, ShardId, Version,
};
use cpe_tuple::{Field, Kind, Template, Value};
use proptest::prelude::*;

use crate::{member, pair};

/// One message of every variant, and every variant of what they carry.
fn all() -> Vec<Message> {
    let shard = ShardId(3);
    let name = Name::new("w").unwrap();
    let op = OpId {
        session: Session {
            member: member(2),
            boot: 1,
        },
        seq: 9,
    };
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
    ])
    .unwrap();
    let tuple = pair("v", -1);
    let item = Item {
        workspace: name.clone(),
        tuple: tuple.clone(),
    };
    let admit = Command::Admit {
        dot: Dot {
            origin: member(2),
            n: 1,
        },
        workspace: name.clone(),
        tuple: tuple.clone(),
    };
    let entries = vec![
        Entry::new(&admit).unwrap(),
        Entry::new(&Command::Noop).unwrap(),
    ];
    let mut all = vec![
        Message::Hello {
            genesis: Some(Genesis {
                mesh: "m".into(),
                shards: 256,
                founder: member(1),
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
            elsewhere: vec![(shard, config.clone())],
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
        Message::SnapReq {
            shard,
            index: 1,
            offset: 2,
        },
        Message::SnapPart {
            shard,
            index: 1,
            total: 9,
            offset: 0,
            bytes: vec![1; 9],
        },
        Message::EpochStart {
            shard,
            config,
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
    for operation in [
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
        },
    ] {
        all.push(Message::Operate {
            shard,
            op,
            acks: vec![3],
            operation,
        });
    }
    for outcome in [
        Outcome::Taken { index: 1, tuple },
        Outcome::Empty,
        Outcome::Cancelled,
        Outcome::Done,
        Outcome::ModeIs(Mode::Single),
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

#[test]
fn every_message_is_plain_cbor_to_an_independent_reader() {
    for message in all() {
        let bytes = message.encode().unwrap();
        let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        let mut again = Vec::new();
        ciborium::into_writer(&value, &mut again).unwrap();
        assert_eq!(Message::decode(&again).unwrap(), message);
    }
}

#[test]
fn every_cut_of_a_message_is_refused() {
    for message in all() {
        let bytes = message.encode().unwrap();
        for end in 0..bytes.len() {
            assert!(
                Message::decode(&bytes[..end]).is_err(),
                "{message:?} cut at {end}"
            );
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn a_damaged_message_is_refused_or_is_another(
        nth in 0_usize..40, at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let messages = all();
        let mut bytes = messages[nth % messages.len()].encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&other.encode().unwrap()).unwrap(), other);
        }
    }
}
