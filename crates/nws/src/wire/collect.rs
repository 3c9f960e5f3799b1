//! A request put together from its pieces, within bounds.

use super::Item;
use cpe_tuple::Blob;

use crate::limits::{ARGUMENT_BYTES_MAX, PAYLOAD_BYTES_MAX, WHOLE_BYTES_MAX};

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The operation, and what it is given.
    pub arguments: Vec<Vec<u8>>,
    /// An argument was longer than is taken, or could not be kept: it is empty here.
    pub is_too_large: bool,
    /// The payload, if it lies apart: its argument is empty here.
    pub apart: Option<Blob>,
}

/// The argument of a `store` that may be large.
const PAYLOAD: usize = 4;

/// What is done with an argument that begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// It is collected.
    #[default]
    Whole,
    /// Its bytes are for somebody else: a payload too large to be held.
    Apart,
    /// It is too large for anybody.
    Not,
}

/// Collects a request. It holds no more than [`WHOLE_BYTES_MAX`] and a few arguments of
/// [`ARGUMENT_BYTES_MAX`], and reserves nothing for what only was announced.
#[derive(Debug, Default)]
pub struct Collector {
    request: Request,
    kept: Kept,
}

impl Collector {
    /// Adds a piece; returns the request when it is complete.
    pub fn add(&mut self, item: Item<'_>) -> Option<Request> {
        match item {
            Item::Handshake(_) => {}
            Item::Begin { .. } => self.request = Request::default(),
            Item::Argument { length } => {
                self.kept = self.keeps(length);
                self.request.is_too_large |= self.kept == Kept::Not;
                // It grows as it comes: whoever reads decides how much may come.
                self.request.arguments.push(Vec::new());
            }
            Item::Bytes(piece) => {
                if let Some(last) = self.request.arguments.last_mut()
                    && self.kept == Kept::Whole
                {
                    last.extend_from_slice(piece);
                }
            }
            Item::End => return Some(std::mem::take(&mut self.request)),
        }
        None
    }

    /// What will be done with the argument that comes next, if it has this length.
    fn keeps(&self, length: u64) -> Kept {
        let operation = self.request.arguments.first().map(Vec::as_slice);
        let is_payload = self.request.arguments.len() == PAYLOAD && operation == Some(b"store");
        let most = if is_payload {
            WHOLE_BYTES_MAX
        } else {
            ARGUMENT_BYTES_MAX
        };
        if length <= most as u64 {
            Kept::Whole
        } else if is_payload && length <= PAYLOAD_BYTES_MAX {
            Kept::Apart
        } else {
            Kept::Not
        }
    }

    /// What is done with the argument that has begun.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// The arguments so far: the last one may not be complete.
    #[must_use]
    pub fn arguments(&self) -> &[Vec<u8>] {
        &self.request.arguments
    }

    /// What has begun cannot be kept: the request is to be refused when it is complete.
    pub fn refuse(&mut self) {
        self.request.is_too_large = true;
    }
}
