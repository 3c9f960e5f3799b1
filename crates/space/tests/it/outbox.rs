//! What durable actors want done: kept with a commit, and done once (rule A5).

use std::collections::BTreeMap;

use cpe_membership::{Incarnation, Member};
use cpe_space::{
    Applied, Command, Effect, MAX_EMITTERS, OUTBOX_BYTES_MAX, OUTBOX_MAX, Outbox, Outcome, Sent,
};
use cpe_tuple::{Tuple, Value, codec};
use proptest::prelude::*;

use crate::{Home, member, name, pair};

pub(crate) fn life(inc: u32) -> Member {
    let node = member(7).node;
    let inc = Incarnation(inc);
    Member { node, inc }
}

fn out(n: i64) -> Effect {
    Effect::Out {
        workspace: name("w"),
        tuple: pair("v", n),
    }
}

const fn sent(born: u64, upto: u64) -> Sent {
    Sent { born, upto }
}

fn outcome(applied: Applied) -> Outcome {
    match applied {
        Applied::Done(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

impl Home {
    pub(crate) fn claim_for(&mut self, host: Member, expect: u64, void: Option<Member>) -> Outcome {
        let command = Command::ClaimLeased {
            op: self.op(),
            name: "a".to_owned(),
            expect,
            spec: Value::Null,
            needs: BTreeMap::new(),
            host,
            void,
        };
        outcome(self.decide(&command))
    }

    fn commit_with(
        &mut self,
        (token, seq): (u64, u64),
        effects: Vec<Effect>,
        sent: Sent,
    ) -> Outcome {
        let command = Command::Commit {
            op: self.op(),
            name: "a".to_owned(),
            token,
            seq,
            snapshot: Value::from("state"),
            marks: Vec::new(),
            effects,
            sent,
            rest_over: true,
        };
        outcome(self.decide(&command))
    }

    pub(crate) fn give_up(&mut self, token: u64, keeps: bool, sent: Sent) -> Outcome {
        let command = Command::Release {
            op: self.op(),
            name: "a".to_owned(),
            token,
            void: None,
            keeps,
            sent,
        };
        outcome(self.decide(&command))
    }

    fn tell_sent(&mut self, sent: Sent) {
        let (op, name) = (self.op(), "a".to_owned());
        let told = self.decide(&Command::Sent { op, name, sent });
        assert_eq!(outcome(told), Outcome::Done);
    }

    fn emit(&mut self, actor: &str, (born, n): (u64, u64)) -> bool {
        let command = Command::Emit {
            op: self.op(),
            name: actor.to_owned(),
            born,
            n,
            workspace: name("w"),
            tuple: pair("v", n.cast_signed()),
        };
        match self.decide(&command) {
            Applied::Added { dot: None, .. } => true,
            other => {
                assert_eq!(outcome(other), Outcome::Done);
                false
            }
        }
    }

    fn outbox(&self) -> Outbox {
        let record = self.shard.sm().actor("a").unwrap();
        record.kept.clone().map(|kept| kept.outbox).unwrap()
    }

    fn due(&self) -> bool {
        self.shard.sm().due().any(|name| name == "a")
    }
}

/// Numbers of the effects that wait.
fn waiting(outbox: &Outbox) -> std::ops::Range<u64> {
    outbox.sent() + 1..outbox.last() + 1
}

#[test]
fn effects_stay_with_the_actor_until_they_are_done_whoever_hosts_it() {
    let mut home = Home::new();
    home.claim_for(life(1), 0, None);
    assert!(!home.due());
    let none = Sent::default();
    assert_eq!(
        home.commit_with((1, 1), vec![out(1), out(2)], none),
        Outcome::Done
    );
    assert_eq!(home.outbox().born(), 1);
    home.claim_for(life(2), 1, Some(life(1)));
    assert!(matches!(
        home.commit_with((1, 2), vec![out(9)], none),
        Outcome::Fenced(_)
    ));
    let outbox = home.outbox();
    assert_eq!((outbox.born(), waiting(&outbox)), (1, 1..3));
    assert_eq!(outbox.get(2), Some(&out(2)));
    assert_eq!(
        home.commit_with((2, 2), vec![out(3)], sent(1, 1)),
        Outcome::Done
    );
    assert_eq!(waiting(&home.outbox()), 2..4);
    assert!(home.due());
    home.tell_sent(sent(1, 3));
    assert!(home.outbox().is_empty() && !home.due());
    assert_eq!(home.outbox().get(3), None);
    home.tell_sent(sent(1, 2));
    home.tell_sent(sent(1, 99));
    assert_eq!((home.outbox().sent(), home.outbox().last()), (3, 3));
}

#[test]
fn a_repeated_commit_adds_its_effects_once_and_another_under_its_number_none() {
    let mut home = Home::new();
    home.claim_for(life(1), 0, None);
    let none = Sent::default();
    for _ in 0..2 {
        assert_eq!(home.commit_with((1, 1), vec![out(1)], none), Outcome::Done);
    }
    for other in [vec![], vec![out(2)], vec![out(1), out(1)]] {
        assert_eq!(
            home.commit_with((1, 1), other, none),
            Outcome::OutOfTurn(1),
            "the state is the same, what it asks for is not"
        );
    }
    assert_eq!(waiting(&home.outbox()), 1..2);
    assert_eq!(home.commit_with((1, 2), vec![], sent(1, 1)), Outcome::Done);
    assert_eq!(home.commit_with((1, 2), vec![], none), Outcome::Done);
}

#[test]
fn a_full_outbox_refuses_a_commit_and_what_is_done_makes_room() {
    let mut home = Home::new();
    home.claim_for(life(1), 0, None);
    let none = Sent::default();
    let all: Vec<Effect> = (1..).map(out).take(OUTBOX_MAX).collect();
    assert_eq!(home.commit_with((1, 1), all, none), Outcome::Done);
    let full = Outcome::Unsent(OUTBOX_MAX as u64);
    assert_eq!(home.commit_with((1, 2), vec![out(0)], none), full);
    let kept = home.shard.sm().actor("a").unwrap().kept.clone().unwrap();
    assert_eq!(kept.seq, 1, "nothing of it is kept");
    assert_eq!(
        home.commit_with((1, 2), vec![out(0)], sent(1, 1)),
        Outcome::Done
    );
    // Without effects there is always room.
    assert_eq!(home.commit_with((1, 3), vec![], none), Outcome::Done);
    home.tell_sent(sent(1, OUTBOX_MAX as u64 + 1));
    let large = || Effect::Tell {
        actor: name("b"),
        message: Value::Bytes(vec![0; OUTBOX_BYTES_MAX / 2 - 1_024]),
    };
    let two = vec![large(), large()];
    assert_eq!(home.commit_with((1, 4), two, none), Outcome::Done);
    assert_eq!(
        home.commit_with((1, 5), vec![large()], none),
        Outcome::Unsent(2)
    );
}

#[test]
fn a_name_is_given_up_once_its_effects_are_done() {
    let mut home = Home::new();
    home.claim_for(life(1), 0, None);
    home.commit_with((1, 1), vec![out(1), out(2)], Sent::default());
    for keeps in [true, false] {
        let refused = home.give_up(1, keeps, sent(1, 1));
        assert_eq!(refused, Outcome::Unsent(1));
        assert!(home.shard.sm().actor("a").unwrap().host.is_some());
    }
    assert_eq!(home.give_up(1, false, sent(1, 2)), Outcome::Done);
    assert!(!home.due());
    // The next one of the name counts anew, and is not taken for the one before.
    home.claim_for(life(1), 1, None);
    home.commit_with((2, 1), vec![out(1), out(2)], Sent::default());
    assert_eq!(home.outbox().born(), 2);
    home.tell_sent(sent(1, 2));
    assert_eq!(waiting(&home.outbox()), 1..3, "said of the one before");
    // What was kept over the end goes on counting.
    home.tell_sent(sent(2, 2));
    assert_eq!(home.give_up(2, true, Sent::default()), Outcome::Done);
    home.claim_for(life(1), 2, None);
    home.commit_with((3, 2), vec![out(3)], Sent::default());
    assert_eq!((home.outbox().born(), waiting(&home.outbox())), (2, 3..4));
}

#[test]
fn a_shard_has_each_effect_of_an_actor_once_and_none_that_is_behind() {
    let mut home = Home::new();
    assert!(home.emit("a", (1, 2)));
    assert!(!home.emit("a", (1, 2)));
    assert!(
        !home.emit("a", (1, 1)),
        "it was done, or never was for here"
    );
    assert!(home.emit("a", (1, 5)));
    assert!(home.emit("b", (1, 5)), "another actor");
    assert!(home.emit("a", (4, 1)), "the next of the name");
    assert!(!home.emit("a", (1, 6)));
    assert_eq!(home.shard.sm().emitted("a"), Some((4, 1)));
    assert_eq!(home.shard.sm().len(), 4);
}

#[test]
fn the_actors_a_shard_heard_of_longest_ago_are_forgotten_first() {
    let mut home = Home::new();
    assert!(home.emit("first", (1, 1)));
    for n in 0..MAX_EMITTERS {
        home.emit(&format!("a{n}"), (1, 1));
        if n == 5 {
            // Heard of again.
            assert!(home.emit("a1", (1, 2)));
        }
    }
    let known = |name: &str| home.shard.sm().emitted(name).is_some();
    assert!(!known("first") && !known("a0"));
    assert!(known(&format!("a{}", MAX_EMITTERS - 1)));
    let half = MAX_EMITTERS - MAX_EMITTERS / 2;
    assert!(known(&format!("a{half}")) && !known(&format!("a{}", half - 1)));
}

fn effect() -> impl Strategy<Value = Effect> {
    let value = || any::<i64>().prop_map(Value::from);
    prop_oneof![
        (1_usize..6, value()).prop_map(|(fields, value)| Effect::Out {
            workspace: name("w"),
            tuple: Tuple::new(vec![value; fields]).unwrap(),
        }),
        ("[a-z]{1,9}", value()).prop_map(|(actor, message)| Effect::Tell {
            actor: name(&actor),
            message,
        }),
        ("[a-z]{1,9}", value()).prop_map(|(kind, args)| Effect::Spawn {
            kind,
            name: name("n"),
            args,
        }),
    ]
}

proptest! {
    /// Whatever is committed, said to be done, or repeated: each effect has the number that its
    /// place in the history gives it, and what is said to be done is what is gone.
    #[test]
    fn an_outbox_is_what_was_asked_for_less_what_is_done(
        steps in prop::collection::vec(
            (prop::collection::vec(effect(), 0..4), any::<bool>(), 0_u64..12),
            0..30,
        ),
    ) {
        let mut home = Home::new();
        home.claim_for(life(1), 0, None);
        let (mut all, mut done, mut seq) = (Vec::new(), 0, 0);
        for (effects, commits, upto) in steps {
            let says = sent(1, upto);
            if commits {
                let none = Sent::default();
                let first = home.commit_with((1, seq + 1), effects.clone(), says);
                prop_assert_eq!(first, Outcome::Done);
                let again = home.commit_with((1, seq + 1), effects.clone(), none);
                prop_assert_eq!(again, Outcome::Done);
                seq += 1;
                done = upto.min(all.len() as u64).max(done);
                all.extend(effects);
            } else if seq > 0 {
                home.tell_sent(says);
                done = upto.min(all.len() as u64).max(done);
            }
            if seq == 0 {
                continue;
            }
            let outbox = home.outbox();
            prop_assert_eq!((outbox.sent(), outbox.last()), (done, all.len() as u64));
            for (n, effect) in (1..).zip(&all) {
                prop_assert_eq!(outbox.get(n), (n > done).then_some(effect));
            }
            prop_assert_eq!(home.due(), !outbox.is_empty());
        }
        let bytes = codec::encode(home.shard.sm()).unwrap();
        let read: cpe_space::Sm = codec::decode(&bytes, 1 << 20).unwrap();
        prop_assert_eq!(&read, home.shard.sm());
    }
}
