//! Operations and leases as text: what a user keeps to come back to them later, from any node.

use std::fmt;
use std::str::FromStr;

use cpe_membership::{Incarnation, Member, NodeId};
use cpe_space::{LeaseId, OpId, Session, ShardId};

/// An operation, with the shard whose home decides it: `SHARD.NODE.LIFE.START.NUMBER`, as in
/// `12.00000000000000a1.1.3.17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpHandle {
    /// The shard.
    pub shard: ShardId,
    /// The operation.
    pub op: OpId,
}

/// A lease, with the shard that gave it: the handle of its take and the fencing token, as in
/// `12.00000000000000a1.1.3.17.4711`. Whoever has it may act on the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseHandle {
    /// The shard.
    pub shard: ShardId,
    /// The lease.
    pub lease: LeaseId,
}

/// A text that is no handle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the handle of {what}: it has {parts} numbers with dots between")]
pub struct HandleError {
    text: String,
    what: &'static str,
    parts: usize,
}

/// Characters of a wrong handle shown in an error.
const SHOWN_MAX: usize = 100;

impl HandleError {
    fn new(text: &str, what: &'static str, parts: usize) -> Self {
        let text = text.chars().take(SHOWN_MAX).collect();
        Self { text, what, parts }
    }
}

impl LeaseHandle {
    /// The take that made it.
    #[must_use]
    pub fn op(&self) -> OpHandle {
        OpHandle {
            shard: self.shard,
            op: self.lease.op,
        }
    }

    /// The fencing token: higher for a later lease of the same tuple.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.lease.token
    }
}

impl fmt::Display for OpHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.shard, self.op)
    }
}

impl fmt::Display for LeaseHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.op(), self.lease.token)
    }
}

impl FromStr for OpHandle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let handle = read(&mut parts).filter(|_| parts.next().is_none());
        handle.ok_or_else(|| HandleError::new(text, "an operation", 5))
    }
}

impl FromStr for LeaseHandle {
    type Err = HandleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let handle = read(&mut parts).and_then(|OpHandle { shard, op }| {
            let token = number(parts.next()?)?;
            let lease = LeaseId { op, token };
            parts.next().is_none().then_some(Self { shard, lease })
        });
        handle.ok_or_else(|| HandleError::new(text, "a lease", 6))
    }
}

fn read<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<OpHandle> {
    let shard = ShardId(number(parts.next()?)?);
    let node = parts.next().filter(|text| digits(text))?;
    let node = node.parse::<NodeId>().ok()?;
    let inc = Incarnation(number(parts.next()?)?);
    let boot = number(parts.next()?)?;
    let seq = number(parts.next()?)?;
    let session = Session {
        member: Member { node, inc },
        boot,
    };
    let op = OpId { session, seq };
    Some(OpHandle { shard, op })
}

/// The parsers of the standard library take a sign.
fn digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| digits(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> LeaseHandle {
        let member = Member {
            node: NodeId(0xa1),
            inc: Incarnation(1),
        };
        let session = Session { member, boot: 3 };
        let op = OpId { session, seq: 17 };
        let lease = LeaseId { op, token: 4711 };
        LeaseHandle {
            shard: ShardId(12),
            lease,
        }
    }

    #[test]
    fn handles_are_read_as_they_are_written() {
        let text = handle().to_string();
        assert_eq!(text, "12.00000000000000a1.1.3.17.4711");
        assert_eq!(text.parse(), Ok(handle()));
        let text = handle().op().to_string();
        assert_eq!(text, "12.00000000000000a1.1.3.17");
        assert_eq!(text.parse(), Ok(handle().op()));
    }

    #[test]
    fn what_is_not_a_handle_is_told_so() {
        for text in [
            "",
            "12",
            "12.a1.1.3.17.4711.9",
            "12.a1.1.3.x.4711",
            "12.+a1.1.3.17.4711",
            "-12.a1.1.3.17.4711",
            "70000.a1.1.3.17.4711",
            "12.a1.1.3.17.99999999999999999999",
            "12.a1.1.3.17.",
        ] {
            assert!(text.parse::<LeaseHandle>().is_err(), "{text}");
        }
        assert!("12.a1.1.3.17.4711".parse::<OpHandle>().is_err());
        let long = "x".repeat(1_000).parse::<OpHandle>().unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
    }
}
