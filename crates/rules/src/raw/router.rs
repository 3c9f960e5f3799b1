//! Captured streams: what a program prints, what CLIPS complains about, and what it reads.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use clips_sys as c;

use super::{Shared, copied, fatal, shared_from};
use crate::error::{Diagnostic, PARSE_ERRORS_MAX};
use crate::limits::Trip;

/// Above CLIPS's own default router (0), below the one that collects parse errors (40).
const PRIORITY: c_int = 20;

/// What CLIPS answers at the end of an input.
const END_OF_FILE: c_int = -1;

/// A stream that a program or CLIPS itself writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stream {
    /// `(printout t ...)`, `(println ...)`.
    Out,
    /// Errors.
    Error,
    /// Warnings.
    Warning,
}

/// Text waiting to be taken.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) out: String,
    /// Errors and warnings in the order they were written.
    pub(crate) errors: String,
}

impl Output {
    fn len(&self) -> usize {
        self.out.len() + self.errors.len()
    }
}

impl Shared {
    /// Keep `text`; `false` when the limit on output does not allow it.
    pub(super) fn write(&self, stream: Stream, text: &str) -> bool {
        let Ok(mut output) = self.output.try_borrow_mut() else {
            return true;
        };
        // An error must not go unheard because the program printed too much before it.
        let limit = self.limits.get().output_bytes;
        let limit = if stream == Stream::Out {
            limit
        } else {
            limit.saturating_add(ERROR_BYTES)
        };
        if output.len() + text.len() > limit {
            return false;
        }
        match stream {
            Stream::Out => output.out.push_str(text),
            Stream::Error | Stream::Warning => output.errors.push_str(text),
        }
        true
    }
}

/// Bytes of errors and warnings kept beyond the limit on output.
const ERROR_BYTES: usize = 16 << 10;

/// # Safety
/// `env` is live and `shared` its state.
pub(super) unsafe fn install(env: *mut c::Environment, shared: *mut Shared) {
    // SAFETY: as the caller promises.
    unsafe {
        c::AddRouter(
            env,
            c"cpe-router".as_ptr(),
            PRIORITY,
            Some(on_query),
            Some(on_write),
            Some(on_read),
            Some(on_unread),
            Some(fatal::exit),
            shared.cast(),
        );
        c::SetParserErrorCallback(env, Some(on_parse_error), shared.cast());
    }
}

unsafe extern "C" fn on_query(
    _: *mut c::Environment,
    stream: *const c_char,
    _: *mut c_void,
) -> bool {
    // SAFETY: CLIPS passes a terminated name.
    let name = unsafe { CStr::from_ptr(stream) };
    matches!(
        name.to_bytes(),
        b"stdout" | b"stderr" | b"stdwrn" | b"stdin"
    )
}

unsafe extern "C" fn on_write(
    env: *mut c::Environment,
    stream: *const c_char,
    text: *const c_char,
    context: *mut c_void,
) {
    // SAFETY: terminated texts, and the context this router was added with.
    unsafe {
        let shared = shared_from(context);
        let stream = match CStr::from_ptr(stream).to_bytes() {
            b"stderr" => Stream::Error,
            b"stdwrn" => Stream::Warning,
            _ => Stream::Out,
        };
        if !shared.write(stream, &copied(text)) && stream == Stream::Out {
            shared.set_trip(env, Trip::Output);
        }
    }
}

unsafe extern "C" fn on_read(
    _: *mut c::Environment,
    _: *const c_char,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the context this router was added with.
    let shared = unsafe { shared_from(context) };
    let Ok(mut input) = shared.input.try_borrow_mut() else {
        return END_OF_FILE;
    };
    input.pop_front().map_or(END_OF_FILE, c_int::from)
}

unsafe extern "C" fn on_unread(
    _: *mut c::Environment,
    _: *const c_char,
    character: c_int,
    context: *mut c_void,
) -> c_int {
    // SAFETY: as `on_read`.
    let shared = unsafe { shared_from(context) };
    if let (Ok(byte), Ok(mut input)) = (u8::try_from(character), shared.input.try_borrow_mut()) {
        input.push_front(byte);
    }
    character
}

unsafe extern "C" fn on_parse_error(
    _: *mut c::Environment,
    _file: *const c_char,
    warning: *const c_char,
    error: *const c_char,
    line: c_long,
    context: *mut c_void,
) {
    // SAFETY: terminated texts or null, and the context given at registration.
    let (shared, text) = unsafe {
        let text = if error.is_null() { warning } else { error };
        (shared_from(context), copied(text))
    };
    let Ok(mut diagnostics) = shared.diagnostics.try_borrow_mut() else {
        return;
    };
    if diagnostics.len() < PARSE_ERRORS_MAX {
        diagnostics.push(Diagnostic {
            file: String::new(),
            line: u32::try_from(line).unwrap_or(0),
            column: None,
            warning: error.is_null(),
            message: first_complaint(&text),
        });
    }
}

/// CLIPS's complaint without the echo of the construct it prints below.
pub(crate) fn first_complaint(text: &str) -> String {
    let complaint = text.split("\nERROR:\n").next().unwrap_or(text);
    complaint.split_whitespace().collect::<Vec<_>>().join(" ")
}
