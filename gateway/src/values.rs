//! Values of properties as JSON.

use drivers::Value;

/// The value as `gateway info --json` and the control socket have it. A configuration file has it so, too.
pub(crate) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Size(value) | Value::Patience(Some(value)) => (*value).into(),
        value @ Value::Patience(None) => value.to_string().into(),
        Value::Text(value) => value.as_str().into(),
    }
}
