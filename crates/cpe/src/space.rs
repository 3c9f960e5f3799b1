//! The handle to the shared tuple space.

use std::sync::Arc;
use std::time::Duration;

use cpe_mesh::{Ack, Command, Failure, Reply, Staleness, VariableInfo, WorkspaceInfo};
use cpe_space::{Mode, Name};
use cpe_tuple::{Template, Tuple, Value};

use crate::SpaceError;
use crate::desk::Desk;
use crate::large::{Receipt, by_reference, store_within};
use crate::watch::Watch;

/// How long [`Space::out`] and [`Space::store`] wait for the home before they answer
/// [`Stored::Pending`].
pub const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// Characters of a tuple shown in an error.
const SHOWN_MAX: usize = 80;

/// What a store came to. Either way the tuple is added exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The home has decided it and has it on disk.
    Home {
        /// Position in the history of its shard.
        index: u64,
    },
    /// It is durable on this node and visible to local reads; the home admits it when it can be
    /// reached.
    Pending,
}

/// A cheap handle to the shared tuple space.
///
/// # Cancel safety
/// Every method: dropped before it is ready, the request is cancelled, and a tuple it took and
/// did not return goes back. A store that was under way may still be added.
#[derive(Clone, Debug)]
pub struct Space {
    pub(crate) desk: Arc<Desk>,
}

impl Space {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    /// Adds `[name, value]`, as [`out`](Self::out) does.
    ///
    /// # Errors
    /// As for [`out_with`](Self::out_with), and [`SpaceError::Limit`].
    pub async fn store(&self, ws: &str, name: &str, value: Value) -> Result<Stored, SpaceError> {
        let value = self.apart(value).await?;
        let tuple = Tuple::new(vec![Value::from(name), value])?;
        self.out(ws, tuple).await
    }

    /// Adds a tuple and waits up to [`STORE_DEADLINE`] for its home to decide it.
    ///
    /// # Errors
    /// As for [`out_with`](Self::out_with).
    pub async fn out(&self, ws: &str, tuple: Tuple) -> Result<Stored, SpaceError> {
        self.out_with(ws, tuple, Ack::Home, STORE_DEADLINE).await
    }

    /// Adds a tuple and waits up to `deadline` for what `ack` asks for.
    ///
    /// # Errors
    /// [`Failure::Refused`] for a bad workspace name,
    /// [`Failure::Busy`] when too much is under way.
    pub async fn out_with(
        &self,
        ws: &str,
        tuple: Tuple,
        ack: Ack,
        deadline: Duration,
    ) -> Result<Stored, SpaceError> {
        let tuple = self.tuple_apart(tuple).await?;
        let deadline = store_within(&tuple, deadline);
        let command = Command::Out {
            workspace: ws.to_owned(),
            tuple,
            ack,
            deadline,
        };
        match self.desk.ask(command).await? {
            Reply::Stored { index } => Ok(Stored::Home { index }),
            Reply::Pending => Ok(Stored::Pending),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Waits up to `deadline` until this node's replica shows a matching tuple, and leaves it
    /// where it is.
    ///
    /// # Errors
    /// [`Failure::TimedOut`].
    pub async fn rd(
        &self,
        ws: &str,
        template: Template,
        deadline: Duration,
    ) -> Result<Tuple, SpaceError> {
        let found = self.read(ws, template, true, false, deadline).await?;
        let found = found.ok_or(SpaceError::Unexpected)?;
        self.tuple_whole(ws, found).await
    }

    /// As [`rd`](Self::rd), but only what the home has counts: it is asked at first, and again
    /// whenever this node's replica shows a match, which may be gone by then.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] when the home has nothing, [`Failure::Unavailable`] when it does not
    /// answer.
    pub async fn rd_fresh(
        &self,
        ws: &str,
        template: Template,
        deadline: Duration,
    ) -> Result<Tuple, SpaceError> {
        let found = self.read(ws, template, true, true, deadline).await?;
        let found = found.ok_or(SpaceError::Unexpected)?;
        self.tuple_whole(ws, found).await
    }

    /// A matching tuple if there is one: in this node's replica, or, with `fresh`, at the home,
    /// which is waited for that long.
    ///
    /// # Errors
    /// With `fresh`, [`Failure::Unavailable`] when the home does
    /// not answer in time.
    pub async fn rdp(
        &self,
        ws: &str,
        template: Template,
        fresh: Option<Duration>,
    ) -> Result<Option<Tuple>, SpaceError> {
        let deadline = fresh.unwrap_or(STORE_DEADLINE);
        let found = self.read(ws, template, false, fresh.is_some(), deadline);
        match found.await? {
            Some(tuple) => self.tuple_whole(ws, tuple).await.map(Some),
            None => Ok(None),
        }
    }

    /// How old what [`rd`](Self::rd) and a local [`rdp`](Self::rdp) of this template show may be:
    /// `None` while this node reaches a majority of the variable's home group. Without a variable,
    /// the worst of all shards of the workspace.
    ///
    /// # Errors
    /// [`SpaceError::Closed`].
    pub async fn staleness(
        &self,
        ws: &str,
        template: Template,
    ) -> Result<Option<Staleness>, SpaceError> {
        let command = Command::Staleness {
            workspace: ws.to_owned(),
            template: by_reference(template)?,
        };
        match self.desk.ask(command).await? {
            Reply::Staleness(stale) => Ok(stale),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Reads a tuple; what lies apart stays apart.
    pub(crate) async fn read(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        fresh: bool,
        deadline: Duration,
    ) -> Result<Option<Tuple>, SpaceError> {
        let command = Command::Read {
            workspace: ws.to_owned(),
            template: by_reference(template)?,
            wait,
            fresh,
            deadline,
        };
        self.tuple(command).await
    }

    /// Waits up to `deadline` for a matching tuple and takes it: nobody else in the mesh gets it.
    ///
    /// # Errors
    /// `TimedOut` when nothing matched; [`Failure::Unavailable`]
    /// when the home could not be asked, so nothing was taken;
    /// [`Failure::Unknown`] when it was asked and did not answer: a
    /// tuple taken that way goes back, and [`status`](Self::status) tells when it has;
    /// [`SpaceError::Body`] when its large values cannot be had or do not fit in memory: it goes
    /// back then, too.
    pub async fn take(
        &self,
        ws: &str,
        template: Template,
        deadline: Duration,
    ) -> Result<Tuple, SpaceError> {
        let taken = self.take_tuple(ws, template, true, deadline).await?;
        taken.ok_or(SpaceError::Unexpected)
    }

    /// Takes a matching tuple if there is one. `None` means that its home has said so, within
    /// `deadline`.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub async fn try_take(
        &self,
        ws: &str,
        template: Template,
        deadline: Duration,
    ) -> Result<Option<Tuple>, SpaceError> {
        self.take_tuple(ws, template, false, deadline).await
    }

    async fn take_tuple(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        deadline: Duration,
    ) -> Result<Option<Tuple>, SpaceError> {
        let taken = self.take_with_receipt(ws, template, wait, deadline).await?;
        Ok(taken.map(|(tuple, receipt)| {
            receipt.confirm();
            tuple
        }))
    }

    /// As [`take`](Self::take), or [`try_take`](Self::try_take) with `wait` false; but the tuple
    /// goes back unless the receipt that comes with it is confirmed. For whoever hands it on to
    /// somebody who may be gone.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub async fn take_with_receipt(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        deadline: Duration,
    ) -> Result<Option<(Tuple, Receipt)>, SpaceError> {
        let taken = self.take_held(ws, template, wait, deadline).await?;
        let Some((tuple, receipt)) = taken else {
            return Ok(None);
        };
        let tuple = self.taken_whole(ws, tuple).await?;
        Ok(Some((tuple, receipt)))
    }

    /// Takes a tuple; what lies apart stays apart, and all goes back unless it is confirmed.
    async fn take_held(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        deadline: Duration,
    ) -> Result<Option<(Tuple, Receipt)>, SpaceError> {
        let command = Command::Take {
            workspace: ws.to_owned(),
            template: by_reference(template)?,
            wait,
            deadline,
        };
        match self.desk.ask_held(command).await? {
            (Reply::Tuple(Some(tuple)), Some(receipt)) => Ok(Some((tuple, Receipt(receipt)))),
            (Reply::Tuple(None), _) => Ok(None),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// The same, of a value of a variable.
    async fn take_value(
        &self,
        ws: &str,
        name: &str,
        wait: bool,
        deadline: Duration,
    ) -> Result<Option<Value>, SpaceError> {
        let taken = self
            .take_held(ws, Template::named(name)?, wait, deadline)
            .await?;
        let Some((tuple, receipt)) = taken else {
            return Ok(None);
        };
        let value = self.taken_value(ws, tuple).await?;
        receipt.confirm();
        Ok(Some(value))
    }

    async fn tuple(&self, command: Command) -> Result<Option<Tuple>, SpaceError> {
        match self.desk.ask(command).await? {
            Reply::Tuple(tuple) => Ok(tuple),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Waits for a value of a variable and leaves it: [`rd`](Self::rd) of `[name, any]`.
    ///
    /// # Errors
    /// As for [`rd`](Self::rd).
    pub async fn find(
        &self,
        ws: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Value, SpaceError> {
        let template = Template::named(name)?;
        let tuple = self.read(ws, template, true, false, deadline).await?;
        let tuple = tuple.ok_or(SpaceError::Unexpected)?;
        self.named_whole(ws, tuple).await
    }

    /// A value of a variable if there is one, asked of its home.
    ///
    /// # Errors
    /// As for [`rdp`](Self::rdp) with `fresh`.
    pub async fn find_try(
        &self,
        ws: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Option<Value>, SpaceError> {
        let template = Template::named(name)?;
        match self.read(ws, template, false, true, deadline).await? {
            Some(tuple) => self.named_whole(ws, tuple).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits for a value of a variable and takes it.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub async fn fetch(
        &self,
        ws: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Value, SpaceError> {
        let taken = self.take_value(ws, name, true, deadline).await?;
        taken.ok_or(SpaceError::Unexpected)
    }

    /// Takes a value of a variable if there is one.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub async fn fetch_try(
        &self,
        ws: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Option<Value>, SpaceError> {
        self.take_value(ws, name, false, deadline).await
    }

    /// Sets the mode of a variable that has none yet: which of its tuples a read or take picks.
    ///
    /// # Errors
    /// `Refused` when it has another mode already; `Unavailable` or `Unknown` as for
    /// [`take`](Self::take).
    pub async fn declare(
        &self,
        ws: &str,
        variable: Value,
        mode: Mode,
        deadline: Duration,
    ) -> Result<(), SpaceError> {
        let command = Command::Declare {
            workspace: ws.to_owned(),
            variable,
            mode,
            deadline,
        };
        done(self.desk.ask(command).await?)
    }

    /// Deletes a variable with its tuples, or the whole workspace when `variable` is `None`.
    ///
    /// # Errors
    /// `Unavailable` or `Unknown` as for [`take`](Self::take).
    pub async fn delete(
        &self,
        ws: &str,
        variable: Option<Value>,
        deadline: Duration,
    ) -> Result<(), SpaceError> {
        let command = Command::Delete {
            workspace: ws.to_owned(),
            variable,
            deadline,
        };
        done(self.desk.ask(command).await?)
    }

    /// The workspaces this node's replica shows.
    ///
    /// # Errors
    /// [`SpaceError::Closed`].
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceInfo>, SpaceError> {
        match self.desk.ask(Command::List { workspace: None }).await? {
            Reply::Workspaces(all) => Ok(all),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// The variables of a workspace this node's replica shows.
    ///
    /// # Errors
    /// [`SpaceError::Closed`], or `Refused` for a bad name.
    pub async fn variables(&self, ws: &str) -> Result<Vec<VariableInfo>, SpaceError> {
        let workspace = Some(ws.to_owned());
        match self.desk.ask(Command::List { workspace }).await? {
            Reply::Variables(all) => Ok(all),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// The first tuples of a variable that this node's replica shows, eldest first: at most `limit`
    /// and, but for the first, a MiB. Large values stay apart.
    ///
    /// # Errors
    /// [`SpaceError::Closed`], or `Refused` for a bad name.
    pub async fn browse(
        &self,
        ws: &str,
        variable: Value,
        limit: usize,
    ) -> Result<Vec<Tuple>, SpaceError> {
        let command = Command::Browse {
            workspace: ws.to_owned(),
            variable,
            limit,
        };
        match self.desk.ask(command).await? {
            Reply::Tuples(tuples) => Ok(tuples),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Every matching tuple as this node learns of it, beginning with those there are.
    ///
    /// # Errors
    /// [`SpaceError::Closed`], refused for a bad workspace name, or busy when too much is under
    /// way.
    pub async fn watch(&self, ws: &str, template: Template) -> Result<Watch, SpaceError> {
        // A watch has no first answer that could say so.
        Name::new(ws).map_err(|error| Failure::Refused(error.to_string()))?;
        let command = Command::Watch {
            workspace: ws.to_owned(),
            template: by_reference(template)?,
        };
        let receiver = self.desk.watch(command).await?;
        Ok(Watch::new(receiver, self.clone(), ws))
    }
}

pub(crate) fn done(reply: Reply) -> Result<(), SpaceError> {
    match reply {
        Reply::Done => Ok(()),
        _ => Err(SpaceError::Unexpected),
    }
}

/// The second field of a tuple of two.
pub(crate) fn value_of(tuple: Tuple) -> Result<Value, SpaceError> {
    match <[Value; 2]>::try_from(Vec::from(tuple)) {
        Ok([_, value]) => Ok(value),
        Err(fields) => Err(SpaceError::NotAVariable {
            found: format!("{fields:?}").chars().take(SHOWN_MAX).collect(),
        }),
    }
}
