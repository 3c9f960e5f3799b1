//! Bounded reading and writing of the few binary forms of this crate. Integers are big endian.

use bytes::{BufMut, BytesMut};

/// Why bytes from a peer or a file are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end before the value does.
    #[error("{what} is cut short")]
    Short {
        /// The value that was being read.
        what: &'static str,
    },
    /// A length or count is above its limit.
    #[error("{what} is {found}, at most {limit} allowed")]
    TooLong {
        /// The value that was being read.
        what: &'static str,
        /// The length found.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A value that no version of this program writes.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The value that was being read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes follow the end of the value.
    #[error("{extra} bytes follow the end of {what}")]
    Trailing {
        /// The value that was read.
        what: &'static str,
        /// How many bytes are too many.
        extra: usize,
    },
}

impl WireError {
    pub(crate) fn invalid(what: &'static str, why: impl ToString) -> Self {
        Self::Invalid {
            what,
            why: why.to_string(),
        }
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or(WireError::Short { what })?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Bytes behind a `u16` length.
    pub(crate) fn bytes(
        &mut self,
        limit: usize,
        what: &'static str,
    ) -> Result<&'a [u8], WireError> {
        let found = usize::from(self.u16(what)?);
        if found > limit {
            return Err(WireError::TooLong { what, found, limit });
        }
        self.take(found, what)
    }

    pub(crate) fn text(&mut self, limit: usize, what: &'static str) -> Result<String, WireError> {
        let bytes = self.bytes(limit, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(WireError::invalid(what, error)),
        }
    }

    /// Refuses what follows the value.
    pub(crate) fn end(self, what: &'static str) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::Trailing { what, extra }),
        }
    }
}

/// Appends `bytes` behind a `u16` length. Callers have checked the length against its limit.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(bytes.split_at(usize::from(length)).0);
}
