//! The three lanes of a link and their bounds.

/// One of a link's long-lived framed streams. Order holds within a lane, not between lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Membership, acknowledgements, cancellation: small, urgent, loss-tolerant. Sending never
    /// waits; a full queue refuses.
    Control,
    /// Messages of peers and actors.
    Message,
    /// Snapshots and large values, sent in chunks so that nothing waits behind more than one.
    Bulk,
}

/// The bounds of a lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Bytes of one message, at most.
    pub message_bytes: usize,
    /// Messages waiting to be written to one link, at most.
    pub queue_messages: usize,
    /// Bytes waiting to be written to one link, at most; each message counts
    /// [`MESSAGE_OVERHEAD`] more than its length.
    pub queue_bytes: usize,
    /// Bytes received on this lane over all links and not yet taken by the program, at most;
    /// counted in the same way. When they are reached, this lane is read no further.
    pub inbound_bytes: usize,
}

/// Bytes. What a queued message costs beyond its contents, about.
pub const MESSAGE_OVERHEAD: usize = 64;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl Lane {
    /// All lanes, in the order of their substreams.
    pub const ALL: [Self; 3] = [Self::Control, Self::Message, Self::Bulk];

    /// The bounds of this lane.
    #[must_use]
    pub const fn limits(self) -> LaneLimits {
        match self {
            Self::Control => LaneLimits {
                message_bytes: 64 * KIB,
                queue_messages: 1024,
                queue_bytes: MIB,
                inbound_bytes: 4 * MIB,
            },
            Self::Message => LaneLimits {
                message_bytes: MIB,
                queue_messages: 4096,
                queue_bytes: 4 * MIB,
                inbound_bytes: 16 * MIB,
            },
            Self::Bulk => LaneLimits {
                message_bytes: 16 * MIB,
                queue_messages: 256,
                queue_bytes: 32 * MIB,
                inbound_bytes: 64 * MIB,
            },
        }
    }

    /// What logs and substream names call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Message => "message",
            Self::Bulk => "bulk",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
