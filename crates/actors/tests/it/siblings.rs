//! Siblings that begin anew together.

use cpe_actors::{
    ActorState, Address, AskError, Backoff, ExitReason, Options, Strategy, Supervision, System,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::{Do, Log, MS, SECOND, lines, log, settle, spawn};

/// A parent with the children `a`, `b` and `c`, all started, and an empty log.
async fn family(system: &System, log: &Log, options: Options) -> Address<Do, i64> {
    let parent = spawn(system, log, options.name("parent"));
    let kids = ["a", "b", "c"].map(|name| (name, Supervision::default()));
    parent.ask(Do::Kids(kids.to_vec())).await.unwrap();
    settle().await;
    log.lock().unwrap().clear();
    parent
}

fn kid(system: &System, name: &str) -> Address<Do, i64> {
    system.find(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_for_one_restarts_only_the_child_that_failed() {
    let (system, log) = (System::default(), log());
    family(&system, &log, Options::default()).await;
    kid(&system, "b").tell(Do::Fail).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(lines(&log), ["started b"]);
}

#[tokio::test(start_paused = true)]
async fn one_for_all_halts_the_youngest_first_and_starts_the_eldest_first() {
    let (system, log) = (System::default(), log());
    let options = Options::default().strategy(Strategy::OneForAll);
    family(&system, &log, options).await;
    let (a, b) = (kid(&system, "a"), kid(&system, "b"));
    a.tell(Do::Add(5)).await.unwrap();
    b.tell(Do::Fail).await.unwrap();
    // Addresses and mailboxes stay; the state is new.
    assert_eq!(a.ask(Do::Add(1)).await.unwrap(), 6);
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        lines(&log),
        [
            "stopping c: its sibling b failed",
            "stopping a: its sibling b failed",
            "started a",
            "started b",
            "started c",
        ]
    );
    assert_eq!(a.ask(Do::Add(1)).await.unwrap(), 1);
    let counts: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let info = kid(&system, name).info();
            (info.restarts, info.failed)
        })
        .to_vec();
    assert_eq!(counts, [(1, 0), (1, 1), (1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_restarts_those_that_were_started_later() {
    let (system, log) = (System::default(), log());
    let options = Options::default().strategy(Strategy::RestForOne);
    family(&system, &log, options).await;
    kid(&system, "b").tell(Do::Fail).await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        lines(&log),
        ["stopping c: its sibling b failed", "started b", "started c"]
    );
}

#[tokio::test(start_paused = true)]
async fn siblings_that_fail_at_once_share_a_round() {
    let (system, log) = (System::default(), log());
    let options = Options::default().strategy(Strategy::OneForAll);
    family(&system, &log, options).await;
    for name in ["a", "b", "c"] {
        kid(&system, name).tell(Do::Fail).await.unwrap();
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(lines(&log), ["started a", "started b", "started c"]);
    assert_eq!(kid(&system, "c").ask(Do::Add(2)).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_waits_for_ever_is_cancelled_and_begins_anew() {
    let (system, log) = (System::default(), log());
    let options = Options::default().strategy(Strategy::OneForAll);
    family(&system, &log, options).await;
    let (a, b) = (kid(&system, "a"), kid(&system, "b"));
    let waiting = tokio::spawn(async move { a.ask_within(60 * SECOND, Do::Wait).await });
    settle().await;
    let start = Instant::now();
    b.tell(Do::Fail).await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a failed: cancelled to begin anew with a sibling that failed"
    );
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(kid(&system, "a").ask(Do::Add(1)).await.unwrap(), 1);
    // Its state may be broken, so it had no last word.
    assert!(
        !lines(&log)
            .iter()
            .any(|line| line.starts_with("stopping a"))
    );
}

#[tokio::test(start_paused = true)]
async fn more_rounds_than_the_parents_limit_fail_the_parent() {
    let (system, log) = (System::default(), log());
    let policy = Supervision::stop()
        .limit(2, 60 * SECOND)
        .backoff(Backoff::NONE);
    let options = Options::default()
        .strategy(Strategy::OneForAll)
        .supervision(policy);
    let parent = family(&system, &log, options).await;
    for _ in 0..3 {
        kid(&system, "b").tell(Do::Fail).await.unwrap();
        tokio::time::sleep(100 * MS).await;
    }
    let ExitReason::Failed(reason) = parent.ended().await.reason else {
        panic!("not failed")
    };
    assert_eq!(
        reason,
        "child b failed: told to fail (gave up: the children began anew more than 2 times within \
         60s)"
    );
    assert!(system.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stopping_the_parent_ends_a_round_at_once() {
    let (system, log) = (System::default(), log());
    let slow = Backoff {
        first: 3_600 * SECOND,
        max: 3_600 * SECOND,
        jitter: 0.0,
    };
    let options = Options::default()
        .strategy(Strategy::OneForAll)
        .supervision(Supervision::default().backoff(slow));
    let parent = family(&system, &log, options).await;
    kid(&system, "b").tell(Do::Fail).await.unwrap();
    settle().await;
    let start = Instant::now();
    parent.stop();
    assert_eq!(parent.ended().await.reason, ExitReason::Stopped);
    assert!(start.elapsed() < SECOND);
    assert!(system.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_limit_can_escalate_to_the_parent() {
    let (system, log) = (System::default(), log());
    let parent = spawn(&system, &log, Options::default().name("parent"));
    let policy = Supervision::restart()
        .limit(1, 60 * SECOND)
        .escalate_at_limit();
    parent.ask(Do::Kids(vec![("kid", policy)])).await.unwrap();
    let kid = kid(&system, "kid");
    kid.tell(Do::Fail).await.unwrap();
    kid.tell(Do::Fail).await.unwrap();
    kid.ended().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(parent.info().restarts, 1);
    let error = parent.info().last_error.unwrap();
    assert!(error.contains("gave up: more than 1 failures"), "{error}");
}

/// Whatever fails when, everybody who lives answers again, and a stop ends them all.
#[tokio::test(start_paused = true)]
async fn no_order_of_failures_leaves_a_family_hanging() {
    for seed in 0..300 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (system, log) = (System::default(), log());
        let strategy = [Strategy::OneForAll, Strategy::RestForOne][random.random_range(0..2)];
        let many = Supervision::default().limit(1_000, SECOND);
        let options = Options::default().strategy(strategy).supervision(many);
        let parent = spawn(&system, &log, options.name("parent"));
        let names = ["a", "b", "c", "d"];
        let kids = names.map(|name| (name, many));
        parent.ask(Do::Kids(kids.to_vec())).await.unwrap();
        let kids = names.map(|name| kid(&system, name));
        for _ in 0..random.random_range(1..30) {
            let kid = &kids[random.random_range(0..kids.len())];
            let pause = MS * random.random_range(0..20);
            // A full mailbox or a dead actor is no failure of this test.
            let _ = match random.random_range(0..20) {
                0..8 => kid.try_tell(Do::Fail),
                8..12 => kid.try_tell(Do::Panic),
                12..15 => kid.try_tell(Do::Sleep(10 * pause)),
                15..17 => kid.try_tell(Do::Wait),
                17 => {
                    kid.kill();
                    Ok(())
                }
                18 => {
                    kid.stop();
                    Ok(())
                }
                _ => parent.try_tell(Do::Sleep(pause)),
            };
            tokio::time::sleep(pause).await;
        }
        let mut alive = 0;
        for kid in &kids {
            // Those that wait for the gate are cancelled when a sibling fails, or never end.
            match kid.ask_within(3_600 * SECOND, Do::Add(0)).await {
                Ok(_) => alive += 1,
                Err(AskError::TimedOut { .. }) => {
                    assert_eq!(kid.info().state, ActorState::Running, "seed {seed}");
                }
                Err(AskError::Dead { .. }) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        let living = system.list().len() - 1;
        assert!(alive <= living, "seed {seed}");
        parent.stop();
        parent.ended().await;
        assert!(system.is_empty(), "seed {seed}");
    }
}
