//! Leases and inquiries (guarantee G7): the leader's clock that ends leases, and what holders ask.

use std::time::Duration;

use cpe_space::{
    Applied, Command, LEASE_TTL_MAX, LEASE_TTL_MIN, LeaseAct, LeaseId, Outcome, ShardId,
};

use crate::handle::{LeaseHandle, OpHandle};
use crate::peer::{Peer, Slot, Timer};
use crate::wire::Operation;
use crate::{Reply, RequestId};

/// The time to live of a lease in milliseconds.
pub(crate) fn ttl_ms(ttl: Duration) -> Result<u64, String> {
    if !(LEASE_TTL_MIN..=LEASE_TTL_MAX).contains(&ttl) {
        return Err(format!(
            "a lease lives {LEASE_TTL_MIN:?} to {LEASE_TTL_MAX:?}, not {ttl:?}"
        ));
    }
    u64::try_from(ttl.as_millis()).map_err(|error| error.to_string())
}

impl Peer {
    /// Times every lease of a shard that this node begins to lead, each for its whole time to live:
    /// what its former leader had counted is not known.
    pub(crate) fn time_leases(&mut self, shard: ShardId) {
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let tokens: Vec<u64> = slot.shard.sm().leases().map(|(token, _)| token).collect();
        for token in tokens {
            self.time_lease(shard, token);
        }
    }

    /// What an entry just applied means for the times of leases.
    pub(crate) fn lease_applied(&mut self, shard: ShardId, command: &Command, applied: &Applied) {
        match (command, applied) {
            (Command::TakeLeased { .. }, Applied::Done(_, Outcome::Leased { token, .. })) => {
                self.time_lease(shard, *token);
            }
            (Command::ActOnLease { lease, .. } | Command::Expire { lease, .. }, _) => {
                self.time_lease(shard, lease.token);
            }
            _ => {}
        }
    }

    fn time_lease(&mut self, shard: ShardId, token: u64) {
        let now = self.now;
        let Some(slot) = self.slot_ref(shard) else {
            return;
        };
        let timer = Timer::Lease(shard, token);
        match slot.shard.sm().lease(token) {
            Some(lease) if slot.home.is_some() => {
                let at = now + lease.ttl();
                self.timers.set(timer, at);
            }
            _ => self.timers.clear(&timer),
        }
    }

    /// A lease's time is up: its end is proposed, and void if it was renewed in the meantime.
    pub(crate) fn lease_over(&mut self, shard: ShardId, token: u64) {
        let Some(Slot {
            shard: replica,
            home: Some(_),
            ..
        }) = self.slot_ref(shard)
        else {
            return;
        };
        let Some(lease) = replica.sm().lease(token) else {
            return;
        };
        let op = lease.op();
        let expire = Command::Expire {
            lease: LeaseId { op, token },
            renewals: lease.renewals(),
        };
        // No room, or a sealed epoch: whoever leads then sees to it.
        let again = self.now + self.config.retry_max;
        if self.with_home(shard, |_, _, log| log.propose(expire)) == Some(false) {
            self.timers.set(Timer::Lease(shard, token), again);
        }
    }

    /// A holder acts on its lease.
    pub(crate) fn act_on_lease(
        &mut self,
        request: RequestId,
        LeaseHandle { shard, lease }: LeaseHandle,
        act: LeaseAct,
        within: Duration,
    ) -> Result<(), String> {
        self.is_shard(shard)?;
        self.operate(request, shard, Operation::ActOnLease { lease, act }, within);
        Ok(())
    }

    /// Somebody asks what became of an operation.
    pub(crate) fn inquire(
        &mut self,
        request: RequestId,
        OpHandle { shard, op: about }: OpHandle,
        within: Duration,
    ) -> Result<(), String> {
        self.is_shard(shard)?;
        let own = about.session.member.node == self.me.node;
        let begun = self
            .slot_ref(shard)
            .map_or(0, |slot| slot.client.last_seq());
        let later = about.session == self.session && about.seq > begun;
        // Forbidding it would cost some later operation its number.
        if own && (about.session > self.session || later) {
            return Err("this node has not begun that operation".to_owned());
        }
        if about.session == self.session {
            if self.is_awaited(shard, about.seq) {
                self.finish(request, Reply::Fate(cpe_space::Fate::Open));
                return Ok(());
            }
            // A cancellation under way goes first: the home then knows how it ended.
            self.send_op(shard, about.seq);
        }
        self.operate(request, shard, Operation::Inquire { about }, within);
        Ok(())
    }

    /// Refuses a shard that the mesh has not.
    pub(crate) fn is_shard(&self, shard: ShardId) -> Result<(), String> {
        let shards = self.slots.len();
        if usize::from(shard.0) < shards {
            return Ok(());
        }
        Err(format!("the mesh has {shards} shards and no shard {shard}"))
    }
}
