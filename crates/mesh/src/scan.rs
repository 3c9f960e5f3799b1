//! Takes and deletions that concern more than one shard.

use std::collections::BTreeMap;
use std::time::Duration;

use cpe_space::{Name, ShardId};
use cpe_tuple::Template;

use crate::peer::Peer;
use crate::request::{Request, Scan, Stage};
use crate::wire::Operation;
use crate::{Reply, RequestId};

fn take_operation(
    workspace: Name,
    template: Template,
    wait: bool,
    lease_ms: Option<u64>,
) -> Operation {
    match lease_ms {
        None => Operation::Take {
            workspace,
            template,
            wait,
        },
        Some(ttl_ms) => Operation::TakeLeased {
            workspace,
            template,
            wait,
            ttl_ms,
        },
    }
}

impl Peer {
    /// Begins a take: at one shard, or looking for one.
    pub(crate) fn take(
        &mut self,
        request: RequestId,
        workspace: Name,
        template: Template,
        wait: bool,
        lease_ms: Option<u64>,
        within: Duration,
    ) {
        if let Some(variable) = template.key() {
            let shard = self.shard_for(&workspace, variable);
            let operation = take_operation(workspace, template, wait, lease_ms);
            return self.operate(request, shard, operation, within);
        }
        self.register(request, &workspace, &template);
        let empty_at = BTreeMap::new();
        let stage = Stage::Waiting;
        let asked = false;
        let scan = Scan {
            workspace,
            template,
            wait,
            lease_ms,
            within,
            stage,
            asked,
            empty_at,
        };
        self.requests.insert(request, Request::Scan(scan));
        self.scan_step(request);
    }

    /// Takes from a shard that shows a match, else asks all homes once, else waits for a match.
    pub(crate) fn scan_step(&mut self, request: RequestId) {
        let Some(Request::Scan(scan)) = self.requests.get(&request) else {
            return;
        };
        if scan.stage != Stage::Waiting {
            return;
        }
        let candidate = self.slots.iter().map(|slot| &slot.shard).find(|shard| {
            let asked = scan.empty_at.get(&shard.id());
            asked.is_none_or(|index| shard.version().index > *index)
                && shard.sm().find(&scan.workspace, &scan.template).is_some()
        });
        match candidate.map(cpe_space::Shard::id) {
            Some(shard) => self.scan_take(request, shard),
            None => {
                let first = scan.empty_at.is_empty() && !scan.asked;
                if !scan.wait || first {
                    let (workspace, template) = (scan.workspace.clone(), scan.template.clone());
                    let shards = self.shards_of(&workspace);
                    let query = self.ask(request, shards, &workspace, Some(template));
                    if let Some(Request::Scan(scan)) = self.requests.get_mut(&request) {
                        scan.stage = Stage::Asking(query);
                        scan.asked = true;
                    }
                }
            }
        }
    }

    /// Tries to take from one shard.
    pub(crate) fn scan_take(&mut self, request: RequestId, shard: ShardId) {
        let Some(Request::Scan(scan)) = self.requests.get(&request) else {
            return;
        };
        let (workspace, template) = (scan.workspace.clone(), scan.template.clone());
        let operation = take_operation(workspace, template, false, scan.lease_ms);
        if let Some(seq) = self.new_op(Some(request), shard, operation) {
            if let Some(Request::Scan(scan)) = self.requests.get_mut(&request) {
                scan.stage = Stage::Taking(shard, seq);
            }
            self.send_op(shard, seq);
        }
    }

    /// Deletes what a workspace has in these shards, for a request that waits for all of them.
    pub(crate) fn drop_from(&mut self, request: RequestId, workspace: &Name, shards: &[ShardId]) {
        let mut sent = Vec::new();
        for shard in shards {
            let operation = Operation::Drop {
                workspace: workspace.clone(),
                variable: None,
            };
            let Some(seq) = self.new_op(Some(request), *shard, operation) else {
                // The request was answered that this home is busy: nothing of it is begun.
                for (shard, seq) in sent {
                    self.end_op(shard, seq);
                }
                return;
            };
            if let Some(Request::DropAll { left, .. }) = self.requests.get_mut(&request) {
                left.insert((*shard, seq));
            }
            sent.push((*shard, seq));
        }
        if sent.is_empty() {
            self.finish(request, Reply::Done);
        }
        for (shard, seq) in sent {
            self.send_op(shard, seq);
        }
    }
}
