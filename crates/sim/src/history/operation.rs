//! One operation of a client.

use super::{HistoryError, MAX_TIME_US};

/// What a client asked, when, and what it was answered.
///
/// Times are microseconds on one clock that all clients share: virtual time, or the monotonic
/// clock of one machine. Operations that touch in time count as overlapping, so times may be
/// rounded down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// Which variable. `None`: a template that any variable's tuples match; such a take's "empty"
    /// says nothing about any one variable and is not checked.
    pub variable: Option<String>,
    /// When it was asked.
    pub from_us: u64,
    /// When it was answered; `None` while it is not known to have ended.
    pub to_us: Option<u64>,
    /// What was asked and answered.
    pub did: Did,
}

/// What was asked and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// A value was stored. Each value is stored once in a history.
    Store {
        /// The value.
        value: i64,
        /// What came of it.
        outcome: Stored,
    },
    /// A value was asked for, to be taken. The template matches every value of the variable.
    Take(Taken),
    /// A value was asked for at the home; `None` is a decided "nothing there". A find that failed
    /// is not recorded.
    Find(Option<i64>),
    /// A value was asked for at the local replica.
    LocalFind(Option<i64>),
}

/// What came of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Decided by its home.
    Acknowledged,
    /// Accepted by its node; the end of the operation is its admission, if that is known.
    Pending,
    /// May or may not have happened.
    Unknown,
}

/// What came of a take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This value.
    Value(i64),
    /// A decided "nothing there".
    Empty,
    /// Certainly not executed.
    Unavailable,
    /// May or may not have happened; what it took it keeps.
    Unknown,
    /// The taker went away, or its answer was not received: it may have taken a value, and what it
    /// took may be put back to its place. The end of the operation is when that was certainly done;
    /// without an end it may happen later, or never.
    Cancelled,
}

impl Operation {
    /// An operation on a variable.
    #[must_use]
    pub fn new(
        client: u64,
        variable: impl Into<String>,
        from_us: u64,
        to_us: Option<u64>,
        did: Did,
    ) -> Self {
        Self {
            client,
            variable: Some(variable.into()),
            from_us,
            to_us,
            did,
        }
    }

    pub(super) fn check(&self) -> Result<(), HistoryError> {
        let to_us = self.to_us.unwrap_or(self.from_us);
        if to_us < self.from_us || to_us > MAX_TIME_US {
            let from_us = self.from_us;
            return Err(HistoryError::Times { from_us, to_us });
        }
        let open_ended = matches!(
            self.did,
            Did::Store {
                outcome: Stored::Pending | Stored::Unknown,
                ..
            } | Did::Take(Taken::Unavailable | Taken::Unknown | Taken::Cancelled)
        );
        if self.to_us.is_none() && !open_ended {
            return Err(HistoryError::NoResponse);
        }
        match &self.variable {
            None if matches!(self.did, Did::Store { .. }) => Err(HistoryError::NoVariable),
            Some(name) if name.len() > cpe_tuple::limits::MAX_NAME_BYTES => {
                Err(HistoryError::LongName(name.len()))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |us: u64| us as f64 / 1e6;
        write!(f, "{:.6}", seconds(self.from_us))?;
        match self.to_us {
            Some(to) => write!(f, "..{:.6} s", seconds(to))?,
            None => f.write_str(".. s")?,
        }
        write!(f, "  client {}: ", self.client)?;
        match self.did {
            Did::Store { value, outcome } => match outcome {
                Stored::Acknowledged => write!(f, "stored {value}"),
                Stored::Pending => write!(f, "stored {value} (pending)"),
                Stored::Unknown => write!(f, "stored {value} (perhaps)"),
            },
            Did::Take(Taken::Value(value)) => write!(f, "took {value}"),
            Did::Take(Taken::Empty) => f.write_str("took nothing: empty"),
            Did::Take(Taken::Unavailable) => f.write_str("took nothing: unavailable"),
            Did::Take(Taken::Unknown) => f.write_str("took, outcome unknown"),
            Did::Take(Taken::Cancelled) => f.write_str("took, cancelled"),
            Did::Find(Some(value)) => write!(f, "found {value}"),
            Did::Find(None) => f.write_str("found nothing"),
            Did::LocalFind(Some(value)) => write!(f, "found {value} locally"),
            Did::LocalFind(None) => f.write_str("found nothing locally"),
        }
    }
}
