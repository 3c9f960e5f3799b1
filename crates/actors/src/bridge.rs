//! Between [`Value`]s and serde types.
//!
//! The way leads through JSON, so that what a person types on a command line is what a typed actor
//! gets: structs and maps are maps, a unit variant is its name, a variant with content is a map of
//! one entry (`{"add":3}`), `Option::None` and `()` are null. Values inside a type keep all their
//! kinds, in the forms of [`cpe_tuple::json`].
//!
//! What JSON cannot say is not carried: a `Vec<u8>` is a list of integers, a float that is no
//! number is null, and integers beyond 64 signed bits fit into no value. Where that matters, use a
//! [`Value`] in the message, which has bytes and all floats.

pub use cpe_tuple::Value;
use cpe_tuple::{JsonError, json};
use serde::{Serialize, de::DeserializeOwned};

/// A type and a value that do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The type has no JSON form, or the value not the form of the type.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// The JSON form is no value.
    #[error(transparent)]
    Value(#[from] JsonError),
}

/// In an `impl` of [`Actor`](crate::Actor) or [`DynActor`](crate::DynActor) whose type is a serde
/// one: its snapshot is itself.
///
/// ```
/// use cpe_actors::{Actor, ActorError, Context};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Counter(i64);
///
/// impl Actor for Counter {
///     type Message = i64;
///     type Reply = i64;
///     cpe_actors::state_is_self!();
///
///     async fn handle(&mut self, n: i64, _: &mut Context<Self>) -> Result<i64, ActorError> {
///         self.0 += n;
///         Ok(self.0)
///     }
/// }
///
/// let mut again = Counter::default();
/// again.restore(Counter(42).snapshot()?.unwrap())?;
/// assert_eq!(again.0, 42);
/// # Ok::<(), ActorError>(())
/// ```
#[macro_export]
macro_rules! state_is_self {
    () => {
        fn snapshot(
            &self,
        ) -> ::std::result::Result<::std::option::Option<$crate::bridge::Value>, $crate::ActorError>
        {
            ::std::result::Result::Ok(::std::option::Option::Some($crate::bridge::to_value(self)?))
        }

        fn restore(
            &mut self,
            snapshot: $crate::bridge::Value,
        ) -> ::std::result::Result<(), $crate::ActorError> {
            *self = $crate::bridge::from_value(&snapshot)?;
            ::std::result::Result::Ok(())
        }
    };
}

/// The value of a serde type.
///
/// # Errors
/// When it holds something that no value can.
pub fn to_value<T: Serialize + ?Sized>(it: &T) -> Result<Value, BridgeError> {
    Ok(json::value_from_json(&serde_json::to_value(it)?)?)
}

/// The serde type that a value stands for.
///
/// # Errors
/// When the value has not the form of the type, naming what was expected.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, BridgeError> {
    Ok(serde_json::from_value(json::value_to_json(value))?)
}
