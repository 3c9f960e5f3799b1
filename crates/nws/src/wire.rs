//! The bytes of the protocol: requests read piece by piece, replies written.
//!
//! ```text
//! connection   4 bytes from the client, then "2223" from the server, then requests
//! request      NNNN, then NNNN arguments: 20 digits of length, that many bytes
//! status       4 digits
//! value        status, 20 digits of descriptor, [20 bytes of variable id, 20 digits of index,]
//!              20 digits of length, that many bytes
//! ```
//!
//! # Example
//! ```
//! use cpe_nws::wire::{Decoder, Item};
//!
//! let mut decoder = Decoder::default();
//! let mut input: &[u8] = b"1112000100000000000000000008list wss";
//! let mut items = Vec::new();
//! while let Some(item) = decoder.next(&mut input)? {
//!     items.push(item);
//! }
//! assert_eq!(
//!     items,
//!     [
//!         Item::Handshake(*b"1112"),
//!         Item::Begin { arguments: 1 },
//!         Item::Argument { length: 8 },
//!         Item::Bytes(b"list wss"),
//!         Item::End,
//!     ]
//! );
//! # Ok::<(), cpe_nws::wire::Malformed>(())
//! ```

mod collect;
mod decode;
mod reply;

pub use collect::{Collector, Kept, Request};
pub use decode::{Decoder, Item, Malformed};
pub use reply::{Cookie, HANDSHAKE, Head, Reply, has_cookies};
