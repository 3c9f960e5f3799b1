//! Frames on a lane: how messages become bytes and bytes become messages again.
//!
//! ```text
//! u32 length of what follows | u8 kind | at most CHUNK_MAX bytes
//! ```
//! A message up to [`CHUNK_MAX`] bytes is one `WHOLE` frame; a longer one is a run of `PART`
//! frames closed by a `LAST` one, with nothing between them.

use bytes::Bytes;

/// Bytes of contents in one frame, at most: what a message on another lane may have to wait for.
pub(crate) const CHUNK_MAX: usize = 64 * 1024;
/// Bytes before the contents of a frame.
pub(crate) const HEAD: usize = 5;

const WHOLE: u8 = 0;
const PART: u8 = 1;
const LAST: u8 = 2;

/// Bytes of a reader's buffer at first; it doubles while reads fill it.
const BUFFER_MIN: usize = 4 * 1024;
/// Bytes of a reader's buffer, at most: any frame fits, and a full one beside it.
const BUFFER_MAX: usize = 2 * (CHUNK_MAX + HEAD);

/// What no writer of ours produces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes, at most {max} allowed", max = CHUNK_MAX + 1)]
    Length(u32),
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("a part of a message that has no bytes")]
    EmptyPart,
    #[error("a whole message in the middle of another one")]
    Interrupted,
    #[error("a message above the lane's limit of {0} bytes")]
    TooLarge(usize),
}

/// The frames of one message, in order.
pub(crate) fn frames(message: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let single = message.len() <= CHUNK_MAX;
    let mut rest = Some(message);
    std::iter::from_fn(move || {
        let message = rest.take()?;
        match message.split_at_checked(CHUNK_MAX) {
            Some((chunk, more)) if !more.is_empty() => {
                rest = Some(more);
                Some((PART, chunk))
            }
            _ => Some((if single { WHOLE } else { LAST }, message)),
        }
    })
}

/// Appends one frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, contents: &[u8]) {
    // Contents are at most `CHUNK_MAX` long.
    let length = u32::try_from(contents.len() + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(contents);
}

/// Takes frames apart. Memory: the buffer, and one message within the lane's limit.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: Vec<u8>,
    /// Invariant: `start <= end <= buffer.len()`; the bytes between are not parsed yet.
    start: usize,
    end: usize,
    /// The parts of a message whose last part has not come. Never empty while one is under way.
    parts: Vec<u8>,
    message_max: usize,
}

impl FrameReader {
    pub(crate) fn new(message_max: usize) -> Self {
        Self {
            buffer: vec![0; BUFFER_MIN],
            start: 0,
            end: 0,
            parts: Vec::new(),
            message_max,
        }
    }

    /// Room to read into; never empty once `next` has returned `None`.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let half_full = self.end * 2 >= self.buffer.len();
        if half_full && self.buffer.len() < BUFFER_MAX {
            let size = (self.buffer.len() * 2).min(BUFFER_MAX);
            self.buffer.resize(size, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Tells that so many bytes were read into the space.
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
        if self.end == self.buffer.len() && self.buffer.len() < BUFFER_MAX {
            let size = (self.buffer.len() * 2).min(BUFFER_MAX);
            self.buffer.resize(size, 0);
        }
    }

    /// The next whole message, or `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let Some((head, rest)) = unread.split_first_chunk::<4>() else {
                return Ok(None);
            };
            let length = u32::from_be_bytes(*head);
            let size = usize::try_from(length).unwrap_or(usize::MAX);
            if size == 0 || size > CHUNK_MAX + 1 {
                return Err(FrameError::Length(length));
            }
            let Some((frame, _)) = rest.split_at_checked(size) else {
                return Ok(None);
            };
            let Some((kind, contents)) = frame.split_first() else {
                return Ok(None);
            };
            if self.parts.len() + contents.len() > self.message_max {
                return Err(FrameError::TooLarge(self.message_max));
            }
            let message = match *kind {
                WHOLE if self.parts.is_empty() => Some(Bytes::copy_from_slice(contents)),
                WHOLE => return Err(FrameError::Interrupted),
                PART | LAST if contents.is_empty() => return Err(FrameError::EmptyPart),
                PART => {
                    self.parts.extend_from_slice(contents);
                    None
                }
                LAST => {
                    self.parts.extend_from_slice(contents);
                    Some(Bytes::from(std::mem::take(&mut self.parts)))
                }
                other => return Err(FrameError::Kind(other)),
            };
            self.start += 4 + size;
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// Whether bytes of an unfinished frame or message are left.
    pub(crate) fn unfinished(&self) -> bool {
        self.start != self.end || !self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1024 * 1024;

    fn encode(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            for (kind, contents) in frames(message) {
                put_frame(&mut out, kind, contents);
            }
        }
        out
    }

    /// Feeds bytes in pieces of at most `piece` and collects what comes out.
    fn decode(mut bytes: &[u8], piece: usize, limit: usize) -> Result<Vec<Bytes>, FrameError> {
        let mut reader = FrameReader::new(limit);
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let space = reader.space();
            assert!(!space.is_empty());
            let n = space.len().min(piece).min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            reader.filled(n);
            while let Some(message) = reader.next()? {
                messages.push(message);
            }
            assert!(reader.buffer.len() <= BUFFER_MAX);
        }
        assert!(!reader.unfinished());
        Ok(messages)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn messages_survive_any_fragmentation(
            sizes in prop::collection::vec(prop_oneof![
                0..200_usize, CHUNK_MAX - 2..CHUNK_MAX + 3, 0..4 * CHUNK_MAX
            ], 0..6),
            piece in prop_oneof![1..20_usize, 1..200_000_usize],
        ) {
            let messages: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, n)| vec![i as u8; *n]).collect();
            let piece = piece.max(sizes.iter().sum::<usize>() / 5000);
            let back = decode(&encode(&messages), piece, LIMIT).unwrap();
            prop_assert_eq!(back, messages);
        }

        #[test]
        fn any_bytes_give_messages_or_an_error_within_bounds(
            bytes in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..2000),
        ) {
            let mut reader = FrameReader::new(LIMIT);
            let space = reader.space();
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            reader.filled(n);
            while let Ok(Some(_)) = reader.next() {}
            prop_assert!(reader.buffer.len() <= BUFFER_MAX);
        }
    }

    #[test]
    fn each_kind_of_garbage_has_its_error() {
        let frame = |kind, contents: &[u8]| {
            let mut out = Vec::new();
            put_frame(&mut out, kind, contents);
            out
        };
        assert_eq!(decode(&[0, 0, 0, 0], 9, LIMIT), Err(FrameError::Length(0)));
        assert_eq!(
            decode(&[0xff; 8], 9, LIMIT),
            Err(FrameError::Length(u32::MAX))
        );
        assert_eq!(decode(&frame(7, b"x"), 9, LIMIT), Err(FrameError::Kind(7)));
        assert_eq!(
            decode(&frame(PART, b""), 9, LIMIT),
            Err(FrameError::EmptyPart)
        );
        let interrupted = [frame(PART, b"x"), frame(WHOLE, b"y")].concat();
        assert_eq!(
            decode(&interrupted, 99, LIMIT),
            Err(FrameError::Interrupted)
        );
        let large = encode(&[vec![0; CHUNK_MAX * 2]]);
        assert_eq!(
            decode(&large, CHUNK_MAX, 1000),
            Err(FrameError::TooLarge(1000))
        );
    }

    #[test]
    fn a_cut_frame_is_noticed() {
        let mut reader = FrameReader::new(LIMIT);
        reader.space()[..3].copy_from_slice(&[0, 0, 0]);
        reader.filled(3);
        assert_eq!(reader.next(), Ok(None));
        assert!(reader.unfinished());
    }
}
