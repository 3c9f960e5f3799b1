//! Reads: from the local replica, waiting in it, and fresh from the homes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cpe_membership::NodeId;
use cpe_space::{Config, Name, ShardId};
use cpe_tuple::{Template, Tuple, Value};

use crate::peer::{Peer, Timer};
use crate::request::{Request, Stage};
use crate::wire::Message;
use crate::{Failure, Reply, RequestId};

/// Where a reader waits: a workspace and, when its template names one, a variable.
pub(crate) type Place = (Name, Option<Value>);

/// Pause before a query is sent again to the homes that have not answered.
const QUERY_RETRY: Duration = Duration::from_millis(300);

/// A question to homes, under way.
#[derive(Debug)]
pub(crate) struct QueryState {
    request: RequestId,
    workspace: Name,
    template: Option<Template>,
    missing: BTreeSet<ShardId>,
    tries: u32,
    found: Vec<ShardId>,
}

fn place(workspace: &Name, template: &Template) -> Place {
    (workspace.clone(), template.key().cloned())
}

impl Peer {
    pub(crate) fn register(&mut self, request: RequestId, workspace: &Name, template: &Template) {
        self.readers
            .entry(place(workspace, template))
            .or_default()
            .insert(request);
    }

    pub(crate) fn unregister(&mut self, request: RequestId, workspace: &Name, template: &Template) {
        let place = place(workspace, template);
        if let Some(readers) = self.readers.get_mut(&place) {
            readers.remove(&request);
            if readers.is_empty() {
                self.readers.remove(&place);
            }
        }
    }

    /// What the local replica shows (guarantee G5).
    fn find(&self, workspace: &Name, template: &Template) -> Option<Tuple> {
        match template.key() {
            Some(variable) => {
                let slot = self.slot_ref(self.shard_for(workspace, variable))?;
                slot.shard.find(workspace, template)
            }
            None => self
                .slots
                .iter()
                .find_map(|slot| slot.shard.find(workspace, template)),
        }
    }

    pub(crate) fn read(
        &mut self,
        request: RequestId,
        workspace: Name,
        template: Template,
        wait: bool,
        fresh: bool,
        within: Duration,
    ) {
        if fresh {
            if wait {
                self.register(request, &workspace, &template);
            }
            let state = Request::Fresh {
                query: None,
                again: false,
                workspace,
                template,
                wait,
                within,
            };
            self.requests.insert(request, state);
            return self.ask_fresh(request);
        }
        let found = self.find(&workspace, &template);
        if found.is_some() || !wait {
            return self.finish(request, Reply::Tuple(found));
        }
        self.register(request, &workspace, &template);
        self.requests.insert(
            request,
            Request::Read {
                workspace,
                template,
                within,
            },
        );
    }

    /// Shows what the replica has, stores not yet admitted too, and from now on each that comes:
    /// thus every watch has been shown every pending store.
    pub(crate) fn watch(&mut self, request: RequestId, workspace: Name, template: Template) {
        let mut there = Vec::new();
        for slot in &self.slots {
            let decided = slot.shard.sm().matches(&workspace, &template);
            there.extend(decided.map(|(_, tuple)| tuple.clone()));
            let pending = slot.shard.pending().values();
            let pending =
                pending.filter(|item| item.workspace == workspace && template.matches(&item.tuple));
            there.extend(pending.map(|item| item.tuple.clone()));
        }
        self.register(request, &workspace, &template);
        self.requests.insert(
            request,
            Request::Watch {
                workspace,
                template,
            },
        );
        for tuple in there {
            self.reply(request, Reply::Tuple(Some(tuple)));
        }
    }

    /// A tuple has come into the local replica: whoever waits for it looks again.
    pub(crate) fn wake_readers(&mut self, workspace: &Name, tuple: &Tuple) {
        for request in self.readers_of(workspace, tuple) {
            self.wake(request, tuple);
        }
    }

    /// A store that the local replica showed as pending is admitted. Takes and fresh reads wait
    /// for that; a watch has shown it.
    pub(crate) fn wake_admitted(&mut self, workspace: &Name, tuple: &Tuple) {
        for request in self.readers_of(workspace, tuple) {
            if !matches!(self.requests.get(&request), Some(Request::Watch { .. })) {
                self.wake(request, tuple);
            }
        }
    }

    /// Requests that wait where a tuple has come.
    fn readers_of(&self, workspace: &Name, tuple: &Tuple) -> Vec<RequestId> {
        if self.readers.is_empty() {
            return Vec::new();
        }
        let variable = cpe_space::variable_of(tuple);
        let places = [Some(variable), None].map(|key| (workspace.clone(), key));
        let places = places.iter().filter_map(|place| self.readers.get(place));
        places.flatten().copied().collect()
    }

    /// The local replica shows a tuple: whoever waits looks at it.
    pub(crate) fn wake(&mut self, request: RequestId, tuple: &Tuple) {
        match self.requests.get_mut(&request) {
            Some(Request::Read { template, .. }) if template.matches(tuple) => {
                self.finish(request, Reply::Tuple(Some(tuple.clone())));
            }
            Some(Request::Watch { template, .. }) if template.matches(tuple) => {
                self.reply(request, Reply::Tuple(Some(tuple.clone())));
            }
            // Only its home knows whether it is still there.
            Some(Request::Fresh {
                template,
                query,
                again,
                ..
            }) if template.matches(tuple) => {
                if query.is_some() {
                    *again = true;
                } else {
                    self.ask_fresh(request);
                }
            }
            Some(Request::Scan(scan)) if scan.template.matches(tuple) => {
                self.scan_step(request);
            }
            _ => {}
        }
    }

    /// Asks the homes on behalf of a fresh read.
    fn ask_fresh(&mut self, request: RequestId) {
        let Some(Request::Fresh {
            workspace,
            template,
            ..
        }) = self.requests.get(&request)
        else {
            return;
        };
        let (workspace, template) = (workspace.clone(), template.clone());
        let shards = match template.key() {
            Some(variable) => vec![self.shard_for(&workspace, variable)],
            None => self.shards_of(&workspace),
        };
        let asked = self.ask(request, shards, &workspace, Some(template));
        if let Some(Request::Fresh { query, again, .. }) = self.requests.get_mut(&request) {
            (*query, *again) = (Some(asked), false);
        }
    }

    /// Asks the homes of these shards what they have.
    pub(crate) fn ask(
        &mut self,
        request: RequestId,
        shards: Vec<ShardId>,
        workspace: &Name,
        template: Option<Template>,
    ) -> u64 {
        let query = self.next_query;
        self.next_query += 1;
        let missing = shards.into_iter().collect();
        let workspace = workspace.clone();
        let state = QueryState {
            request,
            workspace,
            template,
            missing,
            tries: 0,
            found: Vec::new(),
        };
        self.queries.insert(query, state);
        // Sent by its timer, when the request that asks stands in its table.
        self.timers.set(Timer::Query(query), self.now);
        query
    }

    /// Whose question it is.
    pub(crate) fn asker(&self, query: u64) -> Option<RequestId> {
        self.queries.get(&query).map(|state| state.request)
    }

    pub(crate) fn drop_query(&mut self, query: u64) {
        self.queries.remove(&query);
        self.timers.clear(&Timer::Query(query));
    }

    pub(crate) fn send_query(&mut self, query: u64) {
        let Some(state) = self.queries.get(&query) else {
            return;
        };
        let mut homes: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
        for shard in &state.missing {
            if let Some(home) = self.home_for(*shard, state.tries) {
                homes.entry(home).or_default().push(*shard);
            }
        }
        let (workspace, template) = (state.workspace.clone(), state.template.clone());
        if let Some(state) = self.queries.get_mut(&query) {
            state.tries = state.tries.saturating_add(1);
        }
        for (home, shards) in homes {
            let (workspace, template) = (workspace.clone(), template.clone());
            self.send_if(
                home,
                Message::Query {
                    query,
                    shards,
                    workspace,
                    template,
                },
            );
        }
        self.timers.set(Timer::Query(query), self.now + QUERY_RETRY);
    }

    pub(crate) fn answered(
        &mut self,
        from: NodeId,
        query: u64,
        nothing: &[ShardId],
        found: Option<(ShardId, Option<Tuple>)>,
        more: Vec<ShardId>,
        elsewhere: Vec<(ShardId, Config, Option<NodeId>)>,
    ) {
        let moved = !elsewhere.is_empty();
        for (shard, config, leader) in elsewhere {
            let epoch = config.epoch;
            self.learn_home(shard, config);
            self.not_leader(from, shard, epoch, leader, None);
        }
        let Some(state) = self.queries.get_mut(&query) else {
            return;
        };
        for shard in nothing.iter().chain(&more) {
            state.missing.remove(shard);
        }
        let first = found.filter(|(shard, _)| state.missing.remove(shard));
        state
            .found
            .extend(first.iter().map(|(shard, _)| *shard).chain(more));
        let request = state.request;
        let done = state.missing.is_empty();
        let shards = state.found.clone();
        if moved && !done {
            self.timers
                .set(Timer::Query(query), self.now + self.config.retry_first);
        }
        match self.requests.get_mut(&request) {
            Some(Request::Fresh {
                query: asked,
                again,
                wait,
                ..
            }) => {
                if let Some((_, Some(tuple))) = first {
                    self.finish(request, Reply::Tuple(Some(tuple)));
                } else if done && !*wait {
                    self.finish(request, Reply::Tuple(None));
                } else if done {
                    // Nothing yet: what is decided from now on will come by feed.
                    let again = *again;
                    *asked = None;
                    self.drop_query(query);
                    if again {
                        self.ask_fresh(request);
                    }
                }
            }
            Some(Request::Scan(scan)) => {
                if let Some((shard, _)) = first {
                    scan.stage = Stage::Waiting;
                    self.drop_query(query);
                    self.scan_take(request, shard);
                } else if done {
                    let wait = scan.wait;
                    scan.stage = Stage::Waiting;
                    self.drop_query(query);
                    if wait {
                        // Something may have come while the homes answered.
                        self.scan_step(request);
                    } else {
                        self.finish(request, Reply::Tuple(None));
                    }
                }
            }
            Some(Request::DropAll { workspace, .. }) if done => {
                let workspace = workspace.clone();
                self.drop_query(query);
                self.drop_from(request, &workspace, &shards);
            }
            Some(Request::Sync { .. }) if done => self.all_reached(request),
            Some(Request::DropAll { .. } | Request::Sync { .. }) => {}
            _ => self.drop_query(query),
        }
    }

    /// Why a query was not answered in time.
    pub(crate) fn unanswered(&self, query: u64) -> Failure {
        let missing = self
            .queries
            .get(&query)
            .and_then(|state| state.missing.first().copied());
        let shard = missing.unwrap_or(ShardId(0));
        let why = match self.leader_of(shard) {
            Some(home) => format!("no answer from {home}"),
            None => "none of its members leads".to_owned(),
        };
        Failure::Unavailable {
            shard: shard.0,
            why,
        }
    }
}
