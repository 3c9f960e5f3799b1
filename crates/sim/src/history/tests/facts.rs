//! What is written and read, how a violation reads, and how long a long history takes.

use std::io::BufReader;
use std::time::Duration;

use cpe_space::Mode;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::{Shape, history};
use crate::history::search::is_linearizable;
use crate::history::{
    Account, Did, History, HistoryError, LineError, Operation, Rule, Stored, Taken,
};

fn store(value: i64) -> Did {
    let outcome = Stored::Acknowledged;
    Did::Store { value, outcome }
}

fn took(value: i64) -> Did {
    Did::Take(Taken::Value(value))
}

const EMPTY: Did = Did::Take(Taken::Empty);

/// Operations that follow each other, ten microseconds each.
fn in_turn(mode: Mode, dids: &[Did]) -> History {
    let mut history = History::default();
    history.declare("v", mode);
    for (n, did) in (0..).zip(dids) {
        let open = *did == Did::Take(Taken::Cancelled);
        let to = (!open).then_some(10 * n + 9);
        history
            .push(Operation::new(n % 3, "v", 10 * n, to, *did))
            .unwrap();
    }
    history
}

fn rule(mode: Mode, dids: &[Did]) -> Rule {
    in_turn(mode, dids).check().unwrap_err().rule
}

#[test]
fn each_mode_hands_out_in_its_own_order() {
    let queue = [store(1), store(2), took(1), took(2), EMPTY];
    let stack = [store(1), store(2), took(2), took(1), EMPTY];
    let last = [
        store(1),
        store(2),
        took(2),
        EMPTY,
        store(3),
        Did::Find(Some(3)),
    ];
    for (mode, fits) in [
        (Mode::Fifo, [true, false, false]),
        (Mode::Lifo, [false, true, false]),
        (Mode::Multi, [true, true, false]),
        (Mode::Single, [false, false, true]),
    ] {
        for (dids, fits) in [&queue[..], &stack[..], &last[..]].into_iter().zip(fits) {
            let checked = in_turn(mode, dids).check();
            assert_eq!(checked.is_ok(), fits, "{mode}: {dids:?}: {checked:?}");
        }
    }
}

#[test]
fn each_broken_rule_has_its_name() {
    for mode in [Mode::Fifo, Mode::Lifo, Mode::Multi, Mode::Single] {
        assert_eq!(rule(mode, &[store(1), store(1)]), Rule::StoredTwice(1));
        assert_eq!(rule(mode, &[took(1)]), Rule::FromNowhere(1));
        assert_eq!(rule(mode, &[took(1), store(1)]), Rule::TooEarly(1));
        assert_eq!(
            rule(mode, &[store(1), took(1), took(1)]),
            Rule::TakenTwice(1)
        );
        let late = [store(1), took(1), Did::Find(Some(1))];
        assert_eq!(rule(mode, &late), Rule::TooLate(1));
        assert_eq!(rule(mode, &[store(1), EMPTY, took(1)]), Rule::NotEmpty);
        assert_eq!(rule(mode, &[store(1), Did::Find(None)]), Rule::NotEmpty);
        let local = [Did::LocalFind(Some(1)), store(1)];
        assert_eq!(rule(mode, &local), Rule::TooEarly(1));
    }
    let (earlier, later) = (1, 2);
    let swapped = [store(1), store(2), took(2), took(1)];
    assert_eq!(
        rule(Mode::Fifo, &swapped),
        Rule::Overtook { earlier, later }
    );
    let (lower, upper) = (1, 2);
    let under = [store(1), store(2), took(1), took(2)];
    assert_eq!(rule(Mode::Lifo, &under), Rule::Crossed { lower, upper });
    let (head, other) = (1, 2);
    assert_eq!(rule(Mode::Single, &under), Rule::TwoHeads { head, other });
    let lost = [
        store(1),
        store(2),
        Did::Take(Taken::Unknown),
        store(3),
        took(3),
    ];
    let (gone, takes) = (2, 1);
    assert_eq!(rule(Mode::Fifo, &lost), Rule::TooManyGone { gone, takes });
}

#[test]
fn an_unavailable_take_explains_nothing_and_an_unknown_one_a_single_value() {
    for mode in [Mode::Fifo, Mode::Lifo, Mode::Multi, Mode::Single] {
        let with = |taken| in_turn(mode, &[store(1), Did::Take(taken), EMPTY]).check();
        assert!(with(Taken::Unavailable).is_err(), "{mode}");
        assert!(with(Taken::Unknown).is_ok(), "{mode}");
        assert!(with(Taken::Cancelled).is_ok(), "{mode}");
    }
    let two = [store(1), store(2), Did::Take(Taken::Unknown), EMPTY];
    assert_eq!(rule(Mode::Multi, &two), Rule::NotEmpty);
}

#[test]
fn a_cancelled_take_may_put_back_what_it_took_and_an_unknown_one_may_not() {
    let with = |taken| [store(1), Did::Take(taken), EMPTY, took(1)];
    for mode in [Mode::Fifo, Mode::Lifo, Mode::Multi, Mode::Single] {
        assert!(in_turn(mode, &with(Taken::Cancelled)).check().is_ok());
        assert_eq!(rule(mode, &with(Taken::Unknown)), Rule::NotEmpty);
    }
}

#[test]
fn a_cancelled_take_that_ended_hides_nothing_after() {
    for mode in [Mode::Fifo, Mode::Lifo, Mode::Multi] {
        for (to, holds) in [(25, true), (15, false)] {
            let mut history = in_turn(mode, &[store(1), Did::LocalFind(None), EMPTY, took(1)]);
            let cancelled = Did::Take(Taken::Cancelled);
            let operation = Operation::new(4, "v", 10, Some(to), cancelled);
            history.push(operation).unwrap();
            assert_eq!(history.check().is_ok(), holds, "{mode}, {to}");
        }
    }
}

/// The head found at 50 and taken from 80 on was there between; so value 2 was taken before, and
/// value 1, stored before value 2, after.
#[test]
fn values_seen_around_a_head_keep_their_order() {
    let mut history = History::default();
    for (from, to, did) in [
        (0, 1, store(1)),
        (2, 3, store(2)),
        (0, 50, store(3)),
        (48, 50, Did::Find(Some(3))),
        (80, 90, took(3)),
        (45, 72, took(2)),
        (70, 85, took(1)),
    ] {
        history
            .push(Operation::new(1, "v", from, Some(to), did))
            .unwrap();
    }
    assert_eq!(
        is_linearizable(history.operations(), Mode::Fifo),
        Some(false)
    );
    let (earlier, later) = (1, 2);
    let conflict = history.check().unwrap_err();
    assert_eq!(conflict.rule, Rule::Overtook { earlier, later });
}

#[test]
fn variables_are_checked_each_on_its_own() {
    let mut history = History::default();
    for (n, (variable, did)) in (0..).zip([
        ("a", store(1)),
        ("b", store(2)),
        ("b", took(2)),
        ("b", EMPTY),
        ("a", took(1)),
    ]) {
        let operation = Operation::new(1, variable, n, Some(n), did);
        history.push(operation).unwrap();
    }
    assert_eq!(history.check().unwrap().variables, 2);
    // A template without a variable took it from where it was.
    let mut anywhere = Operation::new(1, "", 9, Some(9), took(3));
    anywhere.variable = None;
    history.push(anywhere.clone()).unwrap();
    assert_eq!(history.check().unwrap_err().rule, Rule::FromNowhere(3));
    history
        .push(Operation::new(1, "c", 8, Some(8), store(3)))
        .unwrap();
    history.check().unwrap();
    // A value of one variable does not come out of another.
    history
        .push(Operation::new(1, "a", 10, Some(10), store(4)))
        .unwrap();
    history
        .push(Operation::new(1, "b", 11, Some(11), took(4)))
        .unwrap();
    assert_eq!(history.check().unwrap_err().rule, Rule::FromNowhere(4));
}

#[test]
fn a_violation_names_the_operations_in_a_few_short_lines() {
    let swapped = [store(1), store(2), took(2), took(1)];
    let conflict = in_turn(Mode::Fifo, &swapped).check().unwrap_err();
    assert_eq!(
        conflict.to_string(),
        "v (fifo): value 2 overtook value 1, stored before it\n  \
         0.000000..0.000009 s  client 0: stored 1\n  \
         0.000010..0.000019 s  client 1: stored 2\n  \
         0.000020..0.000029 s  client 2: took 2\n  \
         0.000030..0.000039 s  client 0: took 1"
    );
    let conflict = in_turn(Mode::Multi, &[store(1), EMPTY])
        .check()
        .unwrap_err();
    assert_eq!(
        conflict.to_string(),
        "v (multi): \"nothing there\", while at every moment of it something was there\n  \
         0.000000..0.000009 s  client 0: stored 1\n  \
         0.000010..0.000019 s  client 1: took nothing: empty"
    );
}

#[test]
fn an_operation_that_contradicts_itself_is_refused() {
    let mut history = History::default();
    let backwards = Operation::new(1, "v", 10, Some(9), EMPTY);
    assert!(matches!(
        history.push(backwards),
        Err(HistoryError::Times { .. })
    ));
    let endless = Operation::new(1, "v", 10, None, EMPTY);
    assert_eq!(history.push(endless), Err(HistoryError::NoResponse));
    let mut nowhere = Operation::new(1, "v", 10, Some(11), store(1));
    nowhere.variable = None;
    assert_eq!(history.push(nowhere), Err(HistoryError::NoVariable));
    let late = Operation::new(1, "v", u64::MAX, None, Did::Take(Taken::Unknown));
    assert!(matches!(
        history.push(late),
        Err(HistoryError::Times { .. })
    ));
    assert!(history.operations().is_empty());
}

#[test]
fn what_is_written_is_json_and_reads_back_the_same() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut history = History::default();
    history.declare("last \"one\"\\\u{1}\u{e9}", Mode::Single);
    history.declare("v", Mode::Lifo);
    for _ in 0..50 {
        let mut shape = Shape::random(Mode::Multi, &mut rng);
        (shape.unknown, shape.cancelled) = (0.3, 0.3);
        for mut operation in super::random::history(shape, &mut rng) {
            if let Did::Find(found) = operation.did
                && rng.random()
            {
                operation.did = Did::LocalFind(found);
            }
            if rng.random_bool(0.2) && !matches!(operation.did, Did::Store { .. }) {
                operation.variable = None;
            }
            history.push(operation).unwrap();
        }
    }
    let mut lines = Vec::new();
    history.write(&mut lines).unwrap();
    for line in std::str::from_utf8(&lines).unwrap().lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value.is_object());
    }
    let mut back = History::default();
    back.read(BufReader::new(&lines[..])).unwrap();
    assert_eq!(back, history);
}

#[test]
fn a_line_that_cannot_be_read_is_named_by_its_number() {
    let good =
        r#"{"client":1,"variable":"v","from_us":0,"to_us":1,"did":"find","outcome":"empty"}"#;
    let read = |second: &str| {
        let text = format!("{good}\n{second}\n");
        History::default()
            .read(text.as_bytes())
            .unwrap_err()
            .to_string()
    };
    for (line, says) in [
        ("nonsense", "line 2: `n` where `{` should be"),
        (&good[..26], "line 2: it ends where"),
        (
            &good.replace("\"client\":1,", ""),
            "line 2: `client` is missing",
        ),
        (&good.replace("find", "peek"), "line 2: `did` is `peek`"),
        (
            &good.replace("empty", "gone"),
            "line 2: `outcome` is `gone`",
        ),
        (
            &good.replace("empty", "value"),
            "line 2: `value` is missing",
        ),
        (
            &good.replace('0', "-1"),
            "line 2: `from_us` is -1, out of range",
        ),
        (
            &good.replace('0', "1.5"),
            "line 2: `1.5` is no string, whole number",
        ),
        (
            &good.replace('0', "9"),
            "line 2: an operation from 9 to 1 us",
        ),
        (
            &good.replace("\"to_us\":1", "\"to\":1"),
            "line 2: `to` means nothing here",
        ),
        (
            &good.replace("to_us", "from_us"),
            "line 2: `from_us` is there twice",
        ),
        (&format!("{good}x"), "line 2: `x` after the end"),
        (
            r#"{"variable":"v","mode":"heap"}"#,
            "line 2: `mode` is `heap`",
        ),
    ] {
        let error = read(line);
        assert!(error.starts_with(says), "{line}: {error}");
    }
    let long = format!("{good}\n{}", "x".repeat(1 << 20));
    let error = History::default().read(long.as_bytes()).unwrap_err();
    assert!(matches!(error, LineError::Long { line: 2 }), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_line_makes_the_reader_panic(line in "[\\{\\}\":,a-z_0-9\\\\. -]{0,80}") {
        let _ = History::default().read(line.as_bytes());
    }
}

#[test]
fn the_account_adds_up_and_fits_a_terminal() {
    let pending = |value, outcome| Did::Store { value, outcome };
    let history = in_turn(
        Mode::Multi,
        &[
            store(1),
            store(2),
            pending(3, Stored::Unknown),
            pending(4, Stored::Unknown),
            store(5),
            took(1),
            took(1),
            took(3),
            took(9),
            Did::Take(Taken::Cancelled),
        ],
    );
    let account = history.account();
    let expected = Account {
        attempted: 5,
        acknowledged: 3,
        taken: 3,
        lost: 2,
        duplicated: 1,
        unexpected: 1,
        recovered: 1,
        unanswered: 1,
    };
    assert_eq!(account, expected);
    assert!(!account.adds_up());
    let settled = Account {
        duplicated: 0,
        unexpected: 0,
        ..account
    };
    assert!(!settled.adds_up(), "two lost, one excuse");
    assert!(settled.left(1).adds_up());
    let text = account.to_string();
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let json = serde_json::to_string(&account).unwrap();
    assert_eq!(serde_json::from_str::<Account>(&json).unwrap(), account);
}

/// Ten thousand operations on one variable, checked while one could still be waiting.
#[test]
fn a_long_history_is_checked_within_seconds() {
    #![expect(clippy::disallowed_methods, reason = "the test measures")]
    for mode in [Mode::Fifo, Mode::Lifo, Mode::Multi, Mode::Single] {
        for (unknown, cancelled) in [(0.0, 0.0), (0.05, 0.05)] {
            let shape = Shape {
                mode,
                operations: 10_000,
                reach: 200,
                finds: 0.3,
                unknown,
                cancelled,
                stores: 0.51,
                flaw: 0.0,
            };
            let mut long = History::default();
            long.declare("v", mode);
            for operation in history(shape, &mut ChaCha8Rng::seed_from_u64(5)) {
                long.push(operation).unwrap();
            }
            let begun = std::time::Instant::now();
            long.check().unwrap();
            let took = begun.elapsed();
            println!("{mode}, {unknown}: {took:?}");
            assert!(took < Duration::from_secs(20), "{mode}: {took:?}");
        }
    }
}

/// The worst case for a stack: every value lies within the one before.
#[test]
fn a_deep_stack_is_checked_within_seconds() {
    #![expect(clippy::disallowed_methods, reason = "the test measures")]
    let depth = 2_000;
    let mut dids: Vec<Did> = (0..depth).map(store).collect();
    dids.extend((0..depth).rev().map(took));
    let deep = in_turn(Mode::Lifo, &dids);
    let begun = std::time::Instant::now();
    deep.check().unwrap();
    let took = begun.elapsed();
    println!("{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}
