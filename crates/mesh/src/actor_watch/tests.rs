use cpe_membership::Incarnation;
use cpe_tuple::Value;

use super::*;

const NOW: Duration = Duration::from_secs(1_000);

fn member(node: u64, inc: u32) -> Member {
    let (node, inc) = (NodeId(node), Incarnation(inc));
    Member { node, inc }
}

fn seen(node: u64, token: u64, leased: bool) -> Seen {
    let born = if leased { 3 } else { token };
    let host = member(node, 1);
    Seen {
        host,
        token,
        born,
        leased,
    }
}

fn record(seen: Seen) -> ActorInfo {
    ActorInfo {
        name: "a".to_owned(),
        spec: Value::Null,
        token: seen.token,
        host: Some(seen.host),
        leased: seen.leased,
        born: seen.born,
        kept: false,
    }
}

fn free(seen: Seen) -> ActorInfo {
    ActorInfo {
        host: None,
        ..record(seen)
    }
}

/// What follows when the first question comes to this.
fn after(
    seen: Seen,
    heard: Heard<&'static str>,
    record: Option<&ActorInfo>,
    alive: &[Member],
) -> (ActorWatch, WatchStep<&'static str>) {
    let (mut watch, first) = ActorWatch::new::<&str>(seen);
    let host = seen.host.node;
    let asks = matches!(first, WatchStep::Ask { n: 1, node, .. } if node == host);
    assert!(asks, "{first:?}");
    let view = WatchView { record, alive };
    let next = watch.heard(NOW, 1, heard, view).unwrap();
    (watch, next)
}

#[test]
fn a_plain_actor_ends_with_its_node_its_name_or_its_claim() {
    let it = seen(1, 3, false);
    let (held, gone) = (record(it), free(it));
    let here = [member(1, 1)];
    let silent = |record, alive: &[Member]| after(it, Heard::Silent, record, alive).1;
    assert_eq!(silent(Some(&held), &here), WatchStep::Wait(PAUSE));
    let lost = |why| WatchStep::Over(WatchEnd::Lost(why));
    assert_eq!(silent(Some(&held), &[]), lost("its node is gone"));
    // It came back without its actors.
    assert_eq!(
        silent(Some(&held), &[member(1, 2)]),
        lost("its node is gone")
    );
    assert_eq!(silent(Some(&gone), &[]), lost("its name is given up"));
    let other = record(seen(1, 4, false));
    assert_eq!(
        silent(Some(&other), &[]),
        lost("its name is another actor's")
    );
}

#[test]
fn a_node_that_is_there_is_asked_for_the_reason_first() {
    let it = seen(1, 3, false);
    let gone = free(it);
    let here = [member(1, 1)];
    let (mut watch, next) = after(it, Heard::Silent, Some(&gone), &here);
    assert!(matches!(next, WatchStep::Ask { n: 2, .. }), "{next:?}");
    let view = WatchView {
        record: Some(&gone),
        alive: &here,
    };
    // Not reached: asked again, but not for ever.
    let again = watch.heard::<&str>(NOW, 2, Heard::Silent, view);
    assert_eq!(again, Some(WatchStep::Wait(PAUSE)));
    let again = watch.woke::<&str>(NOW + PAUSE, view);
    assert!(
        matches!(again, Some(WatchStep::Ask { n: 3, .. })),
        "{again:?}"
    );
    let told = watch.heard(NOW + PAUSE, 3, Heard::Ended("stopped"), view);
    assert_eq!(told, Some(WatchStep::Over(WatchEnd::Told("stopped"))));
}

#[test]
fn a_node_that_stays_silent_is_not_waited_for_without_end() {
    let it = seen(1, 3, true);
    let gone = free(it);
    let view = WatchView {
        record: Some(&gone),
        alive: &[member(1, 1)],
    };
    let (mut watch, mut next) = after(it, Heard::Silent, Some(&gone), view.alive);
    let (mut now, mut turns) = (NOW, 0);
    loop {
        now += PAUSE;
        turns += 1;
        assert!(turns < 10_000, "it asks for ever");
        let step: Option<WatchStep<&'static str>> = match next {
            WatchStep::Ask { n, .. } => watch.heard(now, n, Heard::Silent, view),
            WatchStep::Wait(_) => watch.woke(now, view),
            WatchStep::Over(ref end) => {
                assert_eq!(*end, WatchEnd::Lost("its name is given up"));
                break;
            }
        };
        next = step.unwrap();
    }
    assert!(now > NOW + BELIEVED_AFTER);
}

#[test]
fn a_durable_actor_is_followed_and_ends_with_its_name_only() {
    let it = seen(1, 3, true);
    let alive = [member(2, 1)];
    let silent = |record: &ActorInfo| after(it, Heard::Silent, Some(record), &alive);
    assert_eq!(silent(&record(it)).1, WatchStep::Wait(PAUSE));
    let (watch, next) = silent(&record(seen(2, 4, true)));
    assert!(matches!(
        next,
        WatchStep::Ask {
            node: NodeId(2),
            ..
        }
    ));
    assert_eq!(*watch.seen(), seen(2, 4, true));
    // Seen there before, by a replica that is ahead of this one.
    assert_eq!(silent(&record(seen(1, 2, true))).1, WatchStep::Wait(PAUSE));
    // Whoever may have run it last is asked how it ended.
    let (mut watch, next) = silent(&free(it));
    assert!(matches!(
        next,
        WatchStep::Ask {
            n: 2,
            node: NodeId(2),
            ..
        }
    ));
    let (record, now) = (free(it), NOW);
    let view = WatchView {
        record: Some(&record),
        alive: &alive,
    };
    let over = watch.heard::<&str>(now, 2, Heard::NotHere, view);
    let lost = WatchEnd::Lost("its name is given up");
    assert_eq!(over, Some(WatchStep::Over(lost)));
    assert_eq!(watch.heard(now, 2, Heard::Ended("late"), view), None);
}

#[test]
fn a_name_that_is_used_anew_is_not_followed() {
    let it = seen(1, 3, true);
    let anew = Seen {
        born: 4,
        ..seen(2, 4, true)
    };
    let (mut watch, next) = after(it, Heard::Silent, Some(&record(anew)), &[member(2, 1)]);
    assert!(matches!(
        next,
        WatchStep::Ask {
            n: 2,
            node: NodeId(2),
            ..
        }
    ));
    let record = record(anew);
    let view = WatchView {
        record: Some(&record),
        alive: &[member(2, 1)],
    };
    let over = watch.heard::<&str>(NOW, 2, Heard::NotHere, view);
    let lost = WatchEnd::Lost("its name is another actor's");
    assert_eq!(over, Some(WatchStep::Over(lost)));
}

#[test]
fn a_node_that_does_not_know_a_plain_actor_is_believed_after_a_while() {
    let it = seen(1, 3, false);
    let held = record(it);
    let view = WatchView {
        record: Some(&held),
        alive: &[member(1, 1)],
    };
    let (mut watch, next) = after(it, Heard::NotHere, Some(&held), view.alive);
    assert_eq!(next, WatchStep::Wait(PAUSE));
    let later = NOW + BELIEVED_AFTER + PAUSE;
    let asks = watch.woke::<&str>(later, view);
    assert!(matches!(asks, Some(WatchStep::Ask { n: 2, .. })));
    let over = watch.heard::<&str>(later, 2, Heard::NotHere, view);
    let lost = WatchEnd::Lost("its node does not know it any more");
    assert_eq!(over, Some(WatchStep::Over(lost)));
}

#[test]
fn an_answer_to_an_earlier_question_says_nothing() {
    let it = seen(1, 3, true);
    let view = WatchView {
        record: None,
        alive: &[],
    };
    let (mut watch, _) = ActorWatch::new::<&str>(it);
    let asks = watch.heard::<&str>(NOW, 1, Heard::Lives, view);
    assert!(matches!(asks, Some(WatchStep::Ask { n: 2, .. })));
    assert_eq!(watch.heard(NOW, 1, Heard::Ended("stopped"), view), None);
    assert_eq!(
        watch.woke::<&str>(NOW, view),
        None,
        "it waits for an answer"
    );
}
