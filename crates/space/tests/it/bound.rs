//! Operations bound to an instance of a workspace.

use cpe_space::{After, Applied, Bound, Command, Mode, Outcome, Terms};
use cpe_tuple::{Mark, Tuple, Value};

use crate::{Home, name};

impl Home {
    fn bound(&mut self, terms: Terms, act: Bound) -> Applied {
        let op = self.op();
        self.decide(&Command::Bound {
            op,
            acks: Vec::new(),
            workspace: name("w"),
            terms,
            act,
        })
    }

    fn outcome(&mut self, instance: u64, act: Bound) -> Outcome {
        let exchanges = matches!(act, Bound::Exchange { .. });
        let after = None;
        match self.bound(Terms { instance, after }, act) {
            Applied::Done(_, outcome) => outcome,
            Applied::Added { index, .. } if exchanges => Outcome::Exchanged { index },
            Applied::Added { .. } => Outcome::Done,
            other => panic!("{other:?}"),
        }
    }

    fn declare(&mut self, instance: u64, mode: Option<Mode>) -> Outcome {
        let variable = Value::from("v");
        self.outcome(instance, Bound::Declare { variable, mode })
    }

    fn put(&mut self, instance: u64, value: i64) -> Outcome {
        let tuple = Tuple::named("v", value).unwrap();
        self.outcome(instance, Bound::Put { tuple })
    }

    fn next(&mut self, instance: u64, leave: bool, after: Option<After>) -> Outcome {
        let act = Bound::Take {
            variable: Value::from("v"),
            wait: false,
            leave,
        };
        match self.bound(Terms { instance, after }, act) {
            Applied::Done(_, outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn exchange(&mut self, expect: Option<Tuple>, put: Option<Tuple>) -> Outcome {
        let variable = Value::from("r");
        self.outcome(
            0,
            Bound::Exchange {
                variable,
                expect,
                put,
            },
        )
    }
}

fn seen(outcome: Outcome) -> (i64, Mark) {
    match outcome {
        Outcome::Taken { tuple, .. } | Outcome::Found { tuple } => {
            (tuple[1].as_int().unwrap(), *tuple.mark().unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_variable_is_absent_until_declared_and_in_every_other_instance() {
    let mut home = Home::new();
    assert_eq!(home.put(2, 1), Outcome::Absent);
    assert_eq!(home.declare(2, None), Outcome::Done);
    assert_eq!(home.put(2, 1), Outcome::Done);
    assert_eq!(home.put(1, 1), Outcome::Absent);
    assert_eq!(home.put(3, 1), Outcome::Absent);
    assert_eq!(
        home.declare(1, None),
        Outcome::Absent,
        "an earlier instance"
    );
    let (value, mark) = seen(home.next(2, false, None));
    assert_eq!((value, mark.ordinal), (1, 0));
    assert_eq!(home.next(2, false, None), Outcome::Empty);
}

#[test]
fn a_later_instance_finds_nothing_of_an_earlier_one() {
    let mut home = Home::new();
    home.declare(2, Some(Mode::Lifo));
    home.put(2, 1);
    assert_eq!(home.declare(5, Some(Mode::Fifo)), Outcome::Done);
    assert_eq!(home.next(5, false, None), Outcome::Empty);
    assert_eq!(home.next(2, false, None), Outcome::Absent);
}

#[test]
fn tuples_stored_by_others_are_counted_before_and_after_the_declaration() {
    let mut home = Home::new();
    home.store("v", 10);
    home.declare(1, None);
    home.store("v", 11);
    home.put(1, 12);
    let (mut after, mut seen_so_far) = (None, Vec::new());
    for ordinal in 0..3 {
        let (value, mark) = seen(home.next(1, true, after));
        assert_eq!(mark.ordinal, ordinal);
        seen_so_far.push(value);
        after = Some(After {
            variable: Some(mark.variable),
            ordinal,
        });
    }
    assert_eq!(seen_so_far, [10, 11, 12]);
    assert_eq!(home.next(1, true, after), Outcome::Empty);
}

#[test]
fn an_iteration_goes_on_past_what_others_took_and_ends_with_the_variable() {
    let mut home = Home::new();
    home.declare(1, Some(Mode::Fifo));
    (0..4).for_each(|n| drop(home.put(1, n)));
    let (_, mark) = seen(home.next(1, true, None));
    let at = |ordinal| {
        Some(After {
            variable: Some(mark.variable),
            ordinal,
        })
    };
    (0..2).for_each(|_| drop(home.next(1, false, None)));
    assert_eq!(seen(home.next(1, true, at(0))).0, 2, "1 was taken");
    assert_eq!(seen(home.next(1, false, at(2))).0, 3);
    assert_eq!(home.next(1, true, at(3)), Outcome::Empty);
    // Empty is not gone: the life and its count go on.
    home.next(1, false, None);
    home.put(1, 4);
    assert_eq!(seen(home.next(1, true, at(3))).1.ordinal, 4);

    let variable = Value::from("v");
    assert_eq!(home.outcome(1, Bound::Drop { variable }), Outcome::Done);
    assert_eq!(home.next(1, true, at(3)), Outcome::Absent);
    home.declare(1, None);
    home.put(1, 5);
    assert_eq!(home.next(1, true, at(3)), Outcome::NoIteration);
}

#[test]
fn an_iteration_needs_an_order() {
    let begin = Some(After {
        variable: None,
        ordinal: 0,
    });
    for (mode, refused) in [
        (Mode::Fifo, false),
        (Mode::Single, false),
        (Mode::Lifo, true),
        (Mode::Multi, true),
    ] {
        let mut home = Home::new();
        home.declare(1, Some(mode));
        home.put(1, 7);
        let outcome = home.next(1, true, begin);
        assert_eq!(outcome == Outcome::NoIteration, refused, "{mode}");
    }
}

#[test]
fn a_record_is_exchanged_only_for_what_it_holds() {
    let mut home = Home::new();
    let record = |n| Tuple::named("r", n).unwrap();
    let Outcome::Exchanged { index } = home.exchange(None, Some(record(1))) else {
        panic!("nothing was there");
    };
    let Outcome::Differs(Some(held)) = home.exchange(None, Some(record(2))) else {
        panic!("something was there");
    };
    assert_eq!(held.mark().map(|mark| mark.variable), Some(index));
    let unmarked = home.exchange(Some(record(1)), None);
    assert_eq!(unmarked, Outcome::Differs(Some(held.clone())));
    assert!(matches!(
        home.exchange(Some(held.clone()), Some(record(3))),
        Outcome::Exchanged { .. }
    ));
    let Outcome::Differs(Some(newer)) = home.exchange(Some(held), None) else {
        panic!("it was exchanged");
    };
    assert_eq!(newer[1], Value::from(3));
    assert!(matches!(
        home.exchange(Some(newer), None),
        Outcome::Exchanged { .. }
    ));
    assert_eq!(home.exchange(Some(record(1)), None), Outcome::Differs(None));
}

#[test]
fn a_cancelled_put_happens_wholly_or_never() {
    let mut home = Home::new();
    home.declare(1, None);
    let put = |op| Command::Bound {
        op,
        acks: Vec::new(),
        workspace: name("w"),
        terms: Terms {
            instance: 1,
            after: None,
        },
        act: Bound::Put {
            tuple: Tuple::named("v", 1).unwrap(),
        },
    };
    let never = home.op();
    home.decide(&Command::Untake { op: never });
    home.decide(&put(never));
    assert_eq!(home.next(1, true, None), Outcome::Empty);

    let done = home.op();
    home.decide(&put(done));
    let told = home.decide(&Command::Untake { op: done });
    assert_eq!(told, Applied::Done(done, Outcome::Done));
    assert_eq!(seen(home.next(1, true, None)).0, 1);
}

#[test]
fn a_put_that_names_a_life_of_its_variable_is_done_in_that_life_alone() {
    let mut home = Home::new();
    home.declare(1, None);
    home.put(1, 1);
    let (_, mark) = seen(home.next(1, true, None));
    let mut put_in = |variable: Option<u64>| {
        let after = Some(After {
            variable,
            ordinal: 0,
        });
        let tuple = Tuple::named("v", 2).unwrap();
        let terms = Terms { instance: 1, after };
        match home.bound(terms, Bound::Put { tuple }) {
            Applied::Added { .. } => Outcome::Done,
            Applied::Done(_, outcome) => outcome,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(put_in(Some(mark.variable)), Outcome::Done);
    assert_eq!(put_in(Some(mark.variable + 1)), Outcome::NoIteration);
    assert_eq!(put_in(None), Outcome::Done);
    for _ in 0..3 {
        seen(home.next(1, false, None));
    }
    assert_eq!(home.next(1, false, None), Outcome::Empty);
}
