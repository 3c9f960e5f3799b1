use cpe_membership::Incarnation;
use cpe_space::Session;

use super::*;

fn member(node: u64) -> Member {
    Member {
        node: NodeId(node),
        inc: Incarnation(1),
    }
}

fn message(seq: u64) -> Marked {
    let (member, boot) = (member(7), 1);
    Marked {
        sender: Sender::Start(Session { member, boot }),
        seq,
        low: 1,
    }
}

/// The mailbox of an actor that this node handed on, at the next host.
fn after(node: u64) -> Mailbox<()> {
    #[cfg(feature = "mutants")]
    crate::without(
        std::env::var("CPE_WITHOUT")
            .ok()
            .and_then(|name| crate::Mutant::named(&name)),
    );
    Mailbox::new(4, None, Some(member(node)))
}

fn all_given(mailbox: &mut Mailbox<()>) -> Vec<u64> {
    std::iter::from_fn(|| mailbox.give()).collect()
}

#[test]
fn what_comes_directly_waits_for_what_the_former_host_has() {
    let mut mailbox = after(1);
    assert_eq!(mailbox.deliver(message(2), false, || ()), Delivered::New(1));
    assert_eq!(mailbox.give(), None);
    let first = mailbox.take_in(NodeId(1), message(1), || ());
    assert_eq!((first, mailbox.give()), (TakenIn::New(2), Some(2)));
    assert!(mailbox.open());
    assert_eq!(all_given(&mut mailbox), [1]);
}

#[test]
fn what_two_former_hosts_have_is_handled_in_the_place_of_the_one_that_is_waited_for() {
    let mut mailbox = after(2);
    // The host before the former one was not waited for there, and comes back.
    let early = mailbox.take_in(NodeId(1), message(3), || ());
    assert_eq!((early, mailbox.give()), (TakenIn::New(1), None));
    let second = mailbox.take_in(NodeId(2), message(2), || ());
    let third = mailbox.take_in(NodeId(2), message(3), || ());
    assert_eq!((second, third), (TakenIn::New(2), TakenIn::Here(1)));
    // Neither waits for the other.
    assert_eq!(all_given(&mut mailbox), [2, 1]);
}

#[test]
fn what_a_former_host_has_too_late_is_not_handled_after_later_ones_that_wait() {
    let mut mailbox = after(1);
    assert_eq!(mailbox.deliver(message(5), false, || ()), Delivered::New(1));
    // It was not waited for any longer.
    assert!(mailbox.open());
    let late = mailbox.take_in(NodeId(1), message(4), || ());
    assert_eq!(late, TakenIn::Passed);
    let later = mailbox.take_in(NodeId(1), message(6), || ());
    assert_eq!(later, TakenIn::New(2));
    assert_eq!(all_given(&mut mailbox), [1, 2]);
}

#[test]
fn what_a_former_host_sent_on_and_died_without_comes_first_also_over_the_next_move() {
    let mut mailbox: Mailbox<u64> = Mailbox::new(4, None, Some(member(1)));
    let direct = mailbox.deliver(message(6), false, || 6);
    let sent_on = mailbox.take_in(NodeId(1), message(5), || 5);
    assert_eq!((direct, sent_on), (Delivered::New(1), TakenIn::New(2)));
    // The actor has it, and is not through with it when its former host is gone.
    assert_eq!(mailbox.give(), Some(2));
    assert!(mailbox.open());
    assert_eq!(mailbox.begin_move(), Moves::Begun);
    assert!(mailbox.comes_back(2) && mailbox.stay());
    assert_eq!(mailbox.give(), Some(2));
    assert_eq!(mailbox.begin_move(), Moves::Begun);
    assert!(mailbox.comes_back(2));
    assert_eq!(mailbox.leave().collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn only_the_host_that_is_waited_for_says_that_it_has_sent_all() {
    let mut mailbox = after(2);
    assert!(!mailbox.all_sent(NodeId(1)) && mailbox.is_holding());
    assert!(mailbox.all_sent(NodeId(2)) && !mailbox.is_holding());
}

#[test]
fn what_came_while_the_actor_moved_and_what_it_had_goes_on_with_it_in_order() {
    let mut mailbox: Mailbox<u64> = Mailbox::new(4, None, None);
    for seq in 1..=2 {
        let delivered = mailbox.deliver(message(seq), false, || seq);
        assert_eq!(delivered, Delivered::New(seq));
    }
    assert_eq!((mailbox.give(), mailbox.give()), (Some(1), Some(2)));
    assert_eq!(mailbox.begin_move(), Moves::Begun);
    assert_eq!(mailbox.begin_move(), Moves::Already);
    mailbox.lasts(&[message(1)]);
    assert_eq!(mailbox.done(1), Some(1));
    assert!(!mailbox.is_settled() && mailbox.comes_back(2) && mailbox.is_settled());
    let during = mailbox.deliver(message(3), false, || 3);
    assert_eq!((during, mailbox.give()), (Delivered::New(3), None));
    assert_eq!(mailbox.leave().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(mailbox.deliver(message(4), false, || 4), Delivered::Gone);
}
