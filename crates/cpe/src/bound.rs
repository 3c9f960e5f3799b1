//! Operations bound to an instance of a workspace, for servers of clients that know workspaces
//! which are deleted and made again.

use std::time::Duration;

use cpe_mesh::{Command, Reply};
use cpe_space::{Bound, Terms};
use cpe_tuple::Tuple;

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
    /// `Unknown` as for [`take`](Self::take). What is `Unavailable` or `TimedOut` never happens later;
    /// what is `Unknown` may.
    /// [`SpaceError::Body`] when the large values of a tuple cannot be put together: it stays.
    pub async fn bound(
        &self,
        ws: &str,
        terms: Terms,
        act: Bound,
        deadline: Duration,
    ) -> Result<BoundReply, SpaceError> {
        let command = Command::Bound {
            workspace: ws.to_owned(),
            terms,
            act,
            deadline,
        };
        let (reply, receipt) = self.desk.ask_held(command).await?;
        let reply = match reply {
            Reply::Done => Ok(BoundReply::Done),
            Reply::Tuple(None) => Ok(BoundReply::Tuple(None)),
            // Without its large values it goes back: the receipt is dropped.
            Reply::Tuple(Some(tuple)) => {
                let whole = self.taken_whole(ws, tuple).await?;
                Ok(BoundReply::Tuple(Some(whole)))
            }
            Reply::Exchanged(index) => Ok(BoundReply::Exchanged(index)),
            Reply::Differs(tuple) => Ok(BoundReply::Differs(tuple)),
            _ => Err(SpaceError::Unexpected),
        };
        if let Some(receipt) = receipt {
            receipt.confirm();
        }
        reply
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
