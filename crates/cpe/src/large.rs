//! Large values: apart from their tuples, streamed in and out.
//!
//! The other methods of [`Space`] take values apart and put them together by themselves, as far as
//! they fit in memory. These here take and give any size.

use std::time::Duration;

use bytes::Bytes;
use cpe_mesh::{Ack, Command, Reply};
use cpe_storage::{BodyReader, BodyWriter};
use cpe_tuple::blob::{CHUNK_BYTES, MAX_INLINE_BYTES};
use cpe_tuple::limits::MAX_TUPLE_BYTES;
use cpe_tuple::{Blob, Field, Template, Tuple, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::space::Stored;
use crate::{Space, SpaceError};

/// Bytes. The largest value that [`Space::store`], [`Space::find`], [`Space::fetch`] and their kin
/// take and give in memory: 64 MiB. Larger ones go in by [`Space::store_from`] and come out by
/// [`Space::find_into`] and [`Space::fetch_into`].
pub const WHOLE_BYTES_MAX: usize = 64 << 20;

/// How long a transfer may stand still before it is given up.
const STANDSTILL: Duration = Duration::from_secs(15);

/// How long the disk may take to make a body durable.
const ADOPT_DEADLINE: Duration = Duration::from_secs(60);

/// Bytes a second at which bodies reach a majority, at least: a store waits that much longer.
const SLOWEST: u64 = 2 << 20;

impl Space {
    /// Adds `[name, value]` with a value read to its end: a string if `text`, else bytes. Holds a
    /// few chunks of it in memory. Waits up to `deadline` for the home, and longer for the value to
    /// get there.
    ///
    /// # Errors
    /// [`SpaceError::Body`] when it cannot be read or written, is above
    /// [`MAX_BLOB_BYTES`](cpe_tuple::blob::MAX_BLOB_BYTES), or is `text` and not UTF-8; else as for
    /// [`out_with`](Self::out_with).
    pub async fn store_from(
        &self,
        ws: &str,
        name: Value,
        source: impl AsyncRead + Unpin,
        text: bool,
        ack: Ack,
        deadline: Duration,
    ) -> Result<Stored, SpaceError> {
        let value = self.put(source, text).await?;
        let tuple = Tuple::new(vec![name, value])?;
        self.out_with(ws, tuple, ack, deadline).await
    }

    /// Writes a value to this node's disk and returns what stands for it in a tuple: itself if it
    /// is small, else a reference. A body that no tuple refers to within a minute is deleted.
    ///
    /// # Errors
    /// As for [`store_from`](Self::store_from).
    pub async fn put(
        &self,
        mut source: impl AsyncRead + Unpin,
        text: bool,
    ) -> Result<Value, SpaceError> {
        let mut checked = Utf8::default();
        let mut chunk = next_chunk(&mut source).await?;
        if chunk.len() <= MAX_INLINE_BYTES {
            return if text {
                let text = String::from_utf8(chunk);
                text.map(Value::from).map_err(|_| not_text())
            } else {
                Ok(Value::Bytes(chunk))
            };
        }
        let mut writer = self.writer().await?;
        while !chunk.is_empty() {
            if text {
                checked.take(&chunk)?;
            }
            let last = chunk.len() < CHUNK_BYTES;
            writer = write(writer, chunk).await?;
            if last {
                break;
            }
            chunk = next_chunk(&mut source).await?;
        }
        if text {
            checked.end()?;
        }
        self.adopt(writer, text).await.map(Value::from)
    }

    /// Waits for a value of a variable, writes it out and leaves it; returns its length and whether
    /// it is a string or bytes. Other values are written as JSON.
    ///
    /// # Errors
    /// As for [`find`](Self::find); [`SpaceError::Body`] when it cannot be written.
    pub async fn find_into(
        &self,
        ws: &str,
        template: Template,
        sink: impl AsyncWrite + Unpin,
        deadline: Duration,
    ) -> Result<u64, SpaceError> {
        let found = self.read(ws, template, true, false, deadline).await?;
        let found = found.ok_or(SpaceError::Unexpected)?;
        self.open_value(ws, found).await?.copy_to(sink).await
    }

    /// Waits for a value of a variable, writes it out and takes it. When it cannot be written to
    /// its end, or the future is dropped before, it goes back.
    ///
    /// # Errors
    /// As for [`fetch`](Self::fetch); [`SpaceError::Body`] when it cannot be written.
    pub async fn fetch_into(
        &self,
        ws: &str,
        template: Template,
        sink: impl AsyncWrite + Unpin,
        deadline: Duration,
    ) -> Result<u64, SpaceError> {
        let taken = self.open_taken(ws, template, true, deadline).await?;
        let taken = taken.ok_or(SpaceError::Unexpected)?;
        let written = taken.value.copy_to(sink).await?;
        taken.receipt.confirm();
        Ok(written)
    }

    /// Finds `[name, any]` and opens its value, to be read chunk by chunk; `None` if there is none
    /// and `wait` is false.
    ///
    /// # Errors
    /// As for [`find`](Self::find), and [`find_try`](Self::find_try) with `wait` false.
    pub async fn open_found(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        deadline: Duration,
    ) -> Result<Option<LargeValue>, SpaceError> {
        let found = self.read(ws, template, wait, !wait, deadline).await?;
        match found {
            Some(tuple) => self.open_value(ws, tuple).await.map(Some),
            None => Ok(None),
        }
    }

    /// Takes `[name, any]` and opens its value. Unless the receipt is confirmed, it goes back.
    ///
    /// # Errors
    /// As for [`fetch`](Self::fetch).
    pub async fn open_taken(
        &self,
        ws: &str,
        template: Template,
        wait: bool,
        deadline: Duration,
    ) -> Result<Option<TakenValue>, SpaceError> {
        let command = Command::Take {
            workspace: ws.to_owned(),
            template: by_reference(template)?,
            wait,
            deadline,
        };
        match self.desk.ask_held(command).await? {
            (Reply::Tuple(Some(tuple)), Some(receipt)) => {
                let value = self.open_value(ws, tuple).await?;
                let receipt = Receipt(receipt);
                Ok(Some(TakenValue { value, receipt }))
            }
            (Reply::Tuple(None), _) => Ok(None),
            _ => Err(SpaceError::Unexpected),
        }
    }

    /// Opens the value of a tuple `[name, value]` that was read or taken, to be read by chunks.
    ///
    /// # Errors
    /// [`SpaceError::NotAVariable`] for a tuple of another form; `Unavailable` when the value lies
    /// apart and nobody who has it can be reached.
    pub async fn open_second(&self, ws: &str, tuple: Tuple) -> Result<LargeValue, SpaceError> {
        self.open_value(ws, tuple).await
    }

    /// Begins to write a large value that comes in parts of any size.
    ///
    /// # Errors
    /// [`SpaceError::Body`] when the disk refuses it.
    pub async fn write_large(&self) -> Result<LargeWriter, SpaceError> {
        Ok(LargeWriter {
            space: self.clone(),
            writer: Some(self.writer().await?),
            chunk: Vec::new(),
            text: Some(Utf8::default()),
        })
    }

    /// The value of `[name, value]`, ready to be read.
    async fn open_value(&self, ws: &str, tuple: Tuple) -> Result<LargeValue, SpaceError> {
        let variable = cpe_space::variable_of(&tuple);
        let value = crate::space::value_of(tuple)?;
        let Value::Blob(blob) = value else {
            return Ok(LargeValue(Source::Small(Some(value))));
        };
        let reader = self.open_body(ws, variable, *blob).await?;
        Ok(LargeValue(Source::Large {
            blob: *blob,
            reader: Some(reader),
            next: 0,
        }))
    }

    /// Fetches a body to this node and opens it.
    async fn open_body(
        &self,
        ws: &str,
        variable: Value,
        blob: Blob,
    ) -> Result<BodyReader, SpaceError> {
        let command = Command::Gather {
            blob,
            workspace: ws.to_owned(),
            variable,
            deadline: STANDSTILL,
        };
        crate::space::done(self.desk.ask(command).await?)?;
        let bodies = self.desk.bodies.clone();
        blocking(move || bodies.read(blob.hash())).await
    }

    async fn writer(&self) -> Result<BodyWriter, SpaceError> {
        let bodies = self.desk.bodies.clone();
        blocking(move || bodies.create()).await
    }

    async fn adopt(&self, writer: BodyWriter, text: bool) -> Result<Blob, SpaceError> {
        let new = blocking(move || writer.finish(text)).await?;
        let (token, blob) = (new.token(), new.blob());
        let deadline = ADOPT_DEADLINE;
        let command = Command::Adopt {
            token,
            blob,
            deadline,
        };
        crate::space::done(self.desk.ask(command).await?)?;
        Ok(blob)
    }

    /// What stands for a value in a tuple: a reference if it is large.
    pub(crate) async fn apart(&self, value: Value) -> Result<Value, SpaceError> {
        let (text, bytes) = match value {
            Value::String(s) if s.len() > MAX_INLINE_BYTES => (true, s.into_bytes()),
            Value::Bytes(b) if b.len() > MAX_INLINE_BYTES => (false, b),
            small => return Ok(small),
        };
        if bytes.len() > WHOLE_BYTES_MAX {
            return Err(SpaceError::Body(format!(
                "a value of {} bytes; above {WHOLE_BYTES_MAX} they are to be streamed",
                bytes.len()
            )));
        }
        let bodies = self.desk.bodies.clone();
        let writer = blocking(move || {
            let mut writer = bodies.create()?;
            bytes.chunks(CHUNK_BYTES).try_for_each(|c| writer.push(c))?;
            Ok(writer)
        });
        self.adopt(writer.await?, text).await.map(Value::from)
    }

    /// A tuple with its large values apart; the first one, which names the variable, stays.
    pub(crate) async fn tuple_apart(&self, tuple: Tuple) -> Result<Tuple, SpaceError> {
        if !tuple.iter().skip(1).any(is_large) {
            return Ok(tuple);
        }
        let mark = tuple.mark().copied();
        let mut fields = Vec::with_capacity(tuple.len());
        for (n, value) in Vec::from(tuple).into_iter().enumerate() {
            fields.push(if n == 0 {
                value
            } else {
                self.apart(value).await?
            });
        }
        let apart = Tuple::new(fields)?;
        Ok(match mark {
            Some(mark) => apart.with_mark(mark),
            None => apart,
        })
    }

    /// A tuple with its large values put together, as far as the limits of a tuple let them in.
    pub(crate) async fn tuple_whole(&self, ws: &str, tuple: Tuple) -> Result<Tuple, SpaceError> {
        if !tuple.has_blobs() {
            return Ok(tuple);
        }
        let variable = cpe_space::variable_of(&tuple);
        let mark = tuple.mark().copied();
        let mut size = tuple.size() as u64;
        let mut fields = Vec::with_capacity(tuple.len());
        for value in Vec::from(tuple) {
            fields.push(match value {
                Value::Blob(blob) if size + blob.len() <= MAX_TUPLE_BYTES as u64 => {
                    size += blob.len();
                    self.value_whole(ws, variable.clone(), *blob).await?
                }
                other => other,
            });
        }
        let whole = Tuple::new(fields)?;
        Ok(match mark {
            Some(mark) => whole.with_mark(mark),
            None => whole,
        })
    }

    /// A tuple that was taken, put together; an error, before anything is fetched, when the limits
    /// of a tuple do not let all of it in: with its reference alone, the value would be lost.
    pub(crate) async fn taken_whole(&self, ws: &str, tuple: Tuple) -> Result<Tuple, SpaceError> {
        let apart: u64 = tuple.blobs().iter().map(Blob::len).sum();
        let size = apart.saturating_add(tuple.size() as u64);
        if apart > 0 && size > MAX_TUPLE_BYTES as u64 {
            return Err(too_large(size, MAX_TUPLE_BYTES, tuple.len()));
        }
        let whole = self.tuple_whole(ws, tuple).await?;
        if whole.has_blobs() {
            return Err(nested());
        }
        Ok(whole)
    }

    /// The value of `[name, value]` that was taken, put together; an error above
    /// [`WHOLE_BYTES_MAX`], for the same reason.
    pub(crate) async fn taken_value(&self, ws: &str, tuple: Tuple) -> Result<Value, SpaceError> {
        match self.named_whole(ws, tuple).await? {
            Value::Blob(blob) => Err(too_large(blob.len(), WHOLE_BYTES_MAX, 2)),
            value if value.blobs().is_empty() => Ok(value),
            _ => Err(nested()),
        }
    }

    /// The value of `[name, value]`, put together up to [`WHOLE_BYTES_MAX`].
    pub(crate) async fn named_whole(&self, ws: &str, tuple: Tuple) -> Result<Value, SpaceError> {
        let variable = cpe_space::variable_of(&tuple);
        match crate::space::value_of(tuple)? {
            Value::Blob(blob) if blob.len() <= WHOLE_BYTES_MAX as u64 => {
                self.value_whole(ws, variable, *blob).await
            }
            other => Ok(other),
        }
    }

    async fn value_whole(
        &self,
        ws: &str,
        variable: Value,
        blob: Blob,
    ) -> Result<Value, SpaceError> {
        let mut reader = self.open_body(ws, variable, blob).await?;
        let bytes = blocking(move || {
            let mut bytes = Vec::new();
            for chunk in 0..reader.chunks() {
                bytes.extend_from_slice(&reader.chunk(chunk)?);
            }
            Ok(bytes)
        });
        let bytes = bytes.await?;
        if blob.is_text() {
            return String::from_utf8(bytes)
                .map(Value::from)
                .map_err(|_| not_text());
        }
        Ok(Value::Bytes(bytes))
    }
}

/// A take that would hand out a reference and lose the value.
fn too_large(bytes: u64, max: usize, fields: usize) -> SpaceError {
    let next = if fields == 2 {
        "stream it: `fetch_into` and `open_taken` take values of any size"
    } else {
        "read it, or store such a value as [name, value], which can be streamed"
    };
    SpaceError::Body(format!(
        "too large to be taken in memory ({bytes} bytes, at most {max}), so it stays: {next}"
    ))
}

fn nested() -> SpaceError {
    let inside = "a reference inside of a list or map is never put together, so it stays: read it";
    SpaceError::Body(inside.to_owned())
}

/// How long a store may take: longer, if bodies have to get to the home first.
pub(crate) fn store_within(tuple: &Tuple, deadline: Duration) -> Duration {
    let bytes: u64 = tuple.blobs().iter().map(Blob::len).sum();
    deadline.saturating_add(Duration::from_secs(bytes / SLOWEST))
}

/// A template whose large values are references, as they are in the tuples.
pub(crate) fn by_reference(template: Template) -> Result<Template, SpaceError> {
    let large = |field: &Field| matches!(field, Field::Actual(value) if is_large(value));
    if !template.fields().iter().skip(1).any(large) {
        return Ok(template);
    }
    let fields = template.fields().iter().enumerate();
    let fields = fields.map(|(n, field)| match field {
        Field::Actual(Value::String(s)) if n > 0 && s.len() > MAX_INLINE_BYTES => {
            Blob::of(true, s.as_bytes())
                .map_or_else(|_| field.clone(), |blob| Field::Actual(blob.into()))
        }
        Field::Actual(Value::Bytes(b)) if n > 0 && b.len() > MAX_INLINE_BYTES => {
            Blob::of(false, b).map_or_else(|_| field.clone(), |blob| Field::Actual(blob.into()))
        }
        other => other.clone(),
    });
    Ok(Template::new(fields.collect())?)
}

fn is_large(value: &Value) -> bool {
    match value {
        Value::String(s) => s.len() > MAX_INLINE_BYTES,
        Value::Bytes(b) => b.len() > MAX_INLINE_BYTES,
        _ => false,
    }
}

/// A large value being written. Dropped before it is finished, nothing is left of it.
#[derive(Debug)]
pub struct LargeWriter {
    space: Space,
    /// `None` while a chunk is being written.
    writer: Option<BodyWriter>,
    /// The beginning of the next chunk.
    chunk: Vec<u8>,
    /// `None` once it is no text.
    text: Option<Utf8>,
}

impl LargeWriter {
    /// Adds a part of any size. Holds less than a chunk of it in memory, 256 KiB.
    ///
    /// # Errors
    /// [`SpaceError::Body`] when it cannot be written, or is above
    /// [`MAX_BLOB_BYTES`](cpe_tuple::blob::MAX_BLOB_BYTES).
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing more can be added.
    pub async fn push(&mut self, mut part: &[u8]) -> Result<(), SpaceError> {
        while !part.is_empty() {
            let room = CHUNK_BYTES - self.chunk.len();
            let (now, later) = part.split_at(room.min(part.len()));
            if let Some(text) = &mut self.text
                && text.take(now).is_err()
            {
                self.text = None;
            }
            self.chunk.extend_from_slice(now);
            part = later;
            if self.chunk.len() == CHUNK_BYTES {
                self.write_chunk().await?;
            }
        }
        Ok(())
    }

    /// The value is complete. It is a string if that is asked for and it is UTF-8, else bytes. A
    /// body that no tuple refers to within a minute is deleted.
    ///
    /// # Errors
    /// [`SpaceError::Body`] when it cannot be written, or is empty.
    pub async fn finish(mut self, text: bool) -> Result<Blob, SpaceError> {
        if !self.chunk.is_empty() {
            self.write_chunk().await?;
        }
        let writer = self.writer.take().ok_or_else(broken_off)?;
        let is_text = self.text.is_some_and(|text| text.end().is_ok());
        self.space.adopt(writer, text && is_text).await
    }

    async fn write_chunk(&mut self) -> Result<(), SpaceError> {
        let writer = self.writer.take().ok_or_else(broken_off)?;
        let chunk = std::mem::take(&mut self.chunk);
        self.writer = Some(write(writer, chunk).await?);
        Ok(())
    }
}

fn broken_off() -> SpaceError {
    SpaceError::Body("it was broken off".to_owned())
}

/// A value being read.
#[derive(Debug)]
pub struct LargeValue(Source);

#[derive(Debug)]
enum Source {
    Small(Option<Value>),
    Large {
        blob: Blob,
        /// `None` while a chunk is being read.
        reader: Option<BodyReader>,
        next: u32,
    },
}

impl LargeValue {
    /// The kind of value.
    #[must_use]
    pub fn kind(&self) -> cpe_tuple::Kind {
        match &self.0 {
            Source::Small(value) => value.as_ref().map_or(cpe_tuple::Kind::Null, Value::kind),
            Source::Large { blob, .. } => blob.kind(),
        }
    }

    /// The next bytes of a string or byte string, or the JSON of another value; `None` at the end.
    ///
    /// # Errors
    /// [`SpaceError::Body`] when it cannot be read.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the value cannot be read on.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SpaceError> {
        match &mut self.0 {
            Source::Small(value) => Ok(value.take().map(|value| match value {
                Value::Bytes(bytes) => bytes.into(),
                Value::String(text) => text.into(),
                other => other.to_string().into(),
            })),
            Source::Large { blob, reader, next } => {
                if *next == blob.chunks() {
                    return Ok(None);
                }
                let chunk = *next;
                let open = reader.take();
                let mut open = open.ok_or_else(broken_off)?;
                let (open, bytes) = blocking(move || {
                    let bytes = open.chunk(chunk)?;
                    Ok((open, bytes))
                })
                .await?;
                *reader = Some(open);
                *next += 1;
                Ok(Some(bytes.into()))
            }
        }
    }

    async fn copy_to(mut self, mut sink: impl AsyncWrite + Unpin) -> Result<u64, SpaceError> {
        let mut written = 0;
        while let Some(bytes) = self.chunk().await? {
            sink.write_all(&bytes).await.map_err(broken)?;
            written += bytes.len() as u64;
        }
        sink.flush().await.map_err(broken)?;
        Ok(written)
    }
}

/// A value that was taken.
#[derive(Debug)]
pub struct TakenValue {
    /// The value.
    pub value: LargeValue,
    /// To be confirmed once the value was received.
    pub receipt: Receipt,
}

/// What was taken goes back when this is dropped unconfirmed.
#[derive(Debug)]
#[must_use = "what was taken goes back unless it is confirmed"]
pub struct Receipt(pub(crate) crate::desk::Receipt);

impl Receipt {
    /// What was taken was received.
    pub fn confirm(self) {
        self.0.confirm();
    }
}

/// Checks text that comes in parts.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character that goes on in the next part: at most three bytes.
    begun: Vec<u8>,
}

impl Utf8 {
    fn take(&mut self, part: &[u8]) -> Result<(), SpaceError> {
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend_from_slice(part);
        if let Err(error) = std::str::from_utf8(&bytes) {
            if error.error_len().is_some() {
                return Err(not_text());
            }
            self.begun = bytes.split_off(error.valid_up_to());
        }
        Ok(())
    }

    fn end(&self) -> Result<(), SpaceError> {
        if self.begun.is_empty() {
            return Ok(());
        }
        Err(not_text())
    }
}

fn not_text() -> SpaceError {
    SpaceError::Body("it is not UTF-8, and so no text; store it as bytes".to_owned())
}

fn broken(error: std::io::Error) -> SpaceError {
    SpaceError::Body(error.to_string())
}

/// Reads a whole chunk, or what is left.
async fn next_chunk(source: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, SpaceError> {
    let mut chunk = Vec::new();
    let mut part = source.take(CHUNK_BYTES as u64);
    part.read_to_end(&mut chunk).await.map_err(broken)?;
    Ok(chunk)
}

async fn write(mut writer: BodyWriter, chunk: Vec<u8>) -> Result<BodyWriter, SpaceError> {
    blocking(move || {
        writer.push(&chunk)?;
        Ok(writer)
    })
    .await
}

/// Does what waits for the disk.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, SpaceError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done.map_err(broken),
        Err(_) => Err(SpaceError::Closed),
    }
}
