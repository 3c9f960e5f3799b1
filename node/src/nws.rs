//! The shared space as the `NetWorkSpaces` gateway needs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cpe::{
    Blob, Bound, BoundReply, Failure, LargeValue, LargeWriter, Member, Mesh, Space, SpaceError,
    Template, Terms, Tuple,
};
use cpe_nws::{
    Answer, Gateway, Health, Inlet, Listed, Outlet, Receipt, Server, Spaces, Trouble, Who,
    limits::CONNECTIONS_MAX,
};

use crate::config::NwsConfig;
use crate::exit::Fault;

/// In the place of an address: no gateway.
pub(crate) const OFF: &str = "off";

/// File descriptors this asks the system for, as far as it allows: each client needs one.
const FILES_WANTED: u64 = 65_536;

/// File descriptors that clients leave to the rest of the node: a quarter of what there is, within
/// these bounds, and never more than half.
const REST_LEAST: u64 = 256;

/// See [`REST_LEAST`].
const REST_MOST: u64 = 1_024;

/// Takes the gateway's port, unless it is off. A port that nobody asked for and that is taken, as
/// by another node on this machine, is done without.
///
/// # Errors
/// When the address that was asked for is taken or not this machine's.
pub(crate) async fn bind(config: &NwsConfig) -> Result<Option<Server>, Fault> {
    let address = &config.listen;
    if address == OFF {
        return Ok(None);
    }
    let places = places(raise_file_limit());
    let bound = Server::bind(address).await;
    if let Err(error) = &bound
        && config.is_default
    {
        tracing::warn!(
            %error,
            "no NetWorkSpaces clients here: {address} is taken; pass --nws for another address"
        );
        return Ok(None);
    }
    let server = bound.map_err(|error| {
        let fault = Fault::failed(format!(
            "cannot listen on {address} for NetWorkSpaces clients: {error}"
        ));
        fault.next("pass --nws with another address (port 0: any free one), or --nws off")
    })?;
    if places < CONNECTIONS_MAX {
        tracing::warn!(
            places,
            "the system lets this node have few open files, and so few NetWorkSpaces clients at a \
             time; raise the limit (`ulimit -n`) for more"
        );
    }
    Ok(Some(server.with_places(places)))
}

/// The gateway of this node.
pub(crate) type NodeGateway = Arc<Gateway<Door>>;

/// A gateway to the space.
pub(crate) fn gateway(space: Space, mesh: Mesh, me: Member) -> NodeGateway {
    Gateway::new(Door { space, mesh, me })
}

/// Clients that may be connected at a time when the process may have so many files open: the rest
/// is for its disk, its peers and the HTTP API. Without it, clients that do nothing could stop the
/// node.
fn places(files: u64) -> usize {
    let rest = (files / 4).clamp(REST_LEAST, REST_MOST).min(files / 2);
    usize::try_from(files - rest).map_or(CONNECTIONS_MAX, |places| places.min(CONNECTIONS_MAX))
}

/// Systems give a process room for about a thousand connections unless it asks for more. Returns
/// how many files it may have open.
fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(FILES_WANTED, |most| most.min(FILES_WANTED));
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
    let limit = getrlimit(Resource::Nofile);
    limit.current.unwrap_or(FILES_WANTED)
}

/// The space, as the gateway sees it.
#[derive(Debug)]
pub(crate) struct Door {
    space: Space,
    mesh: Mesh,
    me: Member,
}

fn who(member: Member) -> Who {
    Who {
        node: member.node.0,
        life: u64::from(member.inc.0),
    }
}

fn trouble(error: SpaceError) -> Trouble {
    match error {
        SpaceError::Failed(Failure::Absent) => Trouble::Absent,
        SpaceError::Failed(Failure::Refused(why)) => Trouble::Refused(why),
        SpaceError::Limit(limit) => Trouble::Refused(limit.to_string()),
        SpaceError::Body(why) => Trouble::Refused(why),
        other => Trouble::Undecided(other.to_string()),
    }
}

pub(crate) struct Taken(cpe::Receipt);

impl Receipt for Taken {
    fn confirm(self) {
        self.0.confirm();
    }
}

pub(crate) struct Writer(LargeWriter);

impl Inlet for Writer {
    async fn push(&mut self, part: &[u8]) -> Result<(), Trouble> {
        self.0.push(part).await.map_err(trouble)
    }

    async fn finish(self, text: bool) -> Result<Blob, Trouble> {
        self.0.finish(text).await.map_err(trouble)
    }
}

pub(crate) struct Reader(LargeValue);

impl Outlet for Reader {
    async fn part(&mut self) -> Result<Option<Bytes>, Trouble> {
        self.0.chunk().await.map_err(trouble)
    }
}

impl Spaces for Door {
    type Receipt = Taken;
    type Inlet = Writer;
    type Outlet = Reader;

    async fn act(
        &self,
        workspace: &str,
        terms: Terms,
        act: Bound,
        within: Duration,
    ) -> Result<(Answer, Option<Taken>), Trouble> {
        let reply = self.space.bound(workspace, terms, act, within).await;
        let (reply, receipt) = reply.map_err(trouble)?;
        let answer = match reply {
            BoundReply::Done => Answer::Done,
            BoundReply::Tuple(tuple) => Answer::Tuple(tuple),
            BoundReply::Exchanged(index) => Answer::Exchanged(index),
            BoundReply::Differs(tuple) => Answer::Differs(tuple),
        };
        Ok((answer, receipt.map(Taken)))
    }

    async fn inlet(&self) -> Result<Writer, Trouble> {
        self.space.write_large().await.map(Writer).map_err(trouble)
    }

    async fn outlet(&self, workspace: &str, tuple: Tuple) -> Result<Reader, Trouble> {
        let opened = self.space.open_second(workspace, tuple).await;
        opened.map(Reader).map_err(trouble)
    }

    async fn read(
        &self,
        workspace: &str,
        template: Template,
        fresh: Option<Duration>,
    ) -> Result<Option<Tuple>, Trouble> {
        let read = self.space.rdp(workspace, template, fresh).await;
        read.map_err(trouble)
    }

    async fn sync(&self, workspace: Option<&str>, within: Duration) -> Result<(), Trouble> {
        let synced = self.space.sync(workspace, within).await;
        synced.map_err(trouble)
    }

    async fn list(&self, workspace: &str) -> Result<Vec<Listed>, Trouble> {
        let all = self.space.variables(workspace).await.map_err(trouble)?;
        let listed = all.into_iter().map(|info| Listed {
            name: info.name,
            mode: info.declared.then_some(info.mode),
            instance: info.instance,
            values: info.tuples,
        });
        Ok(listed.collect())
    }

    fn me(&self) -> Who {
        who(self.me)
    }

    async fn nodes(&self) -> Result<Vec<(Who, Health)>, Trouble> {
        let peers = self.mesh.peers().await.map_err(trouble)?;
        let nodes = peers.into_iter().map(|peer| {
            let member = Member {
                node: peer.node,
                inc: peer.inc,
            };
            let health = match peer.state {
                "dead" => Health::Dead,
                "left" => Health::Left,
                _ => Health::Alive,
            };
            (who(member), health)
        });
        Ok(nodes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_file_descriptors_to_the_rest_of_the_node() {
        assert_eq!(places(0), 0);
        assert_eq!(places(256), 128);
        assert_eq!(places(1_024), 768);
        assert_eq!(places(4_096), 3_072);
        assert_eq!(places(16_384), 15_360);
        assert_eq!(places(u64::MAX), CONNECTIONS_MAX);
    }
}
