//! Every message is plain CBOR and comes back as it was.

use std::collections::BTreeMap;
use std::ops::Bound;

use cpe_consensus::{Ballot, Heartbeat};
use cpe_membership::Incarnation;
use cpe_mesh::{
    BodyMessage, BodyPart, FeedPart, Genesis, GroupMessage, Message, Operation, Part, Proposal,
    Standing, Want,
};
use cpe_space::{
    ActorRecord, After, Command, Config, Dot, Effect, Entry, Fate, Item, LeaseAct, LeaseEnd,
    LeaseId, Live, Marked, Mode, Name, OpId, Outcome, Sender, Sent, Session, ShardId, Sm, Taker,
    Taking, Terms, Version,
};
use cpe_tuple::{Blob, Field, Kind, Template, Tuple, Value, codec};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{member, pair};

mod examples;

use examples::*;

/// Demands one of each variant.
fn each(what: &str, places: impl IntoIterator<Item = (usize, usize)>) {
    let places: std::collections::BTreeSet<_> = places.into_iter().collect();
    let count = places.first().unwrap().1;
    let missing = (0..count).find(|n| !places.contains(&(*n, count)));
    assert_eq!(missing, None, "this {what} has no example");
}

#[test]
fn every_variant_has_an_example() {
    each("command", commands().iter().map(of_command));
    each("bound operation", bounds().iter().map(of_bound));
    let all = all();
    each("message", all.iter().map(of_message));
    each(
        "operation",
        all.iter().filter_map(|message| match message {
            Message::Operate { operation, .. } => Some(of_operation(operation)),
            _ => None,
        }),
    );
    each(
        "outcome",
        all.iter().filter_map(|message| match message {
            Message::Decided { outcome, .. } => Some(of_outcome(outcome)),
            _ => None,
        }),
    );
    let template = all.iter().find_map(|message| match message {
        Message::Query { template, .. } => template.as_ref(),
        _ => None,
    });
    each("field", template.unwrap().fields().iter().map(of_field));
}

/// What an independent reader makes of the bytes is what was written.
fn is_plain_cbor<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(what: &T) {
    let bytes = codec::encode(what).unwrap();
    let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
    let mut again = Vec::new();
    ciborium::into_writer(&value, &mut again).unwrap();
    assert_eq!(codec::decode::<T>(&again, again.len()).unwrap(), *what);
}

#[test]
fn what_entries_and_snapshots_hold_is_plain_cbor_too() {
    let config = Config {
        epoch: 1,
        members: vec![member(1)],
    };
    let mut sm = Sm::new(config);
    for (n, command) in commands().iter().enumerate() {
        is_plain_cbor(command);
        sm.apply(command, n as u64);
        is_plain_cbor(&sm);
    }
    assert_eq!(sm.index(), commands().len() as u64);
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
        nth in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let messages = all();
        let mut bytes = nth.get(&messages).encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&other.encode().unwrap()).unwrap(), other);
        }
    }
}
