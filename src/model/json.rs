//! Fields of JSON objects by name. What is not there, or is something else, is `None`.

use serde_json::Value;

/// A field that is a string.
#[must_use]
pub fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str()
}

/// A field that is a whole number, not below zero, and fits.
#[must_use]
pub fn number<T: TryFrom<u64>>(object: &Value, field: &str) -> Option<T> {
    T::try_from(object.get(field)?.as_u64()?).ok()
}

/// A field that is a list; an empty one when it is not.
#[must_use]
pub fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
