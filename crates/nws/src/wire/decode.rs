//! Requests out of a stream of bytes.

use crate::limits::{ARGUMENTS_MAX, LENGTH_MAX};

/// What is wrong with the bytes. The connection is to be closed: where the next request would begin
/// is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A count of arguments, or a length, that is not decimal.
    #[error("{0:?} is not a decimal number")]
    NotDecimal(String),
    /// A request has at least one argument, and fewer than this.
    #[error("a request of {0} arguments; they are 1 to {ARGUMENTS_MAX}")]
    Arguments(u64),
    /// An argument that nobody has room for.
    #[error("an argument of {0} bytes; no more than {LENGTH_MAX} are believed")]
    Length(u64),
}

/// A piece of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The first four bytes of the connection.
    Handshake([u8; 4]),
    /// A request begins.
    Begin {
        /// How many arguments it has.
        arguments: usize,
    },
    /// An argument begins.
    Argument {
        /// Bytes it has.
        length: u64,
    },
    /// Some of its bytes, in order.
    Bytes(&'a [u8]),
    /// The request is complete.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Handshake,
    Count,
    /// So many arguments are to come.
    Length(usize),
    /// Bytes of an argument to come, and arguments after it.
    Body(u64, usize),
}

/// Digits of a length.
const LENGTH_DIGITS: usize = 20;

/// Bytes of a handshake, and digits of a count.
const SHORT: usize = 4;

/// Reads requests out of pieces of any size, in constant memory: arguments are passed on as they
/// come.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// A number, or the handshake, as far as it has come.
    field: [u8; LENGTH_DIGITS],
    filled: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            state: State::Handshake,
            field: [0; LENGTH_DIGITS],
            filled: 0,
        }
    }
}

impl Decoder {
    /// The next item of the input, which moves on past it; `None` when more bytes are needed, and
    /// then the input is used up.
    ///
    /// # Errors
    /// [`Malformed`]: the decoder must not be used any more.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, Malformed> {
        loop {
            match self.state {
                State::Handshake => {
                    if !self.fill(input, SHORT) {
                        return Ok(None);
                    }
                    self.state = State::Count;
                    let [a, b, c, d, ..] = self.field;
                    return Ok(Some(Item::Handshake([a, b, c, d])));
                }
                State::Count => {
                    if !self.fill(input, SHORT) {
                        return Ok(None);
                    }
                    let count = self.number(SHORT)?;
                    let arguments = usize::try_from(count).unwrap_or(usize::MAX);
                    if !(1..=ARGUMENTS_MAX).contains(&arguments) {
                        return Err(Malformed::Arguments(count));
                    }
                    self.state = State::Length(arguments);
                    return Ok(Some(Item::Begin { arguments }));
                }
                State::Length(0) => {
                    self.state = State::Count;
                    return Ok(Some(Item::End));
                }
                State::Length(left) => {
                    if !self.fill(input, LENGTH_DIGITS) {
                        return Ok(None);
                    }
                    let length = self.number(LENGTH_DIGITS)?;
                    if length > LENGTH_MAX {
                        return Err(Malformed::Length(length));
                    }
                    self.state = State::Body(length, left - 1);
                    return Ok(Some(Item::Argument { length }));
                }
                State::Body(0, left) => self.state = State::Length(left),
                State::Body(bytes, left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let most = usize::try_from(bytes).unwrap_or(usize::MAX);
                    let (piece, rest) = input.split_at(most.min(input.len()));
                    *input = rest;
                    self.state = State::Body(bytes - piece.len() as u64, left);
                    return Ok(Some(Item::Bytes(piece)));
                }
            }
        }
    }

    /// True when nothing of a request has come since the last one.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.state == State::Count && self.filled == 0
    }

    /// Moves bytes into the field until it has so many; false when they are not there yet.
    fn fill(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted - self.filled;
        let (piece, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        if let Some(room) = self.field.get_mut(self.filled..self.filled + piece.len()) {
            room.copy_from_slice(piece);
        }
        self.filled += piece.len();
        if self.filled < wanted {
            return false;
        }
        self.filled = 0;
        true
    }

    fn number(&self, digits: usize) -> Result<u64, Malformed> {
        let text = self.field.get(..digits).unwrap_or_default();
        let mut number: u64 = 0;
        for byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                let shown = text.escape_ascii().to_string();
                return Err(Malformed::NotDecimal(shown));
            }
            // 20 digits may be more than 64 bits: then it is too long in any case.
            number = number.saturating_mul(10).saturating_add(u64::from(digit));
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
