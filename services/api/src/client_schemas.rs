//! Form of the schemas in the OpenAPI document from which generators make clients that compile.
//!
//! Generators name the type of a schema after its component. They derive names for schemas within others from titles, so
//! that two types collide; take a default for a value to send; and read neither a constant without a type, nor an integer
//! without a format, nor an object without members.

use serde_json::{Map, Value, json};

use crate::event_components::{pascal, reference};

/// Rewrites all components, and the bodies of responses, in the form that generators need.
pub(crate) fn suit_generators(document: &mut Value) {
    let Some(components) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else {
        return;
    };
    let mut extracted = Map::new();
    for (name, schema) in components.iter_mut() {
        suit(name, schema, &mut extracted);
    }
    components.extend(extracted);
    for (_, item) in document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten() {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
            for (_, response) in responses.into_iter().flatten() {
                if let Some(bytes) = response.pointer_mut("/content/application~1octet-stream/schema") {
                    *bytes = json!({"type": "string", "format": "binary"});
                }
            }
        }
    }
}

/// Rewrites a schema and those within it. `name` is that of its component, or the one that it would have; objects within
/// it become components of their own, in `extracted`.
fn suit(name: &str, schema: &mut Value, extracted: &mut Map<String, Value>) {
    let Value::Object(schema) = schema else { return };
    for (keyword, value) in schema.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(members)) => {
                for (member, part) in members {
                    extract(&format!("{name}{}", pascal(member)), part, extracted);
                }
            }
            ("oneOf" | "anyOf", Value::Array(variants)) => {
                for (index, variant) in variants.iter_mut().enumerate() {
                    let title = variant.get("title").and_then(Value::as_str).map(pascal);
                    let word = title.unwrap_or_else(|| format!("Variant{}", index + 1));
                    extract(&format!("{name}{word}"), variant, extracted);
                }
            }
            // The parts of one type.
            ("allOf", Value::Array(parts)) => parts.iter_mut().for_each(|part| suit(name, part, extracted)),
            ("items" | "additionalProperties", part) => extract(&format!("{name}Item"), part, extracted),
            _ => {}
        }
    }
    schema.remove("title");
    describe_default(schema);
    state_type(schema);
    open_map(schema);
}

/// Rewrites a schema within another one; an object with members, or a choice of such, becomes the component `name`.
fn extract(name: &str, part: &mut Value, extracted: &mut Map<String, Value>) {
    let is_type = is_object(part) || has_object_variant(part);
    suit(name, part, extracted);
    if is_type {
        let component = std::mem::replace(part, json!({"$ref": reference(name)}));
        extracted.insert(name.to_owned(), component);
    }
}

/// Returns true for a schema that lists the members of an object.
fn is_object(schema: &Value) -> bool {
    schema.get("$ref").is_none() && schema.get("properties").is_some()
}

fn has_object_variant(schema: &Value) -> bool {
    let variants = ["oneOf", "anyOf"].iter().filter_map(|keyword| schema.get(keyword)?.as_array());
    schema.get("$ref").is_none() && variants.flatten().any(is_object)
}

/// States the default in words: clients would send the value otherwise, or require it.
fn describe_default(schema: &mut Map<String, Value>) {
    let Some(default) = schema.remove("default") else { return };
    let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
    let description = schema.get("description").and_then(Value::as_str).map(|text| format!("{text} "));
    let description = format!("{}If absent: {default}.", description.unwrap_or_default());
    schema.insert("description".to_owned(), json!(description));
}

/// States the type of words, and the size of integers.
fn state_type(schema: &mut Map<String, Value>) {
    let word = schema.get("const").or_else(|| schema.get("enum")?.get(0));
    if word.is_some_and(Value::is_string) && !schema.contains_key("type") {
        schema.insert("type".to_owned(), json!("string"));
    }
    let is_integer = match schema.get("type") {
        Some(Value::String(name)) => name == "integer",
        Some(Value::Array(names)) => {
            names.contains(&json!("integer")) && names.iter().all(|name| name == "integer" || name == "null")
        }
        _ => false,
    };
    if is_integer && !schema.contains_key("format") {
        schema.insert("format".to_owned(), json!("int64"));
    }
}

/// States that an object without listed members may have any: some generators make a type without members otherwise.
fn open_map(schema: &mut Map<String, Value>) {
    let is_bare = ["properties", "additionalProperties"].iter().all(|keyword| !schema.contains_key(*keyword));
    if is_bare && schema.get("type").is_some_and(|name| name == "object") {
        schema.insert("additionalProperties".to_owned(), Value::Bool(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `check` for each schema of the components, with the path to it.
    fn for_each_schema(check: &mut impl FnMut(&str, &Value)) {
        let document = crate::document();
        for (name, schema) in document["components"]["schemas"].as_object().expect("components") {
            walk(name, schema, check);
        }
    }

    fn walk(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Value)) {
        check(path, schema);
        for (member, part) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}/{member}"), part, check);
        }
        for keyword in ["oneOf", "anyOf", "allOf"] {
            for (index, part) in schema[keyword].as_array().into_iter().flatten().enumerate() {
                walk(&format!("{path}/{keyword}/{index}"), part, check);
            }
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(part) = schema.get(keyword) {
                walk(&format!("{path}/{keyword}"), part, check);
            }
        }
    }

    #[test]
    fn every_object_with_members_is_a_component_or_part_of_one() {
        let mut unnamed = Vec::new();
        for_each_schema(&mut |path, schema| {
            if path.contains('/') && !path.contains("/allOf/") && is_object(schema) {
                unnamed.push(path.to_owned());
            }
        });
        assert_eq!(unnamed, Vec::<String>::new());
    }

    #[test]
    fn no_schema_has_a_second_name_or_a_default() {
        let mut found = Vec::new();
        for_each_schema(&mut |path, schema| {
            found.extend(
                ["title", "default"]
                    .iter()
                    .filter(|key| schema.get(key).is_some())
                    .map(|key| format!("{path}: {key}")),
            );
        });
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn every_word_has_a_type_and_every_integer_a_size() {
        let mut found = Vec::new();
        for_each_schema(&mut |path, schema| {
            let is_word = schema.get("const").or_else(|| schema.get("enum")).is_some();
            let is_integer = schema["type"] == "integer" || schema["type"] == json!(["integer", "null"]);
            if is_word && schema.get("type").is_none() || is_integer && schema.get("format").is_none() {
                found.push(path.to_owned());
            }
        });
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn objects_within_a_schema_are_named_after_their_place() {
        let variant = |title: &str| json!({"title": title, "properties": {"a": {"type": "string"}}});
        let mut schema = json!({"properties": {
            "of_what": {"oneOf": [variant("Of a lane"), variant("Of a deploy")]},
            "count": {"type": "integer", "description": "Number.", "default": 0},
        }});
        let mut extracted = Map::new();

        suit("Check", &mut schema, &mut extracted);

        assert_eq!(schema["properties"]["of_what"], json!({"$ref": "#/components/schemas/CheckOfWhat"}));
        assert_eq!(
            extracted.keys().collect::<Vec<_>>(),
            ["CheckOfWhat", "CheckOfWhatOfADeploy", "CheckOfWhatOfALane"]
        );
        let count = json!({"type": "integer", "format": "int64", "description": "Number. If absent: 0."});
        assert_eq!(schema["properties"]["count"], count);
    }
}
