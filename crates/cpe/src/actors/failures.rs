//! How often a durable actor has failed lately, kept in its record: whoever has it next goes on
//! counting from there, so that an actor which fails everywhere ends, and does not begin anew for
//! ever by moving.
//!
//! Each failure is noted at the home of the name, and so is that none counts any more, once the
//! window of the actor's supervision has passed without another.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use cpe_mesh::{Command, Failure};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::durable::{PAUSE, TRY};
use super::{Inner, lock};
use crate::SpaceError;

#[derive(Debug)]
struct State {
    /// Failures that count.
    count: u32,
    /// Those that the record has.
    noted: u32,
    /// When none of them counts any more.
    until: Option<Instant>,
    /// Somebody sees to the record.
    is_kept: bool,
}

/// The failures of one incarnation and of those before it.
#[derive(Debug)]
pub(super) struct Failures {
    inner: Weak<Inner>,
    name: String,
    token: u64,
    state: Mutex<State>,
    /// An actor failed.
    failed: Notify,
    /// The record has what it should, or cannot be told.
    noted: Notify,
}

impl Failures {
    /// Goes on from what the record has. They count for `within` from now on.
    pub(super) fn new(
        inner: &Arc<Inner>,
        (name, token): (&str, u64),
        noted: u32,
        within: Duration,
    ) -> Arc<Self> {
        let failures = Arc::new(Self {
            inner: Arc::downgrade(inner),
            name: name.to_owned(),
            token,
            state: Mutex::new(State {
                count: noted,
                noted,
                until: (noted > 0).then(|| Instant::now() + within),
                is_kept: false,
            }),
            failed: Notify::new(),
            noted: Notify::new(),
        });
        if noted > 0 {
            failures.keep();
        }
        failures
    }

    /// The actor has failed, and so many of its failures count now, for `within` at most.
    pub(super) fn count(self: &Arc<Self>, count: u32, within: Duration) {
        {
            let mut state = lock(&self.state);
            state.count = count;
            state.until = Some(Instant::now() + within);
        }
        self.failed.notify_one();
        self.keep();
    }

    /// Sees to the record from now on, unless somebody does.
    fn keep(self: &Arc<Self>) {
        if std::mem::replace(&mut lock(&self.state).is_kept, true) {
            return;
        }
        if let Some(inner) = self.inner.upgrade() {
            inner.tasks.spawn(keep_noted(Arc::clone(self)));
        }
    }

    /// Waits until the record has what it should; not for longer than one try takes.
    pub(super) async fn settled(&self) {
        let until = Instant::now() + TRY;
        loop {
            let noted = self.noted.notified();
            tokio::pin!(noted);
            // What is noted from here on is heard.
            noted.as_mut().enable();
            {
                let state = lock(&self.state);
                if state.count == state.noted || !state.is_kept {
                    return;
                }
            }
            if tokio::time::timeout_at(until, noted).await.is_err() {
                return;
            }
        }
    }
}

/// Until nothing counts any more, or the actor is another node's.
async fn keep_noted(failures: Arc<Failures>) {
    loop {
        let (count, noted, until) = {
            let mut state = lock(&failures.state);
            if state.count == 0 && state.noted == 0 {
                state.is_kept = false;
                break;
            }
            (state.count, state.noted, state.until)
        };
        if count == noted {
            failures.noted.notify_waiters();
            let Some(until) = until else { break };
            tokio::select! {
                () = failures.failed.notified() => {}
                () = tokio::time::sleep_until(until) => {
                    let mut state = lock(&failures.state);
                    if state.until.is_some_and(|until| until <= Instant::now()) {
                        (state.count, state.until) = (0, None);
                    }
                }
            }
            continue;
        }
        let Some(inner) = failures.inner.upgrade() else {
            break;
        };
        let note = Command::NoteFailures {
            name: failures.name.clone(),
            token: failures.token,
            failures: count,
            deadline: TRY,
        };
        match inner.desk.ask(note).await {
            Ok(_) => lock(&failures.state).noted = count,
            Err(SpaceError::Failed(Failure::Fenced { .. }) | SpaceError::Closed) => {
                lock(&failures.state).is_kept = false;
                break;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    failures.noted.notify_waiters();
}
