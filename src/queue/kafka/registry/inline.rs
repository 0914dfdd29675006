//! One text out of a schema and those that it refers to. Pure.

use std::collections::HashMap;

use serde_json::Value;

/// `text` with the types that it uses and does not define written where each is used first; `references` define
/// them, each behind those that it needs itself. What is no JSON, or uses what nobody defines, stays as it is:
/// whoever reads the schema finds that out.
pub(super) fn inline(text: &str, references: &[Box<str>]) -> Box<str> {
    let Ok(mut schema) = serde_json::from_str::<Value>(text) else { return text.into() };
    let mut definitions = HashMap::new();
    for reference in references {
        if let Ok(definition) = serde_json::from_str::<Value>(reference)
            && let Some(name) = full_name(&definition, "")
        {
            definitions.insert(name, definition);
        }
    }
    fill(&mut schema, "", &mut definitions);
    schema.to_string().into()
}

/// Puts definitions in the place of names, below `schema`, which stands in `namespace`.
fn fill(schema: &mut Value, namespace: &str, definitions: &mut HashMap<String, Value>) {
    match schema {
        Value::String(name) => {
            let known = if name.contains('.') { name.clone() } else { join(namespace, name) };
            let found = definitions.remove(&known).or_else(|| definitions.remove(name.as_str()));
            if let Some(mut definition) = found {
                // It brings its namespace along, or has none.
                fill(&mut definition, "", definitions);
                *schema = definition;
            }
        }
        Value::Array(branches) => branches.iter_mut().for_each(|branch| fill(branch, namespace, definitions)),
        Value::Object(object) => {
            let namespace = match object.get("namespace").and_then(Value::as_str) {
                Some(own) => own.to_owned(),
                None => {
                    match object.get("name").and_then(Value::as_str).and_then(|name| name.rsplit_once('.')) {
                        Some((own, _)) => own.to_owned(),
                        None => namespace.to_owned(),
                    }
                }
            };
            for key in ["type", "items", "values"] {
                if let Some(below) = object.get_mut(key) {
                    fill(below, &namespace, definitions);
                }
            }
            let fields = object.get_mut("fields").and_then(Value::as_array_mut);
            for field in fields.into_iter().flatten() {
                if let Some(below) = field.get_mut("type") {
                    fill(below, &namespace, definitions);
                }
            }
        }
        _ => {}
    }
}

fn full_name(definition: &Value, namespace: &str) -> Option<String> {
    let name = definition.get("name")?.as_str()?;
    let namespace = definition.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    Some(if name.contains('.') { name.to_owned() } else { join(namespace, name) })
}

fn join(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_that_refers_to_none_means_the_same() {
        let schema =
            json!({"type": "record", "name": "A", "fields": [{"name": "x", "type": ["null", "string"]}]});
        let found: Value = serde_json::from_str(&inline(&schema.to_string(), &[])).unwrap();
        assert_eq!(found, schema);
        assert_eq!(&*inline("{", &[]), "{");
    }

    #[test]
    fn a_type_is_defined_where_it_is_used_first_and_only_there() {
        let inner = json!({"type": "record", "name": "Inner", "namespace": "n", "fields": []});
        let middle =
            json!({"type": "record", "name": "n.Middle", "fields": [{"name": "i", "type": "Inner"}]});
        let outer = json!({"type": "record", "name": "Outer", "namespace": "n", "fields": [
            {"name": "m", "type": {"type": "array", "items": "n.Middle"}},
            {"name": "i", "type": ["null", "Inner"]},
            {"name": "s", "type": "string"},
        ]});
        let references = [inner.to_string().into(), middle.to_string().into()];
        let found: Value = serde_json::from_str(&inline(&outer.to_string(), &references)).unwrap();
        let middle = json!({"type": "record", "name": "n.Middle", "fields": [{"name": "i", "type": inner}]});
        let expected = json!({"type": "record", "name": "Outer", "namespace": "n", "fields": [
            {"name": "m", "type": {"type": "array", "items": middle}},
            {"name": "i", "type": ["null", "Inner"]},
            {"name": "s", "type": "string"},
        ]});
        assert_eq!(found, expected);
    }
}
