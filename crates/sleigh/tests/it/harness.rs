//! A real peer that is alone in its mesh, behind the port, in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_membership::{Incarnation, Member, NodeCard, NodeId};
use cpe_mesh::{
    Ack, Command, Failure, Genesis, Image, Input, LeaseHandle, Output, Peer, PeerConfig, Reply,
    RequestId,
};
use cpe_sleigh::TaskSpace;
use cpe_space::LeaseAct;
use cpe_tuple::{Template, Tuple, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(10);

/// Answers go to whoever asked; one that has gone away does not confirm its tuple.
type Asked = (Command, oneshot::Sender<Reply>);

/// The space of a peer that runs in a task. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Local(mpsc::Sender<Asked>);

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub(crate) struct Unexpected(Reply);

impl Local {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(run(receiver));
        Self(sender)
    }

    pub(crate) async fn ask(&self, command: Command) -> Reply {
        let (sender, receiver) = oneshot::channel();
        self.0.send((command, sender)).await.unwrap();
        receiver.await.unwrap()
    }

    /// The tuples of a workspace.
    pub(crate) async fn tuples(&self, workspace: &str) -> usize {
        match self
            .ask(Command::List {
                workspace: Some(workspace.to_owned()),
            })
            .await
        {
            Reply::Variables(variables) => variables.iter().map(|v| v.tuples + v.pending).sum(),
            other => panic!("{other:?}"),
        }
    }

    async fn act(&self, lease: LeaseHandle, act: LeaseAct) -> Result<bool, Unexpected> {
        let act = Command::ActOnLease {
            lease,
            act,
            deadline: DEADLINE,
        };
        match self.ask(act).await {
            Reply::Done => Ok(true),
            Reply::Failed(Failure::LeaseLost { .. }) => Ok(false),
            other => Err(Unexpected(other)),
        }
    }

    async fn take_tuple(
        &self,
        workspace: &str,
        template: Template,
        wait: bool,
        deadline: Duration,
    ) -> Result<Option<Tuple>, Unexpected> {
        let workspace = workspace.to_owned();
        match self
            .ask(Command::Take {
                workspace,
                template,
                wait,
                deadline,
            })
            .await
        {
            Reply::Tuple(tuple) => Ok(tuple),
            Reply::Failed(Failure::TimedOut(_)) => Ok(None),
            other => Err(Unexpected(other)),
        }
    }
}

async fn run(mut asked: mpsc::Receiver<Asked>) {
    let founder = Member {
        node: NodeId(1),
        inc: Incarnation(1),
    };
    let mut config = PeerConfig::new(NodeCard::new(founder, "a"));
    config.durable = false;
    config.genesis = Some(Genesis {
        mesh: "test".to_owned(),
        shards: 16,
        volatile: 4,
        founder,
        group_size: Genesis::GROUP_SIZE,
    });
    let mut peer = Peer::new(config, &Image::default(), 1, Duration::ZERO).unwrap();
    let began = Instant::now();
    let mut waiting: BTreeMap<RequestId, oneshot::Sender<Reply>> = BTreeMap::new();
    let mut last = 0;
    loop {
        while let Some(output) = peer.poll_output() {
            if let Output::Reply(request, reply) = output
                && let Some(sender) = waiting.remove(&request)
            {
                let taken = matches!(reply, Reply::Tuple(Some(_)) | Reply::Leased { .. });
                let input = match sender.send(reply) {
                    Ok(()) if taken => Input::Received(request),
                    Ok(()) => continue,
                    Err(_) => Input::Cancel(request),
                };
                peer.handle(began.elapsed(), input);
            }
        }
        let wake = peer
            .next_wake()
            .map_or(began + DEADLINE, |wake| began + wake);
        tokio::select! {
            asked = asked.recv() => {
                let Some((command, sender)) = asked else { return };
                last += 1;
                waiting.insert(RequestId(last), sender);
                peer.handle(began.elapsed(), Input::Command(RequestId(last), command));
            }
            () = tokio::time::sleep_until(wake) => peer.handle(began.elapsed(), Input::Tick),
        }
        let gone: Vec<_> = waiting
            .extract_if(.., |_, sender| sender.is_closed())
            .collect();
        for (request, _) in gone {
            peer.handle(began.elapsed(), Input::Cancel(request));
        }
    }
}

impl TaskSpace for Local {
    type Error = Unexpected;
    type Lease = LeaseHandle;

    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), Unexpected> {
        let workspace = workspace.to_owned();
        let out = Command::Out {
            workspace,
            tuple,
            ack: Ack::Home,
            deadline: DEADLINE,
        };
        match self.ask(out).await {
            Reply::Stored { .. } => Ok(()),
            other => Err(Unexpected(other)),
        }
    }

    async fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Unexpected> {
        self.take_tuple(workspace, template, true, within).await
    }

    async fn take_leased(
        &self,
        workspace: &str,
        template: Template,
        ttl: Duration,
        within: Duration,
    ) -> Result<Option<(Tuple, LeaseHandle)>, Unexpected> {
        let workspace = workspace.to_owned();
        let take = Command::TakeLeased {
            workspace,
            template,
            wait: true,
            ttl,
            deadline: within,
        };
        match self.ask(take).await {
            Reply::Leased { tuple, lease, .. } => Ok(Some((tuple, lease))),
            Reply::Failed(Failure::TimedOut(_)) => Ok(None),
            other => Err(Unexpected(other)),
        }
    }

    async fn renew(&self, lease: &LeaseHandle) -> Result<bool, Unexpected> {
        self.act(*lease, LeaseAct::Renew).await
    }

    async fn commit(&self, lease: &LeaseHandle) -> Result<bool, Unexpected> {
        self.act(*lease, LeaseAct::Commit).await
    }

    async fn try_take(
        &self,
        workspace: &str,
        template: Template,
    ) -> Result<Option<Tuple>, Unexpected> {
        self.take_tuple(workspace, template, false, DEADLINE).await
    }

    async fn delete(&self, workspace: &str, variable: &str) -> Result<(), Unexpected> {
        let (workspace, variable) = (workspace.to_owned(), Some(Value::from(variable)));
        match self
            .ask(Command::Delete {
                workspace,
                variable,
                deadline: DEADLINE,
            })
            .await
        {
            Reply::Done => Ok(()),
            other => Err(Unexpected(other)),
        }
    }
}

/// A space from which answers need a while, and what was taken is lost when nobody waits any more:
/// as with one that is reached through a connection.
#[derive(Clone, Debug)]
pub(crate) struct Lossy(pub(crate) Local);

impl TaskSpace for Lossy {
    type Error = Unexpected;
    type Lease = LeaseHandle;

    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), Unexpected> {
        self.0.out(workspace, tuple).await
    }

    async fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Unexpected> {
        let taken = self.0.take(workspace, template, within).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        taken
    }

    async fn take_leased(
        &self,
        workspace: &str,
        template: Template,
        ttl: Duration,
        within: Duration,
    ) -> Result<Option<(Tuple, LeaseHandle)>, Unexpected> {
        self.0.take_leased(workspace, template, ttl, within).await
    }

    async fn renew(&self, lease: &LeaseHandle) -> Result<bool, Unexpected> {
        self.0.renew(lease).await
    }

    async fn commit(&self, lease: &LeaseHandle) -> Result<bool, Unexpected> {
        self.0.commit(lease).await
    }

    async fn try_take(
        &self,
        workspace: &str,
        template: Template,
    ) -> Result<Option<Tuple>, Unexpected> {
        self.0.try_take(workspace, template).await
    }

    async fn delete(&self, workspace: &str, variable: &str) -> Result<(), Unexpected> {
        self.0.delete(workspace, variable).await
    }
}
