//! Laws of replicas: merge is a join, and feeds converge whatever happens to them.

use cpe_space::{Command, Config, Dot, Entry, FeedError, Item, LeaseAct, LeaseId, Shard, ShardId};
use proptest::prelude::*;

use crate::{Home, founder, member, name, pair};

/// A history of stores and takes, as bytes, and the origin's whole list of stores: those beyond
/// the history are pending somewhere.
#[derive(Clone, Debug)]
struct History {
    entries: Vec<Entry>,
    stores: Vec<(Dot, Item)>,
}

/// A leased take, or what becomes of the oldest lease.
fn lease_command(home: &mut Home, step: u8) -> Command {
    let oldest = home.shard.sm().leases().next();
    match oldest.map(|(token, lease)| (lease.op(), token, lease.renewals())) {
        Some((op, token, renewals)) if step == 5 => Command::Expire {
            lease: LeaseId { op, token },
            renewals,
        },
        Some((op, token, _)) if step == 6 => Command::ActOnLease {
            op: home.op(),
            lease: LeaseId { op, token },
            act: LeaseAct::Renew,
        },
        _ => Command::TakeLeased {
            op: home.op(),
            acks: vec![],
            workspace: name("w"),
            template: cpe_tuple::Template::named("v").unwrap(),
            wait: false,
            ttl_ms: 1_000,
        },
    }
}

fn history() -> impl Strategy<Value = History> {
    (prop::collection::vec(0_u8..7, 0..30), 0_usize..6).prop_map(|(steps, unadmitted)| {
        let mut home = Home::new();
        let mut entries = Vec::new();
        let mut stores = Vec::new();
        for step in steps {
            let command = if step < 2 {
                home.stored += 1;
                let dot = Dot {
                    origin: member(1),
                    n: home.stored,
                };
                let tuple = pair("v", i64::from(step));
                stores.push((
                    dot,
                    Item {
                        workspace: name("w"),
                        tuple: tuple.clone(),
                    },
                ));
                Command::Admit {
                    dot,
                    workspace: name("w"),
                    tuple,
                }
            } else if step > 3 {
                lease_command(&mut home, step)
            } else {
                let template = cpe_tuple::Template::named("v").unwrap();
                let workspace = name("w");
                Command::Take {
                    op: home.op(),
                    acks: vec![],
                    workspace,
                    template,
                    wait: step == 2,
                }
            };
            home.decide(&command);
            entries.push(Entry::new(&command).unwrap());
        }
        for n in 0..unadmitted {
            home.stored += 1;
            let dot = Dot {
                origin: member(1),
                n: home.stored,
            };
            stores.push((
                dot,
                Item {
                    workspace: name("w"),
                    tuple: pair("late", n as i64),
                },
            ));
        }
        History { entries, stores }
    })
}

/// A replica that has seen a prefix of the history and some of the stores.
fn replica(history: &History, prefix: usize, mask: u64) -> Shard {
    let mut shard = Shard::new(ShardId(0), founder());
    shard
        .feed(
            0,
            &history.entries[..prefix.min(history.entries.len())],
            |_, _, _| {},
        )
        .unwrap();
    for (bit, (dot, item)) in history.stores.iter().enumerate() {
        if mask >> (bit % 64) & 1 == 1 {
            shard.add_pending(*dot, item.clone());
        }
    }
    shard
}

fn join(a: &Shard, b: &Shard) -> Shard {
    let mut joined = a.clone();
    joined.merge(b).unwrap();
    joined
}

fn same(a: &Shard, b: &Shard) -> bool {
    a.sm() == b.sm() && a.pending() == b.pending()
}

#[test]
fn what_was_heard_before_a_fork_is_not_applied_after_it() {
    let store = |n, value| {
        let dot = Dot {
            origin: member(1),
            n,
        };
        let (workspace, tuple) = (name("w"), pair("v", value));
        Entry::new(&Command::Admit {
            dot,
            workspace,
            tuple,
        })
        .unwrap()
    };
    let config = Config {
        epoch: 2,
        members: vec![member(1)],
    };
    let mut before = Shard::new(ShardId(0), founder());
    before.feed(0, &[store(1, 1)], |_, _, _| {}).unwrap();
    let after = before.version().hash;
    let fork = Entry::new(&Command::Fork { config, after }).unwrap();
    let mut shard = Shard::new(ShardId(0), founder());
    // The third entry of the history that is given up, ahead of a gap.
    shard.feed(2, &[store(2, 30)], |_, _, _| {}).unwrap();
    let forked = [store(1, 1), fork, store(2, 31)];
    shard.feed(0, &forked, |_, _, _| {}).unwrap();
    let mut other = Shard::new(ShardId(0), founder());
    other.feed(0, &forked, |_, _, _| {}).unwrap();
    assert_eq!(shard.version(), other.version());
    assert!(same(&shard, &other));
    // Who has another history up to there does not go on with this one.
    let mut lost = Shard::new(ShardId(0), founder());
    let theirs = [store(1, 2), forked[1].clone(), forked[2].clone()];
    let error = lost.feed(0, &theirs, |_, _, _| {}).unwrap_err();
    let diverged = matches!(error, cpe_space::FeedError::Diverged { index: 1, .. });
    assert!(diverged, "{error}");
    assert_eq!(lost.version().index, 1);
    assert_eq!(lost.sm().forked_at(), None);
}

proptest! {
    #[test]
    fn merge_is_commutative_associative_and_idempotent(
        history in history(),
        prefixes in [0_usize..30, 0..30, 0..30],
        masks in any::<[u64; 3]>(),
    ) {
        let [a, b, c] = [0, 1, 2].map(|i| replica(&history, prefixes[i], masks[i]));
        prop_assert!(same(&join(&a, &b), &join(&b, &a)));
        prop_assert!(same(&join(&join(&a, &b), &c), &join(&a, &join(&b, &c))));
        prop_assert!(same(&join(&a, &a), &a));
        let joined = join(&a, &b);
        prop_assert!(joined.version().index >= a.version().index);
        for dot in joined.pending().keys() {
            prop_assert!(dot.n > joined.sm().admitted(dot.origin), "admitted adds are not pending");
        }
    }

    #[test]
    fn any_order_loss_and_duplication_of_feeds_ends_in_equal_replicas(
        history in history(),
        frames in prop::collection::vec((0_usize..30, 1_usize..8), 0..40),
    ) {
        let whole = replica(&history, usize::MAX, 0);
        let mut shard = Shard::new(ShardId(0), founder());
        for (from, len) in frames {
            let from = from.min(history.entries.len());
            let to = (from + len).min(history.entries.len());
            shard.feed(from as u64, &history.entries[from..to], |_, _, _| {}).unwrap();
            let at = shard.version();
            prop_assert_eq!(whole.hash_at(at.index), Some(at.hash), "a prefix at every moment");
        }
        // The pull that follows any gap.
        let from = shard.version().index;
        let rest = whole.suffix(from, usize::MAX).unwrap();
        shard.feed(from, &rest, |_, _, _| {}).unwrap();
        prop_assert_eq!(shard.sm(), whole.sm());
        prop_assert!(!shard.has_gap());
    }

    #[test]
    fn a_snapshot_stands_for_the_entries_before_it(history in history(), cut in 0_usize..30) {
        let whole = replica(&history, usize::MAX, 0);
        let early = replica(&history, cut, 0);
        let bytes = cpe_tuple::codec::encode(early.sm()).unwrap();
        let sm = cpe_tuple::codec::decode(&bytes, usize::MAX).unwrap();
        let mut shard = Shard::from_snapshot(ShardId(0), sm);
        let from = shard.version().index;
        shard.feed(from, &whole.suffix(from, usize::MAX).unwrap(), |_, _, _| {}).unwrap();
        prop_assert_eq!(shard.sm(), whole.sm());
    }
}

#[test]
fn two_histories_of_one_shard_are_a_bug_report_and_not_a_merge() {
    let mut one = Home::new();
    let mut other = Home::new();
    one.store("v", 1);
    other.store("v", 2);
    other.store("v", 3);
    let refused = one.shard.merge(&other.shard);
    assert_eq!(
        refused,
        Err(FeedError::Diverged {
            shard: ShardId(0),
            index: 1
        })
    );
}

#[test]
fn a_trimmed_log_serves_what_it_still_has() {
    let mut home = Home::new();
    for n in 0..10 {
        home.store("v", n);
    }
    home.shard.trim(4);
    assert_eq!(home.shard.suffix(3, usize::MAX), None);
    assert_eq!(home.shard.suffix(4, usize::MAX).unwrap().len(), 6);
    assert_eq!(
        home.shard.suffix(9, 0).unwrap().len(),
        1,
        "always at least one"
    );
    assert_eq!(home.shard.suffix(10, usize::MAX).unwrap().len(), 0);
}
