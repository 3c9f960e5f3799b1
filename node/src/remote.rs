//! The tuple space of a node that runs elsewhere, reached through its HTTP API.

use std::time::Duration;

use cpe::{Template, Tuple};
use cpe_sleigh::TaskSpace;
use cpe_tuple::json::{template_to_json, tuple_from_json, tuple_to_json};
use serde_json::{Value, json};

use crate::client::{Client, segment};
use crate::exit::Fault;

/// What jobs over the space need of it; a node has it in itself, a command through [`Remote`].
pub(crate) trait Space: Sync {
    /// Adds a tuple; done when its home has it.
    fn out(&self, workspace: &str, tuple: Tuple) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Waits for a tuple and leaves it; `None` when none matched in time.
    fn rd(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> impl Future<Output = Result<Option<Tuple>, Fault>> + Send;

    /// A tuple that is there now: in the node's replica or, if that shows none, at its home, which
    /// is asked within that time. `None` only when the home has said so.
    fn rd_now(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> impl Future<Output = Result<Option<Tuple>, Fault>> + Send;

    /// Waits for a tuple and takes it; `None` when none matched in time. With no time at all its
    /// home is asked once.
    fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> impl Future<Output = Result<Option<Tuple>, Fault>> + Send;

    /// Makes a variable hold one value only, which a store replaces.
    fn declare_single(
        &self,
        workspace: &str,
        variable: &str,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Deletes a variable with its tuples.
    fn delete(
        &self,
        workspace: &str,
        variable: &str,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The names of a workspace's variables, of those whose name is a text.
    fn variables(&self, workspace: &str)
    -> impl Future<Output = Result<Vec<String>, Fault>> + Send;
}

/// How long one step of a job may take.
const STEP: Duration = Duration::from_secs(30);

/// A space reached through a node's API.
#[derive(Clone, Debug)]
pub(crate) struct Remote(pub(crate) Client);

impl Remote {
    /// A matching tuple that its home has now, if there is one.
    ///
    /// # Errors
    /// When the home does not answer in time.
    pub(crate) async fn look(
        &self,
        workspace: &str,
        template: &Template,
    ) -> Result<Option<Tuple>, Fault> {
        self.find("rdp", workspace, template, STEP).await
    }

    async fn find(
        &self,
        how: &str,
        workspace: &str,
        template: &Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        let fresh = how == "rdp";
        self.find_where(how, workspace, template, fresh, within)
            .await
    }

    async fn find_where(
        &self,
        how: &str,
        workspace: &str,
        template: &Template,
        fresh: bool,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        let path = format!("/v1/spaces/{}/{how}", segment(workspace));
        let body = json!({
            "template": template_to_json(template),
            "fresh": fresh,
            "timeout_ms": u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        });
        match self.0.post(&path, &body, within).await {
            Ok(found) => match found.get("tuple") {
                None | Some(Value::Null) => Ok(None),
                Some(tuple) => tuple_from_json(tuple).map(Some).map_err(|error| {
                    Fault::failed(format!("the node answered with no tuple: {error}"))
                }),
            },
            Err(error) if error.is("timed_out") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Space for Remote {
    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), Fault> {
        let path = format!("/v1/spaces/{}/out", segment(workspace));
        let timeout_ms = u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX);
        let body = json!({"tuple": tuple_to_json(&tuple), "timeout_ms": timeout_ms});
        self.0.post(&path, &body, STEP).await?;
        Ok(())
    }

    async fn rd(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        self.find("rd", workspace, &template, within).await
    }

    async fn rd_now(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        for fresh in [false, true] {
            let found = self.find_where("rdp", workspace, &template, fresh, within);
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        if within.is_zero() {
            return self.find("inp", workspace, &template, STEP).await;
        }
        self.find("in", workspace, &template, within).await
    }

    async fn declare_single(&self, workspace: &str, variable: &str) -> Result<(), Fault> {
        let path = format!("/v1/spaces/{}/declare", segment(workspace));
        self.0
            .post(&path, &json!({"name": variable, "mode": "single"}), STEP)
            .await?;
        Ok(())
    }

    async fn delete(&self, workspace: &str, variable: &str) -> Result<(), Fault> {
        let name = segment(&Value::from(variable).to_string());
        let path = format!("/v1/spaces/{}/variables/{name}", segment(workspace));
        self.0.delete(&path, STEP).await?;
        Ok(())
    }

    async fn variables(&self, workspace: &str) -> Result<Vec<String>, Fault> {
        let path = format!("/v1/spaces/{}", segment(workspace));
        let variables = self.0.get(&path, STEP).await?;
        let names = variables.as_array().into_iter().flatten();
        let names = names.filter_map(|variable| variable.get("name")?.as_str());
        Ok(names.map(str::to_owned).collect())
    }
}

impl Remote {
    /// Does something with a lease; false when it has ended.
    async fn act(&self, lease: &str, act: &str) -> Result<bool, Fault> {
        let path = format!("/v1/leases/{}/{act}", segment(lease));
        let timeout_ms = u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX);
        match self
            .0
            .post(&path, &json!({"timeout_ms": timeout_ms}), STEP)
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.is("lease_lost") => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl TaskSpace for Remote {
    type Error = Fault;
    type Lease = String;

    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), Fault> {
        Space::out(self, workspace, tuple).await
    }

    async fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        Space::take(self, workspace, template, within).await
    }

    async fn take_leased(
        &self,
        workspace: &str,
        template: Template,
        ttl: Duration,
        within: Duration,
    ) -> Result<Option<(Tuple, String)>, Fault> {
        let path = format!("/v1/spaces/{}/in", segment(workspace));
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let body = json!({
            "template": template_to_json(&template),
            "lease_ms": ms(ttl),
            "timeout_ms": ms(within),
        });
        let found = match self.0.post(&path, &body, within).await {
            Ok(found) => found,
            Err(error) if error.is("timed_out") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let tuple = found.get("tuple").unwrap_or(&Value::Null);
        let tuple = tuple_from_json(tuple);
        let tuple = tuple
            .map_err(|error| Fault::failed(format!("the node answered with no tuple: {error}")))?;
        let lease = found.get("lease").and_then(Value::as_str);
        let lease = lease.ok_or_else(|| Fault::failed("the node answered with no lease"))?;
        Ok(Some((tuple, lease.to_owned())))
    }

    async fn renew(&self, lease: &String) -> Result<bool, Fault> {
        self.act(lease, "renew").await
    }

    async fn commit(&self, lease: &String) -> Result<bool, Fault> {
        self.act(lease, "commit").await
    }

    async fn try_take(&self, workspace: &str, template: Template) -> Result<Option<Tuple>, Fault> {
        self.find("inp", workspace, &template, STEP).await
    }

    async fn delete(&self, workspace: &str, variable: &str) -> Result<(), Fault> {
        Space::delete(self, workspace, variable).await
    }
}

impl Space for cpe::Space {
    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), Fault> {
        let stored = self.out_with(workspace, tuple, cpe::Ack::Home, STEP).await;
        stored
            .map(|_| ())
            .map_err(|error| Fault::unavailable(error.to_string()))
    }

    async fn rd(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        in_time(Self::rd(self, workspace, template, within).await)
    }

    async fn rd_now(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        for fresh in [None, Some(within)] {
            let found = self.rdp(workspace, template.clone(), fresh).await;
            let found = found.map_err(|error| Fault::unavailable(error.to_string()))?;
            if let Some(found) = found {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        if within.is_zero() {
            let found = self.try_take(workspace, template, STEP).await;
            return found.map_err(|error| Fault::unavailable(error.to_string()));
        }
        in_time(Self::take(self, workspace, template, within).await)
    }

    async fn declare_single(&self, workspace: &str, variable: &str) -> Result<(), Fault> {
        let single = cpe::Mode::Single;
        let declared = self.declare(workspace, variable.into(), single, STEP).await;
        declared.map_err(|error| Fault::unavailable(error.to_string()))
    }

    async fn delete(&self, workspace: &str, variable: &str) -> Result<(), Fault> {
        let deleted = Self::delete(self, workspace, Some(variable.into()), STEP).await;
        deleted.map_err(|error| Fault::unavailable(error.to_string()))
    }

    async fn variables(&self, workspace: &str) -> Result<Vec<String>, Fault> {
        let known = Self::variables(self, workspace).await;
        let known = known.map_err(|error| Fault::unavailable(error.to_string()))?;
        let names = known.iter().filter_map(|variable| variable.name.as_str());
        Ok(names.map(str::to_owned).collect())
    }
}

fn in_time(found: Result<Tuple, cpe::SpaceError>) -> Result<Option<Tuple>, Fault> {
    match found {
        Ok(tuple) => Ok(Some(tuple)),
        Err(cpe::SpaceError::Failed(cpe::Failure::TimedOut(_))) => Ok(None),
        Err(error) => Err(Fault::unavailable(error.to_string())),
    }
}
