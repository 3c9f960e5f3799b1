//! An agent's whole state: its engine, and what it waits for.

use std::sync::{Arc, Mutex};

use cpe_tuple::Template;
use cpe_tuple::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

use super::functions::Outbox;
use super::{AgentOptions, RuleAgent, RuleError};
use crate::engine::{Difference, SNAPSHOT_BYTES_MAX, Snapshot, SnapshotError};
use crate::error::EngineError;
use crate::limits::HaltHandle;

/// The form of agent snapshots this crate writes, and the only one it reads.
const VERSION: u16 = 1;

/// A subscription of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// The workspace.
    pub workspace: String,
    /// Which tuples.
    pub template: Template,
}

/// Everything an agent knows, taken between deliveries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSnapshot {
    version: u16,
    engine: Snapshot,
    /// The number given out last.
    next: u64,
    requests: Vec<u64>,
    subscriptions: Vec<(u64, Subscription)>,
}

impl AgentSnapshot {
    /// As CBOR.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let encoded = codec::encode(self);
        debug_assert!(encoded.is_ok(), "no value is nested deeply: {encoded:?}");
        encoded.unwrap_or_default()
    }

    /// Read what [`to_bytes`](Self::to_bytes) wrote; bytes may come from anywhere.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let malformed = |error: CodecError| SnapshotError::Malformed(error.to_string());
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge(bytes.len()));
        }
        let this: Self = codec::decode(bytes, SNAPSHOT_BYTES_MAX).map_err(malformed)?;
        if this.version != VERSION {
            return Err(SnapshotError::Version(this.version));
        }
        this.engine.check()?;
        if i64::try_from(this.next).is_err() {
            return Err(SnapshotError::Damaged("a counter is out of range"));
        }
        Ok(this)
    }

    /// The engine's part.
    #[must_use]
    pub fn engine(&self) -> &Snapshot {
        &self.engine
    }

    /// Requests that no answer has come to.
    #[must_use]
    pub fn requests(&self) -> &[u64] {
        &self.requests
    }

    /// Subscriptions by number: who restores an agent must subscribe for it again.
    #[must_use]
    pub fn subscriptions(&self) -> &[(u64, Subscription)] {
        &self.subscriptions
    }
}

impl RuleAgent {
    /// Copy the whole state out; only between deliveries.
    ///
    /// # Errors
    /// As [`Engine::snapshot`](crate::Engine::snapshot).
    pub fn snapshot(&mut self) -> Result<AgentSnapshot, EngineError> {
        let engine = self.engine.snapshot()?;
        let outbox = self.outbox();
        Ok(AgentSnapshot {
            version: VERSION,
            engine,
            next: outbox.next,
            requests: outbox.requests.iter().copied().collect(),
            subscriptions: outbox
                .subscriptions
                .iter()
                .map(|(number, subscription)| (*number, subscription.clone()))
                .collect(),
        })
    }

    /// An agent that goes on where another one stood, perhaps with other rules: see
    /// [`Engine::restore`](crate::Engine::restore). No rule fires before the next delivery; what
    /// was asked for before is not asked for again.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn restore(
        name: &str,
        source: &str,
        options: AgentOptions,
        snapshot: &AgentSnapshot,
    ) -> Result<(Self, Vec<Difference>), RuleError> {
        let halt = HaltHandle::new();
        let outbox = Arc::new(Mutex::new(Outbox::restored(
            snapshot.next,
            &snapshot.requests,
            &snapshot.subscriptions,
        )));
        let built = super::build(name, source, &options, &halt, &outbox)?;
        let mut this = Self::built(name, source, options, halt, outbox, built);
        let differences = this.engine.restore(&snapshot.engine)?;
        // Conditions that call the agent's functions may have asked for something meanwhile.
        this.outbox().forget_effects();
        Ok((this, differences))
    }
}
