//! What can be seen of an actor from outside.

use std::sync::atomic::Ordering;

use super::{ActorState, Shared};
use crate::ExitReason;

impl<M: Send + 'static, R: Send + 'static> Shared<M, R> {
    pub(crate) fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> ActorState {
        match self.state.load(Ordering::Relaxed) {
            0 => ActorState::Starting,
            1 => ActorState::Running,
            2 => ActorState::Restarting,
            3 => ActorState::Stopping,
            _ => ActorState::Ended,
        }
    }

    pub(crate) fn count_handled(&self, messages: u64) -> u64 {
        let handled = self.handled.load(Ordering::Relaxed) + messages;
        self.handled.store(handled, Ordering::Relaxed);
        handled
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    pub(crate) fn count_failure(&self, reason: &str) {
        let mut queue = self.lock();
        let extra = queue.extra();
        extra.failed = extra.failed.saturating_add(1);
        extra.last_error = Some(reason.to_owned());
    }

    pub(crate) fn failed(&self) -> u32 {
        self.lock().extra.as_ref().map_or(0, |extra| extra.failed)
    }

    pub(crate) fn count_restart(&self) {
        let mut queue = self.lock();
        let extra = queue.extra();
        extra.restarts = extra.restarts.saturating_add(1);
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.lock().extra.as_ref().map_or(0, |extra| extra.restarts)
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        self.lock()
            .extra
            .as_ref()
            .and_then(|extra| extra.last_error.clone())
    }

    /// User messages that wait.
    pub(crate) fn depth(&self) -> usize {
        let queue = self.lock();
        usize::try_from(
            queue
                .pushed
                .saturating_sub(self.taken.load(Ordering::SeqCst)),
        )
        .unwrap_or(usize::MAX)
    }

    /// Messages that wait, and one more while the actor is at something.
    pub(crate) fn load(&self) -> usize {
        let queue = self.lock();
        let waiting = queue
            .pushed
            .saturating_sub(self.taken.load(Ordering::SeqCst));
        let busy = usize::from(!queue.idle);
        usize::try_from(waiting).map_or(usize::MAX, |waiting| waiting.saturating_add(busy))
    }

    pub(crate) fn set_stashed(&self, messages: usize) {
        self.lock().extra().stashed = messages;
    }

    pub(crate) fn stashed(&self) -> usize {
        self.lock().extra.as_ref().map_or(0, |extra| extra.stashed)
    }

    pub(crate) fn timers(&self) -> usize {
        let queue = self.lock();
        let extra = queue.extra.as_ref();
        extra.map_or(0, |extra| extra.timers.len())
    }

    pub(crate) fn exit_reason(&self) -> Option<ExitReason> {
        self.lock().exit()
    }

    pub(crate) fn kind(&self) -> &str {
        self.options
            .kind
            .as_deref()
            .unwrap_or_else(|| (self.type_name)())
    }

    /// Name, or kind and number, for messages to people.
    pub(crate) fn label(&self) -> String {
        match self.options.name.as_ref().or(self.options.label.as_ref()) {
            Some(name) => name.to_string(),
            None => format!("{}#{}", self.kind(), self.id),
        }
    }
}
