//! Holds JSON to the part of JSON Schema that the description uses: `$ref`, `type`, `enum`, `required`,
//! `properties`, `additionalProperties` and `items`. A schema that uses another word is a fault.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "what is not as described fails the test")]

use serde_json::Value;

/// An OpenAPI description.
pub(crate) struct Description(pub(crate) Value);

impl Description {
    /// Every method with its path.
    pub(crate) fn operations(&self) -> impl Iterator<Item = String> {
        let paths = self.0["paths"].as_object().expect("there are paths");
        paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("with methods");
            methods.keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
    }

    /// The paths that take `method`, which is in lower case.
    pub(crate) fn paths_of(&self, method: &str) -> Vec<String> {
        let paths = self.0["paths"].as_object().expect("there are paths");
        let taking = paths.iter().filter(|(_, methods)| methods.get(method).is_some());
        taking.map(|(path, _)| path.clone()).collect()
    }

    /// The schema of an answer, if that is to be JSON. It has to be described.
    pub(crate) fn answer(&self, method: &str, path: &str, status: u16) -> Option<&Value> {
        let responses = &self.0["paths"][path][method]["responses"];
        let response = responses.get(status.to_string());
        let response = response.unwrap_or_else(|| panic!("{method} {path} says nothing of {status}"));
        self.resolved(response)["content"].get("application/json").map(|content| &content["schema"])
    }

    /// What is wrong with `value`, each with where it is.
    pub(crate) fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(schema, value, "$", &mut faults);
        faults
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { return schema };
        let pointer = reference.strip_prefix('#').expect("references are within the description");
        self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} is not there"))
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = self.resolved(schema).as_object().expect("a schema is an object");
        for word in schema.keys().filter(|word| !KNOWN.contains(&word.as_str())) {
            faults.push(format!("{at}: nobody knows what {word:?} means"));
        }
        let kinds: Vec<_> = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            Some(kind) => kind.as_str().into_iter().collect(),
            None => Vec::new(),
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| is(value, kind)) {
            faults.push(format!("{at}: {value} is not {kinds:?}"));
        }
        if schema.get("enum").and_then(Value::as_array).is_some_and(|known| !known.contains(value)) {
            faults.push(format!("{at}: {value} is none of {}", schema["enum"]));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            if let Some(items) = schema.get("items") {
                self.check(items, item, &format!("{at}[{index}]"), faults);
            }
        }
        if let Some(fields) = value.as_object() {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            for name in required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
                faults.push(format!("{at}.{name} is missing"));
            }
            for (name, field) in fields {
                match schema.get("properties").and_then(|properties| properties.get(name)) {
                    Some(schema) => self.check(schema, field, &format!("{at}.{name}"), faults),
                    None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                        faults.push(format!("{at}.{name} is not described"));
                    }
                    None => {}
                }
            }
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

const KNOWN: &[&str] =
    &["type", "enum", "required", "properties", "additionalProperties", "items", "description", "format"];
