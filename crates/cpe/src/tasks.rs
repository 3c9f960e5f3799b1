//! The shared space as masters and workers of `cpe_sleigh` need it.

use std::time::Duration;

use cpe_mesh::Failure;
use cpe_sleigh::TaskSpace;
use cpe_tuple::{Template, Tuple, Value};

use crate::{Space, SpaceError};

/// How long a home may take to say that nothing is there, or that something is deleted.
const HOME_DEADLINE: Duration = Duration::from_secs(10);

impl TaskSpace for Space {
    type Error = SpaceError;

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
