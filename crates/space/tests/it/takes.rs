//! What durable actors take: remembered until they have it (rule A6).

use cpe_space::{
    Applied, Command, Effect, Marked, Outcome, Sender, Sent, Standing, TAKES_MAX, Taker, Taking,
};
use cpe_tuple::{Template, Value};

use crate::outbox::life;
use crate::{Home, name};

fn taking(request: u64) -> Taking {
    Taking {
        workspace: name("w"),
        template: Template::named("v").unwrap(),
        wait: true,
        answer: "took".to_owned(),
        request,
    }
}

/// Take `n` of an actor in an incarnation, with all that are open then.
fn taker((token, n): (u64, u64), open: &[u64]) -> Taker {
    Taker {
        name: "a".to_owned(),
        born: 1,
        token,
        n,
        open: open.to_vec(),
    }
}

impl Home {
    fn ask_as(&mut self, taker: &Taker, wait: bool) -> Applied {
        let op = self.op();
        self.decide(&Command::TakeFor {
            op,
            taker: taker.clone(),
            workspace: name("w"),
            template: Template::named("v").unwrap(),
            wait,
        })
    }

    /// The value that a take came to; nothing if it waits for one.
    fn took(&mut self, taker: &Taker) -> Option<i64> {
        match self.ask_as(taker, true) {
            Applied::Done(_, Outcome::Taken { tuple, .. }) => tuple[1].as_int(),
            Applied::Missed(_) => None,
            other => panic!("{other:?}"),
        }
    }

    fn end_take(&mut self, taker: &Taker, back: bool) -> Applied {
        let op = self.op();
        let taker = taker.clone();
        self.decide(&Command::EndTake { op, taker, back })
    }

    fn commit_takes(&mut self, (token, seq): (u64, u64), takes: u64, handled: &[u64]) -> Outcome {
        let marked = |n: &u64| Marked {
            sender: Sender::Take { born: 1, n: *n },
            seq: 1,
            low: 1,
        };
        let command = Command::Commit {
            op: self.op(),
            name: "a".to_owned(),
            token,
            seq,
            snapshot: Value::Int(seq.cast_signed()),
            marks: handled.iter().map(marked).collect(),
            effects: (1..=takes).map(|n| Effect::Take(taking(n))).collect(),
            sent: Sent::default(),
            rest_over: true,
        };
        match self.decide(&command) {
            Applied::Done(_, outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn over(&mut self, takes: &[u64], ended: Option<u64>) {
        let command = Command::TakesOver {
            op: self.op(),
            name: "a".to_owned(),
            born: 1,
            takes: takes.to_vec(),
            ended,
        };
        self.decide(&command);
    }

    fn standings(&self) -> Vec<(u64, Standing)> {
        let kept = self.shard.sm().actor("a").unwrap().kept.clone().unwrap();
        let takes = kept.outbox.takes.iter();
        takes.map(|(n, take)| (n, take.standing)).collect()
    }

    fn unreceived(&self) -> Vec<u64> {
        self.shard.sm().unreceived().map(|(_, n)| n).collect()
    }
}

#[test]
fn whoever_asks_for_a_take_of_an_actor_is_answered_the_same_until_it_is_over() {
    let mut home = Home::new();
    home.store("v", 10);
    home.store("v", 11);
    assert_eq!(home.took(&taker((1, 1), &[1])), Some(10));
    assert_eq!(home.took(&taker((2, 1), &[1])), Some(10), "another host");
    assert_eq!(home.took(&taker((2, 2), &[1, 2])), Some(11));
    assert_eq!(home.took(&taker((1, 3), &[1, 2, 3])), None, "it waits");
    assert_eq!(home.unreceived(), [1, 2]);
    home.end_take(&taker((2, 1), &[1, 2, 3]), false);
    assert_eq!(home.unreceived(), [2]);
    home.store("v", 12);
    let late = home.ask_as(&taker((1, 1), &[1]), true);
    assert!(
        matches!(late, Applied::Done(_, Outcome::Stale)),
        "a question that comes after all takes nothing: {late:?}"
    );
    assert_eq!(home.took(&taker((2, 3), &[2, 3])), Some(12));
}

#[test]
fn that_nothing_was_there_is_remembered_too() {
    let mut home = Home::new();
    let one = taker((1, 1), &[1]);
    for value in [None, Some(5)] {
        let asked = home.ask_as(&one, false);
        assert!(
            matches!(asked, Applied::Done(_, Outcome::Empty)),
            "{asked:?}"
        );
        if let Some(value) = value {
            home.store("v", value);
        }
    }
    home.store("v", 6);
    let again = home.ask_as(&one, false);
    assert!(
        matches!(again, Applied::Done(_, Outcome::Empty)),
        "{again:?}"
    );
}

#[test]
fn a_take_below_those_that_are_open_is_over_though_the_shard_never_heard_of_it() {
    let mut home = Home::new();
    home.store("v", 10);
    assert_eq!(home.took(&taker((2, 7), &[4, 7])), Some(10));
    home.store("v", 11);
    let late = home.ask_as(&taker((1, 5), &[4, 5]), true);
    assert!(matches!(late, Applied::Done(_, Outcome::Stale)), "{late:?}");
    assert_eq!(
        home.took(&taker((2, 4), &[4, 7])),
        Some(11),
        "it waited long"
    );
}

#[test]
fn what_an_actor_that_ended_took_goes_back_to_its_place_unless_somebody_goes_on_with_it() {
    let mut home = Home::new();
    home.store("v", 10);
    home.store("v", 11);
    assert_eq!(home.took(&taker((1, 1), &[1])), Some(10));
    assert_eq!(home.took(&taker((2, 1), &[1])), Some(10));
    home.end_take(&taker((1, 1), &[1]), true);
    assert_eq!(home.unreceived(), [1], "the second incarnation has it");
    home.end_take(&taker((2, 1), &[1]), true);
    assert!(home.unreceived().is_empty());
    let first = home.take("v");
    assert!(
        matches!(&first, Applied::Done(_, Outcome::Taken { tuple, .. }) if tuple[1] == 10.into()),
        "{first:?}"
    );
    let late = home.ask_as(&taker((2, 1), &[1]), true);
    assert!(matches!(late, Applied::Done(_, Outcome::Stale)), "{late:?}");
}

#[test]
fn a_deleted_variable_gets_nothing_back() {
    let mut home = Home::new();
    home.store("v", 10);
    assert_eq!(home.took(&taker((1, 1), &[1])), Some(10));
    let drop = Command::Drop {
        op: home.op(),
        workspace: name("w"),
        variable: None,
    };
    home.decide(&drop);
    home.end_take(&taker((1, 1), &[1]), true);
    assert!(matches!(home.take("v"), Applied::Done(_, Outcome::Empty)));
}

#[test]
fn a_take_stays_in_the_record_until_the_actor_and_the_shard_are_done_with_it() {
    let mut home = Home::new();
    home.claim_for(life(1), 0, None);
    assert_eq!(home.commit_takes((1, 1), 2, &[]), Outcome::Done);
    let open = [(1, Standing::Open), (2, Standing::Open)];
    assert_eq!(home.standings(), open);
    assert_eq!(
        home.commit_takes((1, 1), 2, &[]),
        Outcome::Done,
        "asked again"
    );
    assert_eq!(home.standings(), open);
    home.claim_for(life(2), 1, Some(life(1)));
    assert_eq!(home.commit_takes((2, 2), 0, &[2]), Outcome::Done);
    assert_eq!(
        home.standings(),
        [(1, Standing::Open), (2, Standing::Handled)]
    );
    home.over(&[2], None);
    assert_eq!(home.standings(), [(1, Standing::Open)]);
    let kept = home.shard.sm().actor("a").unwrap().kept.clone().unwrap();
    let had = |n| kept.has(&Sender::Take { born: 1, n }, 1);
    assert!(had(2) && !had(1) && !had(3));
    assert!(
        kept.has(&Sender::Take { born: 0, n: 9 }, 1),
        "of another birth"
    );
}

#[test]
fn an_actor_has_so_many_takes_and_no_more() {
    let mut home = Home::new();
    home.claim_for(life(1), 0, None);
    let most = TAKES_MAX as u64;
    assert_eq!(home.commit_takes((1, 1), most, &[]), Outcome::Done);
    let refused = home.commit_takes((1, 2), 1, &[]);
    assert_eq!(refused, Outcome::TooManyTakes(most));
    assert_eq!(home.commit_takes((1, 2), 0, &[1]), Outcome::Done);
}

#[test]
fn a_name_is_given_up_once_its_takes_are_and_commits_nothing_meanwhile() {
    let mut home = Home::new();
    home.claim_for(life(1), 0, None);
    home.commit_takes((1, 1), 1, &[]);
    assert_eq!(home.give_up(1, true, Sent::default()), Outcome::Unsent(1));
    assert!(home.shard.sm().actor("a").unwrap().ending);
    let late = home.commit_takes((1, 2), 0, &[1]);
    assert!(matches!(late, Outcome::Fenced(_)), "{late:?}");
    home.over(&[1], Some(0));
    assert_eq!(
        home.standings(),
        [(1, Standing::Open)],
        "of another incarnation"
    );
    home.over(&[1], Some(1));
    assert_eq!(home.standings(), [(1, Standing::GivenUp)]);
    assert_eq!(home.give_up(1, true, Sent::default()), Outcome::Done);
    home.claim_for(life(1), 1, None);
    assert_eq!(
        home.standings(),
        [(1, Standing::GivenUp)],
        "the next is told"
    );
    assert_eq!(home.commit_takes((2, 2), 0, &[1]), Outcome::Done);
    home.over(&[1], None);
    assert!(home.standings().is_empty());
}

#[test]
fn a_state_with_takes_comes_back_as_it_was() {
    let mut home = Home::new();
    home.store("v", 10);
    home.claim_for(life(1), 0, None);
    home.commit_takes((1, 1), 2, &[]);
    home.took(&taker((1, 1), &[1, 2]));
    let sm = home.shard.sm();
    let bytes = cpe_tuple::codec::encode(sm).unwrap();
    let read: cpe_space::Sm = cpe_tuple::codec::decode(&bytes, bytes.len()).unwrap();
    assert_eq!(&read, sm);
}
