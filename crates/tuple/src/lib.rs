//! Values, tuples and templates: the data of the tuple space, and how it is written down.
//!
//! A [`Tuple`] is an ordered, bounded list of [`Value`]s. A [`Template`] has one [`Field`] for each
//! value of the tuples it matches. Everything here is plain data: no I/O, no clock, no threads.
//!
//! - [`blob`] refers to values that are too large to travel with their tuple.
//! - [`codec`] writes any serde type as CBOR and reads it back within bounds; it is the only place
//!   that knows which CBOR library is used.
//! - [`json`] holds the forms that people type and scripts read.
//! - [`limits`] names every bound.
//!
//! # Example
//!
//! ```
//! use cpe_tuple::{Field, Kind, Template, Tuple, Value, codec, limits};
//!
//! let tuple = Tuple::new(vec![Value::from("temperature"), Value::from(21.5)])?;
//! let template = Template::new(vec![
//!     Field::Actual(Value::from("temperature")),
//!     Field::Typed(Kind::Float),
//! ])?;
//! assert!(template.matches(&tuple));
//!
//! let bytes = codec::encode(&tuple)?;
//! let back: Tuple = codec::decode(&bytes, limits::MAX_TUPLE_BYTES)?;
//! assert_eq!(back, tuple);
//! assert_eq!(tuple.to_string(), r#"["temperature",21.5]"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod blob;
pub mod codec;
pub mod json;
pub mod limits;

mod field;
mod kind;
mod mark;
mod order;
#[cfg(any(test, feature = "test-utils"))]
pub mod strategies;
mod template;
mod tuple;
mod value;
mod wire;

pub use blob::{Blob, BlobHash};
pub use codec::CodecError;
pub use field::Field;
pub use json::JsonError;
pub use kind::{Kind, UnknownKind};
pub use limits::LimitError;
pub use mark::Mark;
pub use template::Template;
pub use tuple::Tuple;
pub use value::Value;
