//! The gateway: what all connections of a node share, and the way from an operation to a reply.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cpe_space::Terms;
use rand::RngExt as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::leftovers::Leftovers;
use crate::limits::{OPEN_ALL_MAX, OPEN_MAX, UNDER_WAY_KIB_MAX};
use crate::names;
use crate::payload::Handed;
use crate::record::Owner;
use crate::shown::ClientInfo;
use crate::spaces::{Spaces, Trouble};
use crate::waits::Waits;
use crate::wire::Reply;
use crate::{Operation, Repeats, Retrieve};

/// The workspace that always exists.
pub(crate) const DEFAULT: &[u8] = b"__default";

/// Its only instance.
pub(crate) const DEFAULT_INSTANCE: u64 = 1;

/// The gateway of one node.
#[derive(Debug)]
pub struct Gateway<S> {
    pub(crate) spaces: S,
    pub(crate) waits: Waits,
    pub(crate) leftovers: Leftovers,
    /// Connections there are: what a record names besides them is gone.
    live: Mutex<BTreeMap<u64, Connection>>,
    next: AtomicU64,
    /// Room for payloads under way, in KiB.
    pub(crate) room: Arc<Semaphore>,
}

/// A connection, as it is shown.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: String,
    since: Instant,
    open: usize,
    owned: usize,
}

impl From<&Connection> for ClientInfo {
    fn from(connection: &Connection) -> Self {
        Self {
            peer: connection.peer.clone(),
            connected: connection.since.elapsed(),
            open: connection.open,
            owned: connection.owned,
        }
    }
}

/// What a connection has opened, and who it is.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) owner: Owner,
    /// Address of the other end.
    pub(crate) peer: String,
    /// Instances of the workspaces it has opened, by name.
    pub(crate) open: BTreeMap<Vec<u8>, u64>,
    /// Those of them that it owns.
    pub(crate) owned: BTreeMap<Vec<u8>, u64>,
    /// What the log says of it.
    refusals: Repeats,
}

/// A variable as an operation names it: in an instance that the connection has opened.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The workspace's name, as the client has it.
    pub(crate) name: Vec<u8>,
    /// The workspace in the space.
    pub(crate) workspace: String,
    pub(crate) instance: u64,
}

impl Target {
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            instance: self.instance,
            after: None,
        }
    }
}

/// What a request has come to.
pub(crate) enum Outcome<S: Spaces> {
    Reply(Reply),
    /// This value.
    Value(Handed<S>),
    /// There is no value yet: wait for one.
    Wait(crate::variables::Waiting),
}

impl<S: Spaces> Gateway<S> {
    /// A gateway to this space.
    pub fn new(spaces: S) -> Arc<Self> {
        Arc::new(Self {
            spaces,
            waits: Waits::default(),
            leftovers: Leftovers::default(),
            live: Mutex::default(),
            // A node whose disk is intact comes back in the same life: were connections numbered
            // from 1 again, one of this run would be taken for the owner of what one of the last
            // run owned.
            next: AtomicU64::new(rand::rng().random()),
            room: Arc::new(Semaphore::new(UNDER_WAY_KIB_MAX)),
        })
    }

    pub(crate) fn begin(&self, peer: String) -> Session {
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        let shown = Connection {
            peer: peer.clone(),
            since: Instant::now(),
            open: 0,
            owned: 0,
        };
        self.live().insert(connection, shown);
        Session {
            owner: Owner {
                node: self.spaces.me(),
                connection,
            },
            peer,
            open: BTreeMap::new(),
            owned: BTreeMap::new(),
            refusals: Repeats::default(),
        }
    }

    /// The connection has ended: what it owned and nobody keeps is deleted.
    pub(crate) async fn end(&self, session: Session) {
        // First: should the purge fail here, the sweep finds a record without an owner.
        self.live().remove(&session.owner.connection);
        for name in session.owned.keys() {
            if let Err(trouble) = self.disown(name, session.owner).await {
                let name = name.escape_ascii();
                tracing::warn!(%name, %trouble, "a workspace whose owner is gone stays for now");
            }
        }
    }

    pub(crate) fn is_live(&self, connection: u64) -> bool {
        self.live().contains_key(&connection)
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        // Nothing under this lock panics half-way.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes an operation.
    pub(crate) async fn execute(&self, session: &mut Session, operation: Operation) -> Outcome<S> {
        let reply = match operation {
            Operation::OpenWs {
                name,
                owner,
                persistent,
                create,
            } => {
                if let Err(trouble) = self.has_room(session, &name) {
                    let about = session.about("open ws", &name);
                    return Outcome::Reply(status(Err(trouble), about));
                }
                let shown = [session.peer.as_bytes(), b" (", &owner, b")"].concat();
                let claim = Some((session.owner, shown));
                let opened = self.open(&name, claim, persistent, create).await;
                let opened = self.opened(session, &name, opened);
                status(opened, session.about("open ws", &name))
            }
            Operation::UseWs { name, create } => {
                if let Err(trouble) = self.has_room(session, &name) {
                    let about = session.about("use ws", &name);
                    return Outcome::Reply(status(Err(trouble), about));
                }
                let opened = self.open(&name, None, false, create).await;
                let opened = self.opened(session, &name, opened);
                status(opened, session.about("use ws", &name))
            }
            Operation::DeleteWs { name } => {
                let deleted = self.delete_workspace(&name).await;
                status(deleted, session.about("delete ws", &name))
            }
            Operation::MktempWs { template } => {
                let made = self.make_temporary(&template).await;
                value(made, session.about("mktemp ws", &template))
            }
            Operation::ListWss { name } => {
                let listed = self.list_workspaces(session, name).await;
                value(listed, session.about("list wss", b""))
            }
            Operation::ListVars { ws } => match session.target(&ws) {
                Some(target) => {
                    let listed = self.list_variables(&target).await;
                    value(listed, session.about("list vars", &ws))
                }
                None => Reply::Nothing,
            },
            Operation::DeclareVar { ws, variable, mode } => {
                match (session.target(&ws), names::variable(&variable)) {
                    (Some(target), Some(name)) => {
                        let declared = self.declare(&target, &name, Some(mode)).await;
                        let about = session.about("declare var", &ws);
                        status(declared, about.of(&variable))
                    }
                    _ => Reply::Status(false),
                }
            }
            Operation::DeleteVar { ws, variable } => {
                match (session.target(&ws), names::variable(&variable)) {
                    (Some(target), Some(name)) => {
                        let deleted = self.delete_variable(&target, name).await;
                        let about = session.about("delete var", &ws);
                        status(deleted, about.of(&variable))
                    }
                    _ => Reply::Status(false),
                }
            }
            Operation::Store {
                ws,
                variable,
                descriptor,
                payload,
                life,
            } => match (session.target(&ws), names::variable(&variable)) {
                (Some(target), Some(name)) => {
                    let stored = self.store(&target, name, descriptor, payload, life);
                    let stored = stored.await;
                    status(stored, session.about("store", &ws).of(&variable))
                }
                _ => Reply::Status(false),
            },
            Operation::Retrieve { ws, variable, how } => {
                return self.retrieve(session, &ws, &variable, how).await;
            }
        };
        Outcome::Reply(reply)
    }

    async fn retrieve(
        &self,
        session: &mut Session,
        ws: &[u8],
        variable: &[u8],
        how: Retrieve,
    ) -> Outcome<S> {
        let (Some(target), Some(name)) = (session.target(ws), names::variable(variable)) else {
            return Outcome::Reply(Reply::Nothing);
        };
        match self.try_retrieve(target, name, how).await {
            Ok(outcome) => outcome,
            Err(trouble) => {
                let operation = if how.leave { "find" } else { "fetch" };
                session.about(operation, ws).of(variable).refused(&trouble);
                Outcome::Reply(Reply::Nothing)
            }
        }
    }

    /// Whether a connection may open one more workspace: asked before anything is done, as what it
    /// would make or own it could not use.
    fn has_room(&self, session: &Session, name: &[u8]) -> Result<(), Trouble> {
        if session.open.contains_key(name) {
            return Ok(());
        }
        let why = if session.open.len() >= OPEN_MAX {
            format!("this connection has {OPEN_MAX} workspaces open; close it")
        } else if self.live().values().map(|it| it.open).sum::<usize>() >= OPEN_ALL_MAX {
            format!("clients of this node have {OPEN_ALL_MAX} workspaces open; close some of them")
        } else {
            return Ok(());
        };
        Err(Trouble::Refused(why))
    }

    /// Notes what a connection has opened.
    fn opened(
        &self,
        session: &mut Session,
        name: &[u8],
        opened: Result<Opened, Trouble>,
    ) -> Result<(), Trouble> {
        let Opened { instance, owns } = opened?;
        if owns {
            session.owned.insert(name.to_vec(), instance);
        }
        session.open.insert(name.to_vec(), instance);
        if let Some(shown) = self.live().get_mut(&session.owner.connection) {
            (shown.open, shown.owned) = (session.open.len(), session.owned.len());
        }
        Ok(())
    }
}

/// A workspace somebody has opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) instance: u64,
    /// By this, or an earlier request of the same connection.
    pub(crate) owns: bool,
}

impl Session {
    /// An operation of this connection, for the log.
    fn about<'a>(&'a mut self, operation: &'static str, workspace: &'a [u8]) -> About<'a> {
        About {
            peer: &self.peer,
            operation,
            workspace,
            variable: b"",
            refusals: &mut self.refusals,
        }
    }

    /// The instance of this name that the connection has opened.
    fn target(&self, name: &[u8]) -> Option<Target> {
        Some(Target {
            name: name.to_vec(),
            workspace: names::workspace(name)?,
            instance: *self.open.get(name)?,
        })
    }
}

/// What was asked, for the log.
pub(crate) struct About<'a> {
    pub(crate) peer: &'a str,
    pub(crate) operation: &'static str,
    pub(crate) workspace: &'a [u8],
    pub(crate) variable: &'a [u8],
    pub(crate) refusals: &'a mut Repeats,
}

impl<'a> About<'a> {
    fn of(self, variable: &'a [u8]) -> Self {
        Self { variable, ..self }
    }

    /// Says why something could not be decided, and of whom and of what. What is refused for a
    /// reason in the request is the client's own affair.
    fn refused(self, trouble: &Trouble) {
        let (workspace, variable) = (self.workspace.escape_ascii(), self.variable.escape_ascii());
        let (peer, operation) = (self.peer, self.operation);
        match trouble {
            Trouble::Undecided(why) => {
                if self.refusals.is_new(why) {
                    tracing::warn!(
                        peer, operation, %workspace, %variable, %why,
                        "refused: the space could not decide; said once a minute for a client"
                    );
                }
            }
            Trouble::Absent | Trouble::Refused(_) => {
                tracing::debug!(peer, operation, %workspace, %variable, %trouble, "refused");
            }
        }
    }
}

fn status(done: Result<(), Trouble>, about: About<'_>) -> Reply {
    if let Err(trouble) = &done {
        about.refused(trouble);
    }
    Reply::Status(done.is_ok())
}

fn value(text: Result<Vec<u8>, Trouble>, about: About<'_>) -> Reply {
    match text {
        Ok(text) => Reply::text(text),
        Err(trouble) => {
            about.refused(&trouble);
            Reply::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::Late;

    #[tokio::test]
    async fn a_connection_that_has_too_many_workspaces_open_makes_no_more() {
        let gateway = Gateway::new(Late::default());
        let mut session = gateway.begin("a test".to_owned());
        let full = (0..OPEN_MAX).map(|n| (n.to_string().into_bytes(), 1));
        session.open.extend(full);
        let open = |name: &[u8]| Operation::OpenWs {
            name: name.to_vec(),
            owner: b"1".to_vec(),
            persistent: false,
            create: true,
        };
        let made = Operation::UseWs {
            name: b"more".to_vec(),
            create: true,
        };
        for more in [open(b"more"), made] {
            let outcome = gateway.execute(&mut session, more).await;
            assert!(matches!(outcome, Outcome::Reply(Reply::Status(false))));
        }
        assert_eq!(
            gateway.spaces.acts.lock().unwrap().len(),
            0,
            "nothing is made"
        );
        assert!(session.owned.is_empty());
        // One that it has open is no more.
        gateway.execute(&mut session, open(b"7")).await;
        assert!(!gateway.spaces.acts.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn clients_together_have_no_more_workspaces_open_than_memory_is_there_for() {
        let gateway = Gateway::new(Late::default());
        let (other, mut session) = (gateway.begin("a".to_owned()), gateway.begin("b".to_owned()));
        let of_other = |open| {
            let mut live = gateway.live();
            live.get_mut(&other.owner.connection).unwrap().open = open;
        };
        let open = || Operation::UseWs {
            name: DEFAULT.to_vec(),
            create: true,
        };
        of_other(OPEN_ALL_MAX);
        let outcome = gateway.execute(&mut session, open()).await;
        assert!(matches!(outcome, Outcome::Reply(Reply::Status(false))));
        of_other(OPEN_ALL_MAX - 1);
        let outcome = gateway.execute(&mut session, open()).await;
        assert!(matches!(outcome, Outcome::Reply(Reply::Status(true))));
    }
}
