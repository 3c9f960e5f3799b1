//! The bounds of the gateway.

use std::time::Duration;

/// Connections at a time. More wait in the system's backlog.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Arguments of a request. The longest operation has seven.
pub const ARGUMENTS_MAX: usize = 16;

/// Bytes. The longest argument other than a payload. Longer ones are read, forgotten and refused.
pub const ARGUMENT_BYTES_MAX: usize = 4 * 1024;

/// Bytes. The longest name of a variable.
pub const NAME_BYTES_MAX: usize = cpe_tuple::limits::MAX_NAME_BYTES;

/// Bytes. The largest payload that is held in memory as a whole. Larger ones are written to the
/// disk and read from it as they come and go, part by part.
pub const WHOLE_BYTES_MAX: usize = cpe_tuple::blob::MAX_INLINE_BYTES;

/// Bytes. The largest payload: 16 GiB. Larger ones are read, forgotten and refused.
pub const PAYLOAD_BYTES_MAX: u64 = cpe_tuple::blob::MAX_BLOB_BYTES;

/// Bytes. What a large payload holds of memory while it is under way: one part of it, and what is
/// read of the next one.
pub const PARTS_BYTES: usize = 2 * cpe_tuple::blob::CHUNK_BYTES;

/// Bytes. A length beyond it is no length but garbage: the connection is closed. 16 TiB.
pub const LENGTH_MAX: u64 = 1 << 44;

/// KiB. Payloads under way at a time, over all connections, both ways. Who would exceed it waits
/// for others to be done.
pub const UNDER_WAY_KIB_MAX: usize = 256 * 1024;

/// Bytes. Payloads up to this size are not counted as under way.
pub const SMALL_BYTES: usize = 16 * 1024;

/// Workspaces that one connection may have open.
pub const OPEN_MAX: usize = 4_096;

/// The same, of all connections of a node: their names are held in memory.
pub const OPEN_ALL_MAX: usize = 64 * OPEN_MAX;

/// Variables remembered as possibly left in an instance that is gone. More are left to the deletion
/// of the next instance.
pub const LEFTOVERS_MAX: usize = 65_536;

/// How long a client that is sending a request may be waited for. Each second of waiting takes one
/// away, and each [`SLOWEST_BYTES_PER_SECOND`] that have come bring one back, up to this. Then its
/// connection is closed. What it says is to come counts for nothing.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(60);

/// How long a client that is taking in an answer may be waited for: the same.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Bytes per second. A client slower than this is cut off in the middle of a large value.
pub const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;

/// How long after the last sign of life the system probes a silent connection, the pause between
/// its probes, and how many go unanswered before it is closed: after two minutes in all.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// See [`KEEPALIVE_AFTER`].
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// See [`KEEPALIVE_AFTER`].
pub const KEEPALIVE_PROBES: u32 = 4;

/// How long the system waits for what it has sent to be taken, where it can be told (Linux): an
/// answer on its way to a client that is gone would else keep its connection for a quarter of an
/// hour. A client that takes nothing at all for so long is closed too.
pub const UNTAKEN_WITHIN: Duration = Duration::from_secs(120);

/// How long the homes may take to decide something before it is refused.
pub const DECIDED_WITHIN: Duration = Duration::from_secs(10);

/// How long a request that waits for a value waits: for ever, in terms of a node's life.
pub const WAITS: Duration = Duration::from_secs(366 * 24 * 3600);
