//! Who is to know of an actor's end: links, watchers, those who wait.

use std::{pin::pin, sync::Arc};

use super::{MAX_WATCHERS, Notice, Queue, Shared};
use crate::{ActorId, ActorState, ExitReason, Terminated, control::Control};

impl<M: Send + 'static, R: Send + 'static> Shared<M, R> {
    // ---- links ----

    /// Adds a link to `other`, which is told at once of a failure that ended this actor before.
    /// False when there are too many.
    pub(crate) fn add_link(&self, id: ActorId, other: &Arc<dyn Control>) -> bool {
        let mut queue = self.lock();
        if queue.ended {
            let terminated = self.terminated(&queue);
            drop(queue);
            if terminated.reason.is_failure() {
                other.notify(self.linked(&terminated.reason.to_string()));
            } else {
                other.remove_link(self.id);
            }
            return true;
        }
        let links = &mut queue.extra().links;
        if links.iter().any(|(linked, _)| *linked == id) {
            return true;
        }
        if links.len() == links.capacity() {
            links.retain(|(_, other)| other.strong_count() > 0);
        }
        if links.len() >= MAX_WATCHERS {
            return false;
        }
        links.push((id, Arc::downgrade(other)));
        true
    }

    /// Whether there was such a link.
    pub(crate) fn remove_link(&self, id: ActorId) -> bool {
        let mut queue = self.lock();
        let Some(extra) = &mut queue.extra else {
            return false;
        };
        let before = extra.links.len();
        extra.links.retain(|(linked, _)| *linked != id);
        extra.links.len() < before
    }

    /// Ends all links, with the news of a failure or silently.
    pub(crate) fn end_links(&self, failure: Option<&str>) {
        let links = match &mut self.lock().extra {
            Some(extra) => std::mem::take(&mut extra.links),
            None => return,
        };
        for other in links.into_iter().filter_map(|(_, other)| other.upgrade()) {
            match failure {
                Some(reason) => other.notify(self.linked(reason)),
                None => {
                    other.remove_link(self.id);
                }
            }
        }
    }

    pub(super) fn linked(&self, reason: &str) -> Notice {
        Notice::Linked {
            id: self.id,
            actor: self.label(),
            reason: reason.to_owned(),
        }
    }

    // ---- watching ----

    /// Adds a watcher; an actor that has ended tells it at once. False when there are too many.
    pub(crate) fn add_watcher(&self, id: ActorId, watcher: &Arc<dyn Control>) -> bool {
        let mut queue = self.lock();
        if queue.ended {
            let terminated = self.terminated(&queue);
            drop(queue);
            watcher.notify(Notice::Terminated(terminated));
            return true;
        }
        let watchers = &mut queue.extra().watchers;
        if watchers.iter().any(|(other, _)| *other == id) {
            return true;
        }
        if watchers.len() == watchers.capacity() {
            watchers.retain(|(_, watcher)| watcher.strong_count() > 0);
        }
        if watchers.len() >= MAX_WATCHERS {
            return false;
        }
        watchers.push((id, Arc::downgrade(watcher)));
        true
    }

    pub(crate) fn remove_watcher(&self, id: ActorId) {
        if let Some(extra) = &mut self.lock().extra {
            extra.watchers.retain(|(other, _)| *other != id);
        }
    }

    pub(super) fn terminated(&self, queue: &Queue<M, R>) -> Terminated {
        Terminated {
            id: self.id,
            actor: self.label(),
            reason: queue.exit().unwrap_or(ExitReason::RuntimeGone),
        }
    }

    /// It is ready for messages: tells those who wait for that.
    pub(crate) fn begun(&self) {
        self.set_state(ActorState::Running);
        let notify = self.lock().extra.as_ref().and_then(|it| it.ended.clone());
        if let Some(notify) = notify {
            notify.notify_waiters();
        }
    }

    /// Waits until the actor is ready for messages; how it ended if it never was.
    pub(crate) async fn wait_begun(&self) -> Result<(), Terminated> {
        let notify = Arc::clone(self.lock().extra().ended.get_or_insert_default());
        loop {
            let mut told = pin!(notify.notified());
            told.as_mut().enable();
            {
                let queue = self.lock();
                if queue.ended {
                    return Err(self.terminated(&queue));
                }
                if self.state() == ActorState::Running {
                    return Ok(());
                }
            }
            told.await;
        }
    }

    /// Waits until the actor is gone.
    pub(crate) async fn wait_ended(&self) -> Terminated {
        let notify = {
            let mut queue = self.lock();
            if queue.ended {
                return self.terminated(&queue);
            }
            Arc::clone(queue.extra().ended.get_or_insert_default())
        };
        loop {
            let mut ended = pin!(notify.notified());
            ended.as_mut().enable();
            {
                let queue = self.lock();
                if queue.ended {
                    return self.terminated(&queue);
                }
            }
            ended.await;
        }
    }
}
