//! The shared space as masters and workers of `cpe_sleigh` need it.

use std::time::Duration;

use cpe_mesh::{Failure, LeaseHandle};
use cpe_sleigh::TaskSpace;
use cpe_tuple::{Template, Tuple, Value};

use crate::{Space, SpaceError};

/// How long a home may take to say that nothing is there, or that something is deleted.
const HOME_DEADLINE: Duration = Duration::from_secs(10);

impl TaskSpace for Space {
    type Error = SpaceError;
    type Lease = LeaseHandle;

    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), SpaceError> {
        // Pending is as good: it is durable here and admitted exactly once.
        Self::out(self, workspace, tuple).await.map(drop)
    }

    async fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, SpaceError> {
        match Self::take(self, workspace, template, within).await {
            Ok(tuple) => Ok(Some(tuple)),
            Err(SpaceError::Failed(Failure::TimedOut(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn take_leased(
        &self,
        workspace: &str,
        template: Template,
        ttl: Duration,
        within: Duration,
    ) -> Result<Option<(Tuple, LeaseHandle)>, SpaceError> {
        match Self::take_leased(self, workspace, template, ttl, within).await {
            Ok(leased) => Ok(Some((leased.tuple().clone(), leased.handle()))),
            Err(SpaceError::Failed(Failure::TimedOut(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn renew(&self, lease: &LeaseHandle) -> Result<bool, SpaceError> {
        held(Self::renew(self, *lease, HOME_DEADLINE).await)
    }

    async fn commit(&self, lease: &LeaseHandle) -> Result<bool, SpaceError> {
        held(Self::commit(self, *lease, HOME_DEADLINE).await)
    }

    async fn try_take(
        &self,
        workspace: &str,
        template: Template,
    ) -> Result<Option<Tuple>, SpaceError> {
        Self::try_take(self, workspace, template, HOME_DEADLINE).await
    }

    async fn delete(&self, workspace: &str, variable: &str) -> Result<(), SpaceError> {
        let variable = Some(Value::from(variable));
        Self::delete(self, workspace, variable, HOME_DEADLINE).await
    }
}

/// Whether a lease was still held.
fn held(done: Result<(), SpaceError>) -> Result<bool, SpaceError> {
    match done {
        Ok(()) => Ok(true),
        Err(SpaceError::Failed(Failure::LeaseLost { .. })) => Ok(false),
        Err(error) => Err(error),
    }
}
