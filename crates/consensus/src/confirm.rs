//! Reading without writing: a leader asks whether it still leads (rule R19).

use std::collections::{BTreeSet, VecDeque};

use crate::group::Role;
use crate::{Ballot, Entry, Group, Message, Output};

/// Tickets that wait at a time. Further ones are refused, as when the member does not lead.
pub const MAX_TICKETS: usize = 65_536;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ticket {
    number: u64,
    /// What was decided, or may have been, when it was drawn.
    index: u64,
    /// The first question asked after that.
    round: u64,
}

/// The tickets of one leader. One question is under way at a time and answers all tickets drawn
/// before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Confirms<N> {
    tickets: VecDeque<Ticket>,
    drawn: u64,
    /// The number of the last question.
    round: u64,
    /// Who answered it; `None` when a majority has.
    heard: Option<BTreeSet<N>>,
    /// The last question that a majority answered.
    answered: u64,
}

impl<N> Default for Confirms<N> {
    fn default() -> Self {
        Self {
            tickets: VecDeque::new(),
            drawn: 0,
            round: 0,
            heard: None,
            answered: 0,
        }
    }
}

impl<N: Copy + Ord, E: Entry> Group<N, E> {
    /// Asks for a read index: a ticket that a later [`Output::Confirmed`] names, once a majority
    /// has said, after this call, that it promised nobody else. `None` when this member does not
    /// lead ([`Output::Lead`]), or [`MAX_TICKETS`] wait. The question leaves with the next
    /// [`flush`](Self::flush).
    ///
    /// A ticket is void when the member stops leading ([`Output::Follow`]); numbers begin anew
    /// then.
    pub fn confirm(&mut self, _out: &mut Vec<Output<N, E>>) -> Option<u64> {
        let decided = self.decided;
        let Role::Leader(leader) = &mut self.role else {
            return None;
        };
        let confirms = &mut leader.confirms;
        if !self.announced || confirms.tickets.len() >= MAX_TICKETS {
            return None;
        }
        confirms.drawn += 1;
        confirms.tickets.push_back(Ticket {
            number: confirms.drawn,
            index: decided.max(leader.adopted),
            round: confirms.round + 1,
        });
        Some(confirms.drawn)
    }

    /// Asks the others, if somebody waits and no question is under way.
    pub(crate) fn ask(&mut self, out: &mut Vec<Output<N, E>>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let confirms = &mut leader.confirms;
        let waits = confirms.tickets.back().map(|ticket| ticket.round);
        if confirms.heard.is_none() && waits > Some(confirms.round) {
            confirms.round += 1;
            confirms.heard = Some(BTreeSet::new());
            self.ask_again(out);
            self.confirmed(out);
        }
    }

    /// Asks those who have not answered.
    pub(crate) fn ask_again(&self, out: &mut Vec<Output<N, E>>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let Some(heard) = &leader.confirms.heard else {
            return;
        };
        let (ballot, round) = (leader.ballot, leader.confirms.round);
        for to in self.others() {
            if !heard.contains(&to) {
                self.send(to, Message::Confirm { ballot, round }, out);
            }
        }
    }

    pub(crate) fn on_confirmed(
        &mut self,
        from: N,
        ballot: Ballot<N>,
        round: u64,
        out: &mut Vec<Output<N, E>>,
    ) {
        if let Role::Leader(leader) = &mut self.role
            && leader.ballot == ballot
            && leader.confirms.round == round
            && let Some(heard) = &mut leader.confirms.heard
        {
            heard.insert(from);
            self.confirmed(out);
        }
    }

    /// Answers the tickets whose question a majority answered and whose index is decided.
    pub(crate) fn confirmed(&mut self, out: &mut Vec<Output<N, E>>) {
        let majority = self.majority();
        let decided = self.decided;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let confirms = &mut leader.confirms;
        let votes = confirms.heard.as_ref().map(|heard| heard.len() + 1);
        if votes >= Some(majority) {
            confirms.heard = None;
            confirms.answered = confirms.round;
        }
        while let Some(ticket) = confirms.tickets.front() {
            if ticket.round > confirms.answered || ticket.index > decided {
                break;
            }
            out.push(Output::Confirmed {
                ticket: ticket.number,
                index: ticket.index,
            });
            confirms.tickets.pop_front();
        }
    }
}
