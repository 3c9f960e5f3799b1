//! What a program may use, and the name of the limit it ran into.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one host call (`load`, `run`, `eval`, an assert, ...) may use before the engine stops it.
///
/// CLIPS has no limits of its own. They are checked at each loop iteration, query solution,
/// firing, function entry and assert; a join inside a single assert is checked only when it has
/// ended, so rules from strangers also need a process of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall time of one host call, or of one [`Engine::within`](crate::Engine::within) scope.
    #[serde(with = "in_milliseconds")]
    pub wall: Duration,
    /// Bytes CLIPS may hold, its own free lists included. An empty engine holds about 770 KB.
    pub memory_bytes: usize,
    /// Facts that may exist at once.
    pub facts: usize,
    /// Bytes of stack that rule functions may use by calling each other; 4 MiB are some 5 000 calls
    /// deep. A thread that has less trips earlier: 512 KiB always stay free. Unwinding costs up to
    /// the square of the depth (make-instance within make-instance: 0.7 s from 4 MiB, 18 s from
    /// 15 MiB), and no deadline can shorten it.
    pub stack_bytes: usize,
    /// Depth of parentheses in a text given to the engine. The parser recurses once per level.
    pub nesting: usize,
    /// Bytes of captured output that may wait to be taken, all streams together.
    pub output_bytes: usize,
}

/// A duration as one number: the codec knows structs by the positions of their fields alone, which
/// that of a `Duration` does not allow.
mod in_milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(wall: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

impl Limits {
    /// Limits for a rule agent that shares a node with others: two seconds, 64 MiB, 50 000 facts.
    pub const AGENT: Self = Self {
        wall: Duration::from_secs(2),
        memory_bytes: 64 << 20,
        facts: 50_000,
        stack_bytes: 4 << 20,
        nesting: 128,
        output_bytes: 1 << 20,
    };

    /// Limits for a program a person runs and watches: ten minutes, 1 GiB, five million facts.
    pub const PROGRAM: Self = Self {
        wall: Duration::from_secs(600),
        memory_bytes: 1 << 30,
        facts: 5_000_000,
        stack_bytes: 15 << 20,
        output_bytes: 64 << 20,
        ..Self::AGENT
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::AGENT
    }
}

/// The limit that ended a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Trip {
    /// The call lasted longer than [`Limits::wall`].
    Deadline,
    /// A [`HaltHandle`] asked for it.
    Halted,
    /// CLIPS held more than [`Limits::memory_bytes`].
    Memory,
    /// More than [`Limits::facts`] facts existed.
    Facts,
    /// Functions called each other deeper than [`Limits::stack_bytes`] allow.
    Stack,
    /// More than [`Limits::output_bytes`] were printed.
    Output,
    /// More effects than a rule agent may release at once.
    Effects,
    /// A host function panicked.
    Panic,
    /// The process of the engine ended: a bug of CLIPS, or an attempt to do what it must not.
    Crashed,
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "deadline",
            Self::Halted => "halt",
            Self::Memory => "memory limit",
            Self::Facts => "fact limit",
            Self::Stack => "stack limit",
            Self::Output => "output limit",
            Self::Effects => "effect limit",
            Self::Panic => "panic of a host function",
            Self::Crashed => "crash of its process",
        })
    }
}

/// Stops an engine's current call from any thread.
///
/// Asking once ends the call that is running, or the next one if none is: the request stays until
/// a call has tripped on it, so it can not be lost between two calls.
#[derive(Clone, Debug, Default)]
pub struct HaltHandle(Arc<AtomicBool>);

impl HaltHandle {
    /// A handle that no engine listens to yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ask the engine to stop. It does within a loop iteration or a firing.
    pub fn halt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Withdraw a request no call has tripped on.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a request is waiting.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
