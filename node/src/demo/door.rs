//! The mesh through whichever of its nodes lives.
//!
//! A client of one node ends with it; the mesh does not. What the demo asks goes to one node until
//! that does not answer, and then to another. Everything asked here may be done twice without harm:
//! a store of the same task, part or model once more changes no result, and a tuple that was taken
//! and lost with a node is made good by whoever waits for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpe::{Template, Tuple};
use tokio::time::Instant;

use super::crowd::Crowd;
use crate::client::Client;
use crate::exit::{Fault, Status};
use crate::remote::{Remote, Space};

/// How long one thing is tried again. A home whose leader died has another within two seconds, and
/// a dead node is known to be dead within five.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to rest before another node is asked.
const REST: Duration = Duration::from_millis(100);

/// Asks one node after the other.
#[derive(Debug)]
pub(crate) struct Door<'a> {
    crowd: &'a Crowd,
    at: AtomicUsize,
}

impl<'a> Door<'a> {
    pub(crate) const fn new(crowd: &'a Crowd) -> Self {
        Self {
            crowd,
            at: AtomicUsize::new(0),
        }
    }

    /// Asks a node, and another as long as none can be reached or knows.
    async fn ask<T, F>(&self, what: impl Fn(Client) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let until = Instant::now() + PATIENCE;
        loop {
            let at = self.at.load(Ordering::Relaxed);
            let asked = match self.crowd.living(at) {
                Some(member) => what(member.client.clone()).await,
                None => return Err(Fault::unavailable("no node is left")),
            };
            match asked {
                Err(fault) if fault.status == Status::Unavailable && Instant::now() < until => {
                    self.at.store(at.wrapping_add(1), Ordering::Relaxed);
                    tokio::time::sleep(REST).await;
                }
                done => return done,
            }
        }
    }
}

impl Space for Door<'_> {
    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), Fault> {
        let tuple = &tuple;
        self.ask(
            |client| async move { Space::out(&Remote(client), workspace, tuple.clone()).await },
        )
        .await
    }

    async fn rd(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        let template = &template;
        self.ask(
            |client| async move { Remote(client).rd(workspace, template.clone(), within).await },
        )
        .await
    }

    async fn rd_now(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        let template = &template;
        self.ask(|client| async move {
            let node = Remote(client);
            node.rd_now(workspace, template.clone(), within).await
        })
        .await
    }

    async fn take(
        &self,
        workspace: &str,
        template: Template,
        within: Duration,
    ) -> Result<Option<Tuple>, Fault> {
        let template = &template;
        self.ask(|client| async move {
            Space::take(&Remote(client), workspace, template.clone(), within).await
        })
        .await
    }

    async fn declare_single(&self, workspace: &str, variable: &str) -> Result<(), Fault> {
        self.ask(|client| async move { Remote(client).declare_single(workspace, variable).await })
            .await
    }

    async fn delete(&self, workspace: &str, variable: &str) -> Result<(), Fault> {
        self.ask(|client| async move { Space::delete(&Remote(client), workspace, variable).await })
            .await
    }

    async fn variables(&self, workspace: &str) -> Result<Vec<String>, Fault> {
        self.ask(|client| async move { Remote(client).variables(workspace).await })
            .await
    }
}
