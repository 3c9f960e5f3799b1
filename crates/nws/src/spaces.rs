//! What the gateway asks of the tuple space.

use std::time::Duration;

use bytes::Bytes;
use cpe_space::{Bound, Mode, Terms};
use cpe_tuple::{Blob, Template, Tuple, Value};

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The node.
    pub node: u64,
    /// Its life: a later one has a higher number.
    pub life: u64,
}

/// How another node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Alive, or suspected.
    Alive,
    /// Believed dead.
    Dead,
    /// It has left in good order.
    Left,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Done.
    Done,
    /// The tuple; none when that was decided.
    Tuple(Option<Tuple>),
    /// Exchanged, at this index.
    Exchanged(u64),
    /// Not exchanged: this is there.
    Differs(Option<Tuple>),
}

/// Why nothing came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The variable is not there, or not in this instance.
    #[error("the variable is not there")]
    Absent,
    /// Refused for a reason in the request.
    #[error("{0}")]
    Refused(String),
    /// It could not be decided, as without a majority.
    #[error("{0}")]
    Undecided(String),
}

/// A variable as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// First field of its tuples.
    pub name: Value,
    /// Its mode, once that is settled.
    pub mode: Option<Mode>,
    /// The instance of the workspace it was declared in, if in one.
    pub instance: Option<u64>,
    /// Its values.
    pub values: usize,
}

/// What was taken for a client and has not reached it: dropped, it goes back into the space.
pub trait Receipt: Send {
    /// The client has it.
    fn confirm(self);
}

/// A large value on its way into the space. Dropped before it is finished, nothing is left of it.
pub trait Inlet: Send {
    /// Adds a part.
    fn push(&mut self, part: &[u8]) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// The value is complete: what stands for it in a tuple. A string if that is asked for and it
    /// is UTF-8.
    fn finish(self, text: bool) -> impl Future<Output = Result<Blob, Trouble>> + Send;
}

/// A large value on its way to a client.
pub trait Outlet: Send {
    /// The next part; none at the end.
    fn part(&mut self) -> impl Future<Output = Result<Option<Bytes>, Trouble>> + Send;
}

/// A tuple space, as far as the gateway needs one.
///
/// Every future may be dropped before it is ready: a tuple that was taken and not returned must go
/// back into the space.
pub trait Spaces: Send + Sync + 'static {
    /// See [`Receipt`].
    type Receipt: Receipt;
    /// See [`Inlet`].
    type Inlet: Inlet;
    /// See [`Outlet`].
    type Outlet: Outlet;

    /// Executes a bound operation. A tuple that was taken comes with a receipt. Its large values
    /// stay apart.
    fn act(
        &self,
        workspace: &str,
        terms: Terms,
        act: Bound,
        within: Duration,
    ) -> impl Future<Output = Result<(Answer, Option<Self::Receipt>), Trouble>> + Send;

    /// Begins a large value.
    fn inlet(&self) -> impl Future<Output = Result<Self::Inlet, Trouble>> + Send;

    /// Opens the large value of a tuple `[name, value]`.
    fn outlet(
        &self,
        workspace: &str,
        tuple: Tuple,
    ) -> impl Future<Output = Result<Self::Outlet, Trouble>> + Send;

    /// A matching tuple if there is one: as its home has it, which is waited for that long, or,
    /// with none, as the local replica has it.
    fn read(
        &self,
        workspace: &str,
        template: Template,
        fresh: Option<Duration>,
    ) -> impl Future<Output = Result<Option<Tuple>, Trouble>> + Send;

    /// Waits until the local replica shows all that was decided before in a workspace, or anywhere.
    fn sync(
        &self,
        workspace: Option<&str>,
        within: Duration,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// The variables of a workspace in the local replica.
    fn list(&self, workspace: &str) -> impl Future<Output = Result<Vec<Listed>, Trouble>> + Send;

    /// This node.
    fn me(&self) -> Who;

    /// The nodes this node has heard of, itself included.
    fn nodes(&self) -> impl Future<Output = Result<Vec<(Who, Health)>, Trouble>> + Send;
}
