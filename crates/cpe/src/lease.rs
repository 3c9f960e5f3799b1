//! Takes under a lease: for work that must be done even if whoever took it dies (guarantee G7).

use std::time::Duration;

use cpe_mesh::{Command, LeaseHandle, OpHandle, Reply};
use cpe_space::{Fate, LeaseAct};
use cpe_tuple::{Template, Tuple, Value};

use crate::large::by_reference;
use crate::space::{done, value_of};
use crate::{Receipt, Space, SpaceError};

/// A tuple taken under a lease: nobody else gets it while the lease lives.
///
/// Do the work, then [`commit`](Self::commit). A holder that dies, or does not
/// [`renew`](Self::renew) in time, loses the lease: the tuple goes back to its old place and
/// somebody else may take it. So the work is done *at least* once. Whatever must not be done twice
/// is guarded by the [`token`](Self::token): let what the work acts on refuse a token lower than
/// the highest it has seen, and a holder that was late can do no harm.
///
/// Dropping it does nothing: the lease ends when its time is up. To be rid of it sooner,
/// [`give_back`](Self::give_back).
///
/// # Example
/// ```
/// # use cpe::prelude::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder().ephemeral().start().await?;
/// let (space, second) = (node.space(), Duration::from_secs(1));
/// space.store("shop", "order", Value::from("tea")).await?;
/// let order = space.fetch_leased("shop", "order", 30 * second, second).await?;
/// assert_eq!(order.tuple()[1], Value::from("tea"));
/// assert_eq!(space.fetch_try("shop", "order", second).await?, None);
/// order.commit(second).await?;
/// # node.shutdown(10 * second).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a lease that is not committed gives its tuple back"]
pub struct Leased {
    tuple: Tuple,
    handle: LeaseHandle,
    ttl: Duration,
    space: Space,
}

impl Leased {
    /// The tuple.
    #[must_use]
    pub fn tuple(&self) -> &Tuple {
        &self.tuple
    }

    /// The value of a tuple `[name, value]`.
    ///
    /// # Errors
    /// [`SpaceError::NotAVariable`].
    pub fn value(&self) -> Result<Value, SpaceError> {
        value_of(self.tuple.clone())
    }

    /// Names the lease: as text it can be written down, and the lease renewed, committed or
    /// returned from any node, see [`Space::commit`].
    #[must_use]
    pub fn handle(&self) -> LeaseHandle {
        self.handle
    }

    /// The fencing token: a later lease of the same tuple has a higher one.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.handle.token()
    }

    /// How long the lease lives, counted at its home from when the take was decided and anew from
    /// each renewal: a little less is left by the time this is read.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Lets the time to live begin anew.
    ///
    /// # Errors
    /// As for [`Space::commit`].
    pub async fn renew(&self, deadline: Duration) -> Result<(), SpaceError> {
        self.space.renew(self.handle, deadline).await
    }

    /// Removes the tuple for good: its work is done.
    ///
    /// # Errors
    /// As for [`Space::commit`].
    pub async fn commit(&self, deadline: Duration) -> Result<(), SpaceError> {
        self.space.commit(self.handle, deadline).await
    }

    /// Puts the tuple back to its old place.
    ///
    /// # Errors
    /// As for [`Space::commit`].
    pub async fn give_back(&self, deadline: Duration) -> Result<(), SpaceError> {
        self.space.give_back(self.handle, deadline).await
    }
}

impl Space {
    /// Waits up to `deadline` for a value of a variable and takes it under a lease of `ttl`.
    ///
    /// # Errors
    /// As for [`take_leased`](Self::take_leased).
    pub async fn fetch_leased(
        &self,
        ws: &str,
        name: &str,
        ttl: Duration,
        deadline: Duration,
    ) -> Result<Leased, SpaceError> {
        let template = Template::named(name)?;
        self.take_leased(ws, template, ttl, deadline).await
    }

    /// Takes a value of a variable under a lease of `ttl` if there is one.
    ///
    /// # Errors
    /// As for [`take_leased`](Self::take_leased).
    pub async fn fetch_try_leased(
        &self,
        ws: &str,
        name: &str,
        ttl: Duration,
        deadline: Duration,
    ) -> Result<Option<Leased>, SpaceError> {
        let template = Template::named(name)?;
        self.try_take_leased(ws, template, ttl, deadline).await
    }

    /// Waits up to `deadline` for a matching tuple and takes it under a lease of `ttl`.
    ///
    /// # Errors
    /// As for [`take`](Self::take); `Refused` when `ttl` is not between
    /// [`LEASE_TTL_MIN`](crate::LEASE_TTL_MIN) and [`LEASE_TTL_MAX`](crate::LEASE_TTL_MAX); `Busy`
    /// when the home has given all the leases it may.
    pub async fn take_leased(
        &self,
        ws: &str,
        template: Template,
        ttl: Duration,
        deadline: Duration,
    ) -> Result<Leased, SpaceError> {
        let taken = self.leased(ws, template, true, ttl, deadline).await?;
        let (leased, receipt) = taken.ok_or(SpaceError::Unexpected)?;
        receipt.confirm();
        Ok(leased)
    }

    /// Takes a matching tuple under a lease of `ttl` if there is one. `None` means that its home
    /// has said so, within `deadline`.
    ///
    /// # Errors
    /// As for [`take_leased`](Self::take_leased).
    pub async fn try_take_leased(
        &self,
        ws: &str,
        template: Template,
        ttl: Duration,
        deadline: Duration,
    ) -> Result<Option<Leased>, SpaceError> {
        let taken = self.leased(ws, template, false, ttl, deadline).await?;
        Ok(taken.map(|(leased, receipt)| {
            receipt.confirm();
            leased
        }))
    }

    /// As [`take_leased`](Self::take_leased), or [`try_take_leased`](Self::try_take_leased) with
    /// `wait` false; but the lease ends at once unless the receipt that comes with it is confirmed.
    ///
    /// # Errors
    /// As for [`take_leased`](Self::take_leased).
    pub async fn take_leased_with_receipt(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        ttl: Duration,
        deadline: Duration,
    ) -> Result<Option<(Leased, Receipt)>, SpaceError> {
        self.leased(ws, template, wait, ttl, deadline).await
    }

    async fn leased(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        ttl: Duration,
        deadline: Duration,
    ) -> Result<Option<(Leased, Receipt)>, SpaceError> {
        let command = Command::TakeLeased {
            workspace: ws.to_owned(),
            template: by_reference(template)?,
            wait,
            ttl,
            deadline,
        };
        match self.desk.ask_held(command).await? {
            (Reply::Leased { tuple, lease, ttl }, Some(receipt)) => {
                let tuple = self.taken_whole(ws, tuple).await?;
                let leased = Leased {
                    tuple,
                    handle: lease,
                    ttl,
                    space: self.clone(),
                };
                Ok(Some((leased, Receipt(receipt))))
            }
            (Reply::Tuple(None), _) => Ok(None),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Lets the time to live of a lease begin anew, whoever took it.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit).
    pub async fn renew(&self, lease: LeaseHandle, deadline: Duration) -> Result<(), SpaceError> {
        self.act(lease, LeaseAct::Renew, deadline).await
    }

    /// Removes the tuple of a lease for good, whoever took it. Committing again what is committed
    /// is no error, as long as the home remembers it (the last
    /// [`MAX_ENDED_LEASES`](cpe_space::MAX_ENDED_LEASES) of its shard).
    ///
    /// # Errors
    /// [`LeaseLost`](cpe_mesh::Failure::LeaseLost) when the lease had ended, with how: the work may
    /// have been given to another. `Unavailable` when it was certainly not done; `Unknown` when it
    /// may have been: ask again, which does no harm.
    pub async fn commit(&self, lease: LeaseHandle, deadline: Duration) -> Result<(), SpaceError> {
        self.act(lease, LeaseAct::Commit, deadline).await
    }

    /// Puts the tuple of a lease back to its old place, whoever took it.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit).
    pub async fn give_back(
        &self,
        lease: LeaseHandle,
        deadline: Duration,
    ) -> Result<(), SpaceError> {
        self.act(lease, LeaseAct::Return, deadline).await
    }

    async fn act(
        &self,
        lease: LeaseHandle,
        act: LeaseAct,
        deadline: Duration,
    ) -> Result<(), SpaceError> {
        let command = Command::ActOnLease {
            lease,
            act,
            deadline,
        };
        done(self.desk.ask(command).await?)
    }

    /// What became of an operation that was answered
    /// [`Failure::Unknown`](cpe_mesh::Failure::Unknown).
    ///
    /// Asked of the node that began it, the answer is final: an operation that was not decided
    /// then never will be. Asked of another node it may be [`Fate::Open`]. The home remembers the
    /// last few hundred unknown operations of each node and shard until that node restarts.
    ///
    /// # Errors
    /// `Unavailable` or `Unknown` as for [`take`](Self::take): then nothing is known yet.
    pub async fn status(&self, op: OpHandle, deadline: Duration) -> Result<Fate, SpaceError> {
        match self.desk.ask(Command::Inquire { op, deadline }).await? {
            Reply::Fate(fate) => Ok(fate),
            _ => Err(SpaceError::Unexpected),
        }
    }
}
