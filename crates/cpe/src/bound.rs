//! Operations bound to an instance of a workspace, for servers of clients that know workspaces
//! which are deleted and made again.

use std::time::Duration;

use cpe_mesh::{Command, Reply};
use cpe_space::{Bound, Terms};
use cpe_tuple::Tuple;

use crate::large::{Receipt, store_within};
use crate::space::done;
use crate::{Space, SpaceError};

/// What a bound operation has come to.
#[derive(Clone, Debug, PartialEq)]
pub enum BoundReply {
    /// Done.
    Done,
    /// The tuple taken, or a copy; `None` only from takes that do not wait, when that was decided.
    Tuple(Option<Tuple>),
    /// Exchanged, at this index.
    Exchanged(u64),
    /// Not exchanged: this is there.
    Differs(Option<Tuple>),
}

impl Space {
    /// Executes an operation under the terms of an instance, see [`Bound`].
    ///
    /// # Errors
    /// [`Failure::Absent`](crate::Failure::Absent) when the variable is not part of the instance;
    /// `Refused` for another mode or an iteration that cannot go on; `TimedOut`, `Unavailable` and
    /// `Unknown` as for [`take`](Self::take). What is `Unavailable` or `TimedOut` never happens
    /// later; what is `Unknown` may.
    /// [`SpaceError::Body`] when a large value of a put cannot be written.
    ///
    /// A tuple that was taken comes with a receipt and goes back unless that is confirmed. Its
    /// large values stay apart: [`open_second`](Self::open_second) reads them. A put may take
    /// longer than `deadline` by the time that its large values need to get to the home.
    pub async fn bound(
        &self,
        ws: &str,
        terms: Terms,
        act: Bound,
        deadline: Duration,
    ) -> Result<(BoundReply, Option<Receipt>), SpaceError> {
        let (act, deadline) = match act {
            Bound::Put { tuple } => {
                let tuple = self.tuple_apart(tuple).await?;
                let deadline = store_within(&tuple, deadline);
                (Bound::Put { tuple }, deadline)
            }
            other => (other, deadline),
        };
        let command = Command::Bound {
            workspace: ws.to_owned(),
            terms,
            act,
            deadline,
        };
        let (reply, receipt) = self.desk.ask_held(command).await?;
        let reply = match reply {
            Reply::Done => Ok(BoundReply::Done),
            Reply::Tuple(tuple) => Ok(BoundReply::Tuple(tuple)),
            Reply::Exchanged(index) => Ok(BoundReply::Exchanged(index)),
            Reply::Differs(tuple) => Ok(BoundReply::Differs(tuple)),
            _ => Err(SpaceError::Unexpected),
        };
        Ok((reply?, receipt.map(Receipt)))
    }

    /// Waits until this node's replica shows all that was decided, in a workspace or in all of the
    /// space, before the call: what is read or listed locally afterwards is no older than that.
    ///
    /// # Errors
    /// `Unavailable` when a home does not answer in time, `Refused` for a bad name.
    pub async fn sync(&self, ws: Option<&str>, deadline: Duration) -> Result<(), SpaceError> {
        let workspace = ws.map(str::to_owned);
        done(
            self.desk
                .ask(Command::Sync {
                    workspace,
                    deadline,
                })
                .await?,
        )
    }
}
