//! An engine's whole state as bytes, to go on elsewhere or after an upgrade of the rules.

use std::collections::BTreeSet;
use std::fmt;

use cpe_tuple::codec::{self, CodecError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use super::{Engine, Matched};
use crate::error::EngineError;
use crate::raw::{Loss, State};
use crate::vet::is_symbol;

/// The form of snapshots this crate writes, and the only one it reads.
const VERSION: u16 = 1;

/// Bytes of an encoded snapshot at most: four engines of an agent's memory.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Indices and counters beyond this are not believed: they could overflow.
const NUMBER_MAX: i64 = 1 << 60;

/// A text that was loaded into an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What errors call it.
    pub file: String,
    /// The text.
    pub text: String,
}

/// Everything an engine knows: its sources, facts with their indices and time tags, what they
/// logically depend on, instances, globals, the agenda and so which rules have fired on what, the
/// focus, the strategy and the other switches, the counters of `gensym` and `random`.
///
/// Taken between runs. What is not in it: functions of the host, watch items, breakpoints,
/// captured output, and pointers of the host's (they come back as `nil`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u16,
    sources: Vec<Source>,
    state: State,
    random: Option<Random>,
    time_ms: i64,
}

/// Where a generator of random numbers stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Random {
    seed: [u8; 32],
    stream: u64,
    /// The word that comes next, in two halves: CBOR has no integers of 128 bits.
    word: (u64, u64),
}

/// Bytes that are no snapshot, or one that can not be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// More than [`SNAPSHOT_BYTES_MAX`].
    #[error("a snapshot of {0} bytes is larger than {SNAPSHOT_BYTES_MAX}")]
    TooLarge(usize),
    /// The bytes are no snapshot.
    #[error("these bytes are no snapshot of rules: {0}")]
    Malformed(String),
    /// A snapshot of another version.
    #[error("a snapshot of version {0}; this program reads version {VERSION}")]
    Version(u16),
    /// A number or name in it is impossible.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}

/// Something that is not as it was, after a restore into other rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// A fact is gone.
    Fact {
        /// Its index.
        index: i64,
        /// Its template.
        template: String,
        /// Why.
        reason: &'static str,
    },
    /// A slot of a fact is gone, or does not allow its value any more: it has its default.
    Slot {
        /// The fact's index.
        index: i64,
        /// Its template.
        template: String,
        /// The slot.
        slot: String,
    },
    /// An instance is gone.
    Instance {
        /// Its name.
        name: String,
        /// Its class.
        class: String,
        /// Why.
        reason: &'static str,
    },
    /// A slot of an instance is gone or refuses its value.
    InstanceSlot {
        /// The instance.
        name: String,
        /// The slot.
        slot: String,
    },
    /// A global is gone.
    Global {
        /// `MODULE::name`
        name: String,
    },
    /// What a fact or an instance logically depended on does not hold any more, and so it is
    /// gone, as it would be had the rules changed while it existed.
    Support {
        /// `f-7` or `[pump]`.
        of: String,
    },
    /// A rule that waited to fire does not match any more.
    Activation {
        /// `MODULE::name`
        rule: String,
        /// What it had matched.
        matched: Vec<Matched>,
    },
    /// A module that had the focus is gone.
    Module {
        /// Its name.
        name: String,
    },
    /// A rule is new or changed: it sees all facts as new.
    Rule {
        /// `MODULE::name`
        name: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fact {
                index,
                template,
                reason,
            } => write!(f, "fact f-{index} of {template} is gone: {reason}"),
            Self::Slot {
                index,
                template,
                slot,
            } => write!(
                f,
                "slot `{slot}` of fact f-{index} of {template} lost its value"
            ),
            Self::Instance {
                name,
                class,
                reason,
            } => write!(f, "instance [{name}] of {class} is gone: {reason}"),
            Self::InstanceSlot { name, slot } => {
                write!(f, "slot `{slot}` of instance [{name}] lost its value")
            }
            Self::Global { name } => write!(f, "global {name} is gone"),
            Self::Support { of } => write!(f, "{of} is gone: what it depends on holds no more"),
            Self::Activation { rule, .. } => {
                write!(f, "rule {rule} does not wait to fire any more")
            }
            Self::Module { name } => write!(f, "module {name} is gone and with it its focus"),
            Self::Rule { name } => write!(f, "rule {name} is new or changed"),
        }
    }
}

impl From<Loss> for Difference {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Fact(index, template, reason) => Self::Fact {
                index,
                template,
                reason,
            },
            Loss::Slot(index, template, slot) => Self::Slot {
                index,
                template,
                slot,
            },
            Loss::Instance(name, class, reason) => Self::Instance {
                name,
                class,
                reason,
            },
            Loss::InstanceSlot(name, slot) => Self::InstanceSlot { name, slot },
            Loss::Global(module, name) => Self::Global {
                name: format!("{module}::{name}"),
            },
            Loss::Support(of) => Self::Support { of },
            Loss::Activation(rule, matched) => Self::Activation { rule, matched },
            Loss::Module(name) => Self::Module { name },
            Loss::Changed(name) => Self::Rule { name },
        }
    }
}

impl Snapshot {
    /// The texts that were loaded, in their order.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// How many facts it holds.
    #[must_use]
    pub fn fact_count(&self) -> usize {
        self.state.facts.len()
    }

    /// As CBOR.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let encoded = codec::encode(self);
        debug_assert!(encoded.is_ok(), "no value is nested deeply: {encoded:?}");
        encoded.unwrap_or_default()
    }

    /// Read what [`to_bytes`](Self::to_bytes) wrote. Bytes may come from anywhere: nothing in them
    /// can make a restore do more than make facts and instances.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        /// The version alone, whatever else there is.
        #[derive(Deserialize)]
        struct Version {
            version: u16,
        }
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge(bytes.len()));
        }
        let malformed = |error: CodecError| SnapshotError::Malformed(error.to_string());
        let Version { version } = codec::decode(bytes, SNAPSHOT_BYTES_MAX).map_err(malformed)?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let this: Self = codec::decode(bytes, SNAPSHOT_BYTES_MAX).map_err(malformed)?;
        this.check()?;
        Ok(this)
    }

    /// Refuse what can not be right.
    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        if self.version != VERSION {
            return Err(SnapshotError::Version(self.version));
        }
        self.state.check().map_err(SnapshotError::Damaged)
    }
}

impl State {
    /// Refuse what CLIPS would trip over.
    fn check(&self) -> Result<(), &'static str> {
        let number = |n: i64| (0..=NUMBER_MAX).contains(&n);
        let counter = |n: u64| i64::try_from(n).is_ok_and(number);
        if !number(self.next_fact) || !number(self.gensym) {
            return Err("a counter is out of range");
        }
        if !counter(self.next_tag) || !counter(self.next_activation) {
            return Err("a counter is out of range");
        }
        if self.strategy > 6 || self.salience_evaluation > 2 {
            return Err("a switch has no such position");
        }
        let mut seen = BTreeSet::new();
        for fact in &self.facts {
            let known = number(fact.index) && fact.index > 0 && counter(fact.tag);
            if !known || !seen.insert(fact.index) {
                return Err("a fact has an impossible index");
            }
            let named = fact.template.split_once("::");
            if !named.is_some_and(|(module, name)| is_symbol(module) && is_symbol(name)) {
                return Err("a template has an impossible name");
            }
        }
        let mut names = BTreeSet::new();
        for instance in &self.instances {
            if !names.insert(&instance.name) || !counter(instance.tag) {
                return Err("an instance has an impossible name");
            }
        }
        let sane = |salience: i32| (-10_000..=10_000).contains(&salience);
        if !self
            .agenda
            .iter()
            .all(|a| sane(a.salience) && counter(a.tag))
        {
            return Err("an activation is out of range");
        }
        Ok(())
    }
}

impl Engine {
    /// Copy the whole state out; only between runs.
    ///
    /// ```
    /// use cpe_rules::{Engine, Limits, Snapshot};
    ///
    /// let rules = "(defrule greet (person ?name) => (printout t \"hello \" ?name crlf))";
    /// let mut here = Engine::sandboxed(Limits::AGENT, 1);
    /// here.load(rules)?;
    /// here.assert_ordered("person", vec!["Ada".into()])?;
    /// here.run(None)?;
    /// here.assert_ordered("person", vec!["Alan".into()])?;
    /// let bytes = here.snapshot()?.to_bytes();
    ///
    /// let mut there = Engine::sandboxed(Limits::AGENT, 1);
    /// there.load(rules)?;
    /// let differences = there.restore(&Snapshot::from_bytes(&bytes).unwrap())?;
    /// assert!(differences.is_empty());
    /// there.run(None)?;
    /// assert_eq!(there.take_output(), "hello Alan\n", "Ada was greeted before");
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// [`EngineError::TooLarge`] when texts that facts share would take more than four times the
    /// memory limit when copied.
    pub fn snapshot(&mut self) -> Result<Snapshot, EngineError> {
        let state = self.call(|env| env.state())?;
        let state = state.ok_or(EngineError::TooLarge("four times its memory limit"))?;
        let random = self.random.as_ref().map(|random| {
            let random = random
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let word = random.get_word_pos();
            Random {
                seed: random.get_seed(),
                stream: random.get_stream(),
                word: ((word >> 64) as u64, word as u64),
            }
        });
        Ok(Snapshot {
            version: VERSION,
            sources: self.sources.clone(),
            state,
            random,
            time_ms: self.clock.load(std::sync::atomic::Ordering::Relaxed),
        })
    }

    /// Put a state back into an engine that has its constructs and its host's functions, and no
    /// facts yet. It was not reset: the state brings what a reset would have made.
    ///
    /// With the same rules the engine goes on where the other one stood; no rule fires again on
    /// what it has fired on. With other rules, facts are kept where their templates still fit, a
    /// rule whose source has changed sees all facts as new, and what could not be kept is
    /// returned.
    ///
    /// Conditions are evaluated again. A condition that depends on more than the facts (a global
    /// that has changed since, a random number) may come out otherwise; globals have their final
    /// values meanwhile.
    ///
    /// With the same rules also the order is restored in which CLIPS holds what has matched, and so
    /// the order in which matches that hold at once come onto the agenda; beyond a million partial
    /// matches it is not.
    ///
    /// # Errors
    /// [`EngineError::NotEmpty`] when there are facts or instances; a limit.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<Vec<Difference>, EngineError> {
        if self.fact_count() > 0 || self.instance_count() > 0 {
            return Err(EngineError::NotEmpty);
        }
        let losses = self.call(|env| env.give(&snapshot.state))?;
        self.set_time_ms(snapshot.time_ms);
        if let (Some(random), Some(saved)) = (&self.random, &snapshot.random) {
            let mut restored = ChaCha8Rng::from_seed(saved.seed);
            restored.set_stream(saved.stream);
            restored.set_word_pos(u128::from(saved.word.0) << 64 | u128::from(saved.word.1));
            *random
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = restored;
        }
        Ok(losses.into_iter().map(Difference::from).collect())
    }
}
