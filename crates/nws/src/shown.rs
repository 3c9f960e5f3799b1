//! What people are shown: clients, workspaces and who waits.

use std::time::Duration;

use cpe_tuple::Value;

use crate::Gateway;
use crate::names;
use crate::spaces::{Spaces, Trouble};

/// A client of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Address of the other end.
    pub peer: String,
    /// How long it has been connected.
    pub connected: Duration,
    /// Workspaces it has opened.
    pub open: usize,
    /// Those of them that it owns.
    pub owned: usize,
}

/// A workspace that clients made, on whichever node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceInfo {
    /// As clients name it, as far as that is text.
    pub name: String,
    /// The workspace in the space.
    pub workspace: String,
    /// What is shown as its owner.
    pub owner: String,
    /// Whether it stays when its owner is gone.
    pub persistent: bool,
}

/// Who waits at this node for a variable.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingInfo {
    /// The workspace in the space.
    pub workspace: String,
    /// The variable.
    pub variable: Value,
    /// Who takes.
    pub fetchers: usize,
    /// Who copies.
    pub finders: usize,
}

impl<S: Spaces> Gateway<S> {
    /// The clients of this node, the eldest first.
    pub fn clients(&self) -> Vec<ClientInfo> {
        let mut clients: Vec<ClientInfo> = self.live().values().map(ClientInfo::from).collect();
        clients.sort_by_key(|client| std::cmp::Reverse(client.connected));
        clients
    }

    /// Who waits at this node.
    pub fn waiting(&self) -> Vec<WaitingInfo> {
        let all = self.waits.list().into_iter();
        all.map(|((workspace, variable), counts)| WaitingInfo {
            workspace,
            variable,
            fetchers: counts.fetchers,
            finders: counts.finders,
        })
        .collect()
    }

    /// The workspaces that clients made, as this node's replica shows them.
    ///
    /// # Errors
    /// When the space cannot be read.
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceInfo>, Trouble> {
        let records = self.records().await?.into_iter();
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut all: Vec<WorkspaceInfo> = records
            .filter_map(|record| {
                Some(WorkspaceInfo {
                    name: shown(&record.name),
                    workspace: names::workspace(&record.name)?,
                    owner: shown(&record.shown),
                    persistent: record.persistent,
                })
            })
            .collect();
        all.sort_by(|a, b| a.workspace.cmp(&b.workspace));
        Ok(all)
    }

    /// Deletes a workspace that clients made, by its name in the space, as a client would.
    ///
    /// # Errors
    /// [`Trouble::Absent`] when clients made no such workspace.
    pub async fn delete(&self, workspace: &str) -> Result<(), Trouble> {
        let name = names::of_workspace(workspace).ok_or(Trouble::Absent)?;
        self.delete_workspace(&name).await
    }
}
