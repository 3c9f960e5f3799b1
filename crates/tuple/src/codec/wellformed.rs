//! A check that bytes are exactly one well-formed CBOR item within bounds, before they are decoded.
//!
//! One pass, no recursion, no allocation. RFC 8949, appendix C has the grammar. The text of strings
//! is left to the decoder.

use super::{CodecError, MAX_NESTING};

/// A container that is not finished.
#[derive(Clone, Copy)]
enum Open {
    /// So many items are still to come; a map counts two for each entry, a tag is one of one.
    Items(u64),
    /// An array that ends with a break.
    Array,
    /// A map that ends with a break.
    Map { key_waits: bool },
}

/// What the head of an item says.
enum Head {
    /// The item holds no others and was read to its end.
    Leaf,
    Container(Open),
    Break,
}

/// Checks bytes; nesting deeper than `limit` (at most [`MAX_NESTING`]) is refused.
pub(super) fn check(bytes: &[u8], limit: usize) -> Result<(), CodecError> {
    let mut input = Input { bytes, offset: 0 };
    let mut stack = Stack {
        open: [Open::Items(0); MAX_NESTING],
        depth: 0,
    };
    loop {
        let start = input.offset;
        match input.head()? {
            Head::Container(Open::Items(0)) | Head::Leaf => {}
            Head::Container(open) => {
                if stack.depth == limit || !stack.push(open) {
                    return Err(CodecError::TooDeep {
                        offset: start,
                        limit,
                    });
                }
                continue;
            }
            Head::Break => match stack.top() {
                Some(Open::Array | Open::Map { key_waits: false }) => stack.depth -= 1,
                _ => return Err(malformed(start, "a break where none may stand")),
            },
        }
        if stack.finish_item() {
            break;
        }
    }
    match bytes.len() - input.offset {
        0 => Ok(()),
        rest => Err(CodecError::Trailing {
            offset: input.offset,
            bytes: rest,
        }),
    }
}

fn malformed(offset: usize, reason: &str) -> CodecError {
    CodecError::Malformed {
        offset,
        reason: reason.to_owned(),
    }
}

struct Stack {
    open: [Open; MAX_NESTING],
    depth: usize,
}

impl Stack {
    fn push(&mut self, open: Open) -> bool {
        let Some(slot) = self.open.get_mut(self.depth) else {
            return false;
        };
        *slot = open;
        self.depth += 1;
        true
    }

    fn top(&mut self) -> Option<&mut Open> {
        self.open.get_mut(self.depth.checked_sub(1)?)
    }

    /// Counts one item in the containers it lies in; true when it ended the outermost one.
    fn finish_item(&mut self) -> bool {
        while let Some(open) = self.top() {
            match open {
                Open::Items(left) => {
                    *left -= 1;
                    if *left > 0 {
                        return false;
                    }
                }
                Open::Array => return false,
                Open::Map { key_waits } => {
                    *key_waits = !*key_waits;
                    return false;
                }
            }
            self.depth -= 1;
        }
        true
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Input<'_> {
    /// Reads the head of an item, and all of it unless it is a container.
    fn head(&mut self) -> Result<Head, CodecError> {
        let start = self.offset;
        let initial = self.byte()?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        if info == 31 {
            return match major {
                2 | 3 => self.chunks(major),
                4 => Ok(Head::Container(Open::Array)),
                5 => Ok(Head::Container(Open::Map { key_waits: false })),
                7 => Ok(Head::Break),
                _ => Err(malformed(start, "an integer or tag without a value")),
            };
        }
        // Of the simple values only false, true, null and undefined have a meaning here.
        if major == 7 && !matches!(info, 20..=23 | 25..=27) {
            return Err(malformed(start, "an unassigned simple value"));
        }
        let argument = self.argument(start, info)?;
        match major {
            0 | 1 | 7 => Ok(Head::Leaf),
            2 | 3 => self.skip(start, argument),
            4 => self.items(start, Some(argument)),
            5 => self.items(start, argument.checked_mul(2)),
            _ => Ok(Head::Container(Open::Items(1))),
        }
    }

    /// The number in a head, whose lowest five bits are `info`.
    fn argument(&mut self, start: usize, info: u8) -> Result<u64, CodecError> {
        let width = match info {
            0..=23 => return Ok(u64::from(info)),
            24..=27 => 1 << (info - 24),
            _ => return Err(malformed(start, "a reserved head")),
        };
        let mut number = 0;
        for _ in 0..width {
            number = number << 8 | u64::from(self.byte()?);
        }
        Ok(number)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        let Some(byte) = self.bytes.get(self.offset) else {
            return Err(malformed(
                self.offset,
                "the bytes end in the middle of an item",
            ));
        };
        self.offset += 1;
        Ok(*byte)
    }

    const fn left(&self) -> u64 {
        (self.bytes.len() - self.offset) as u64
    }

    /// Skips the bytes of a string.
    fn skip(&mut self, start: usize, length: u64) -> Result<Head, CodecError> {
        if length > self.left() {
            return Err(malformed(
                start,
                "a string longer than the bytes that follow",
            ));
        }
        // Lossless: not more than is left of a slice.
        self.offset += length as usize;
        Ok(Head::Leaf)
    }

    /// A container of so many items, each of which takes a byte at least.
    fn items(&self, start: usize, items: Option<u64>) -> Result<Head, CodecError> {
        match items {
            Some(items) if items <= self.left() => Ok(Head::Container(Open::Items(items))),
            _ => Err(malformed(
                start,
                "a container of more items than bytes follow",
            )),
        }
    }

    /// The chunks of a string of unknown length, each a string of known length.
    fn chunks(&mut self, major: u8) -> Result<Head, CodecError> {
        loop {
            let start = self.offset;
            let initial = self.byte()?;
            if initial == 0xff {
                return Ok(Head::Leaf);
            }
            if initial >> 5 != major || initial & 0x1f == 31 {
                return Err(malformed(start, "a chunk of another type than its string"));
            }
            let length = self.argument(start, initial & 0x1f)?;
            self.skip(start, length)?;
        }
    }
}
