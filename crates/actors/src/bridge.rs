//! Between [`Value`]s and serde types.
pub fn to_value<T: serde::Serialize + ?Sized>(value: &T) -> Result<cpe_tuple::Value, std::fmt::Error> { let _ = value; todo!() }
pub fn from_value<T: serde::de::DeserializeOwned>(value: cpe_tuple::Value) -> Result<T, std::fmt::Error> { let _ = value; todo!() }
