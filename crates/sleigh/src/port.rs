//! What is asked of a tuple space.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use cpe_tuple::{Template, Tuple};

/// A tuple space, as far as masters and workers need one.
///
/// Every future may be dropped before it is ready: a tuple that was taken and not returned must go
/// back into the space.
pub trait TaskSpace: Send + Sync {
    /// Why the space could not be asked.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Names a lease; as text it can be passed on, and whoever has it may act on the lease.
    type Lease: Display + FromStr + Send + Sync;

    /// Adds a tuple. It may come to be there twice when this fails and is tried again.
    fn out(
        &self,
        workspace: &str,
        tuple: Tuple,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Waits for a tuple and takes it, so that nobody else gets it; `None` when none matched in
    /// time.
    fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> impl Future<Output = Result<Option<Tuple>, Self::Error>> + Send;

    /// As [`take`](Self::take), under a lease: the tuple goes back unless the lease is renewed
    /// within `ttl`, again and again, or [committed](Self::commit).
    fn take_leased(
        &self,
        workspace: &str,
        template: Template,
        ttl: Duration,
        within: Duration,
    ) -> impl Future<Output = Result<Option<(Tuple, Self::Lease)>, Self::Error>> + Send;

    /// Lets a lease's time begin anew; false when it has ended.
    fn renew(&self, lease: &Self::Lease) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Removes the tuple of a lease for good; false when the lease has ended.
    fn commit(&self, lease: &Self::Lease)
    -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Takes a tuple if one is there now; `None` only when that is certain.
    fn try_take(
        &self,
        workspace: &str,
        template: Template,
    ) -> impl Future<Output = Result<Option<Tuple>, Self::Error>> + Send;

    /// Deletes all tuples whose first field is this text.
    fn delete(
        &self,
        workspace: &str,
        variable: &str,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl<S: TaskSpace> TaskSpace for &S {
    type Error = S::Error;
    type Lease = S::Lease;

    fn out(
        &self,
        workspace: &str,
        tuple: Tuple,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        S::out(self, workspace, tuple)
    }

    fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> impl Future<Output = Result<Option<Tuple>, Self::Error>> + Send {
        S::take(self, workspace, template, within)
    }

    fn take_leased(
        &self,
        workspace: &str,
        template: Template,
        ttl: Duration,
        within: Duration,
    ) -> impl Future<Output = Result<Option<(Tuple, Self::Lease)>, Self::Error>> + Send {
        S::take_leased(self, workspace, template, ttl, within)
    }

    fn renew(&self, lease: &Self::Lease) -> impl Future<Output = Result<bool, Self::Error>> + Send {
        S::renew(self, lease)
    }

    fn commit(
        &self,
        lease: &Self::Lease,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send {
        S::commit(self, lease)
    }

    fn try_take(
        &self,
        workspace: &str,
        template: Template,
    ) -> impl Future<Output = Result<Option<Tuple>, Self::Error>> + Send {
        S::try_take(self, workspace, template)
    }

    fn delete(
        &self,
        workspace: &str,
        variable: &str,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        S::delete(self, workspace, variable)
    }
}
