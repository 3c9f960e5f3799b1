//! A request put together from its pieces, within bounds.

use super::Item;
use crate::limits::{ARGUMENT_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The operation, and what it is given.
    pub arguments: Vec<Vec<u8>>,
    /// An argument was longer than is taken: it is empty here.
    pub is_too_large: bool,
}

/// The argument of a `store` that may be large.
const PAYLOAD: usize = 4;

/// Bytes reserved for an argument before any of them has come.
const RESERVE_MAX: usize = 64 * 1024;

/// Collects a request. It holds no more than [`PAYLOAD_BYTES_MAX`] and a few arguments of
/// [`ARGUMENT_BYTES_MAX`], and reserves nothing for what only was announced.
#[derive(Debug, Default)]
pub struct Collector {
    request: Request,
    skips: bool,
}

impl Collector {
    /// Adds a piece; returns the request when it is complete.
    pub fn add(&mut self, item: Item<'_>) -> Option<Request> {
        match item {
            Item::Handshake(_) => {}
            Item::Begin { .. } => self.request = Request::default(),
            Item::Argument { length } => {
                let limit = self.limit();
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.skips = length > limit;
                self.request.is_too_large |= self.skips;
                let reserved = if self.skips {
                    0
                } else {
                    length.min(RESERVE_MAX)
                };
                self.request.arguments.push(Vec::with_capacity(reserved));
            }
            Item::Bytes(piece) => {
                if let Some(last) = self.request.arguments.last_mut()
                    && !self.skips
                {
                    last.extend_from_slice(piece);
                }
            }
            Item::End => return Some(std::mem::take(&mut self.request)),
        }
        None
    }

    /// How long the argument that comes next may be.
    #[must_use]
    pub fn limit(&self) -> usize {
        let operation = self.request.arguments.first().map(Vec::as_slice);
        if self.request.arguments.len() == PAYLOAD && operation == Some(b"store") {
            PAYLOAD_BYTES_MAX
        } else {
            ARGUMENT_BYTES_MAX
        }
    }
}
