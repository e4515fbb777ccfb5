//! Schemas of events in the OpenAPI document: those of `schemas/events`, as components.

use ledger_api_types::{COMMON_EVENT_SCHEMA, EVENT_SCHEMAS};
use serde_json::{Map, Value, json};

/// Types of events that the request body has examples of.
const EXAMPLES: [&str; 3] = ["artifact.built", "deploy.succeeded", "validation.passed"];

/// Adds the schemas of events as components, and makes them those of the request bodies that state events.
pub(crate) fn add_events(document: &mut Value) {
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.extend(components());
    }
    for (_, item) in document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(post) = item.get_mut("post") else { continue };
        let states_events = post["operationId"] == "postEvents";
        if let Some(body) = post.get_mut("requestBody").filter(|_| states_events) {
            body["content"] = content();
        }
    }
}

/// Returns the content of a request body that states events, by media type.
fn content() -> Value {
    let any = json!({"$ref": reference("RecordableEvent")});
    let cdevent = json!({"$ref": reference("CdEvent")});
    let data = json!({"$ref": reference("BinaryModeData")});
    let examples = EVENT_SCHEMAS.iter().filter(|(name, _)| EXAMPLES.contains(name)).map(|(name, text)| {
        let schema = parse(text);
        (pascal(name), json!({"summary": schema["title"], "value": schema["examples"][0]}))
    });
    let examples: Map<String, Value> = examples.collect();
    let batch: Vec<&Value> = examples.values().map(|example| &example["value"]).collect();
    json!({
        "application/cloudevents+json": {"schema": any, "examples": examples},
        "application/cloudevents-batch+json": {
            "schema": {"type": "array", "items": any},
            "examples": {"Batch": {"summary": "Several events", "value": batch}},
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One event in structured mode per line."},
        },
        "application/cdevents+json": {"schema": cdevent},
        "application/json": {"schema": {"anyOf": [any, cdevent, data]}},
    })
}

/// Returns the components: a schema for each type of event and for each shared definition, and their union.
fn components() -> Map<String, Value> {
    let common = parse(COMMON_EVENT_SCHEMA);
    let mut components = Map::new();
    for (name, definition) in common["$defs"].as_object().into_iter().flatten() {
        // The schema of each event contains the envelope, without the rule for further attributes.
        if name != "envelope" && name != "extension" {
            components.insert(definition_name(name), with_references(definition.clone()));
        }
    }
    let envelope = &common["$defs"]["envelope"];
    let mut mapping = Map::new();
    for (name, text) in EVENT_SCHEMAS {
        let schema = event(envelope, parse(text));
        let event_type = schema["properties"]["type"]["const"].as_str().unwrap_or_default().to_owned();
        let component = format!("{}Event", pascal(name));
        mapping.insert(event_type, json!(reference(&component)));
        components.insert(component, with_references(schema));
    }
    let variants: Vec<Value> = mapping.values().map(|reference| json!({"$ref": reference})).collect();
    let union = json!({
        "description": "An event of the ledger, as a CloudEvent in structured JSON. Its type decides which members its \
                        data has. Further attributes are your own: texts, booleans and integers of 32 bits, by names \
                        of 1 to 40 lower-case letters and digits.",
        "oneOf": variants,
        "discriminator": {"propertyName": "type", "mapping": mapping},
    });
    components.insert("Event".to_owned(), union);
    components.extend(foreign_events());
    components
}

/// Returns the components of CDEvents, of data in binary mode, and of what one item of a request may be.
fn foreign_events() -> [(String, Value); 4] {
    let wrapped = json!({
        "description": "A CDEvent as a CloudEvent in structured JSON.",
        "type": "object",
        "properties": {
            "specversion": {"type": "string", "const": "1.0"},
            "type": {"type": "string", "pattern": "^dev\\.cdeventsx?\\."},
            "data": {"type": "object"},
        },
        "required": ["specversion", "type"],
    });
    let bare = json!({
        "description": "A CDEvent without a CloudEvent around it.",
        "type": "object",
        "properties": {
            "context": {
                "type": "object",
                "properties": {"type": {"type": "string", "pattern": "^dev\\.cdeventsx?\\."}},
                "required": ["type"],
            },
        },
        "required": ["context"],
    });
    let data = json!({
        "description": "Data of an event in binary mode: the headers with the prefix ce- state its attributes.",
        "type": "object",
    });
    let any = json!({
        "description": "An event of the ledger, or a CDEvent.",
        "oneOf": [{"$ref": reference("Event")}, {"$ref": reference("CloudEventOfCdEvents")}],
    });
    [
        ("CloudEventOfCdEvents".to_owned(), wrapped),
        ("CdEvent".to_owned(), bare),
        ("BinaryModeData".to_owned(), data),
        ("RecordableEvent".to_owned(), any),
    ]
}

/// Returns the schema of an event with the members of the envelope, to which the published one refers: generators of
/// clients ignore what stands beside a reference.
fn event(envelope: &Value, schema: Value) -> Value {
    let mut whole = envelope.as_object().cloned().unwrap_or_default();
    let Value::Object(own) = schema else { return Value::Object(whole) };
    for (key, value) in own {
        match key.as_str() {
            // A name of its own would be the base of its references.
            "$schema" | "$id" | "$ref" => {}
            "properties" => {
                if let Some(members) = whole.get_mut("properties").and_then(Value::as_object_mut) {
                    narrow(members, value);
                }
            }
            _ => {
                whole.insert(key, value);
            }
        }
    }
    // A type for the values would apply to the listed members as well, in languages whose objects are maps.
    whole.insert("additionalProperties".to_owned(), Value::Bool(true));
    Value::Object(whole)
}

/// Narrows members of the envelope by those of an event: a reference replaces a member, other keywords are added.
fn narrow(members: &mut Map<String, Value>, own: Value) {
    let Value::Object(own) = own else { return };
    for (name, member) in own {
        let place = members.entry(name).or_insert(Value::Null);
        if member.get("$ref").is_some() || !place.is_object() {
            *place = member;
        } else if let (Value::Object(place), Value::Object(member)) = (place, member) {
            place.extend(member);
        }
    }
}

/// Lets the references to shared definitions name their components.
fn with_references(mut schema: Value) -> Value {
    rewrite(&mut schema);
    schema
}

fn rewrite(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (key, member) in members {
                let definition = member.as_str().filter(|_| key == "$ref").and_then(shared_definition);
                if let Some(name) = definition {
                    *member = json!(reference(&definition_name(&name)));
                } else if key != "examples" {
                    rewrite(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        _ => {}
    }
}

/// Returns the name of the shared definition that a published schema refers to.
fn shared_definition(reference: &str) -> Option<String> {
    let name = reference.strip_prefix("common.json#/$defs/").or_else(|| reference.strip_prefix("#/$defs/"));
    name.map(str::to_owned)
}

/// Returns the name of the component of a shared definition: `EventRelease` for `release`.
fn definition_name(name: &str) -> String {
    format!("Event{}", pascal(name))
}

pub(crate) fn reference(component: &str) -> String {
    format!("#/components/schemas/{component}")
}

/// Returns a name of words between dots, underscores and spaces in the form of components: `DeploySucceeded`.
pub(crate) fn pascal(name: &str) -> String {
    let capitalized = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split(['.', '_', ' ']).map(capitalized).collect()
}

/// Parses a published schema. A test parses them all.
fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ledger_domain::Kind;

    use super::*;

    /// Collects the references of a value, except those in examples.
    fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    match (key.as_str(), member) {
                        ("$ref", Value::String(reference)) => {
                            found.insert(reference);
                        }
                        ("examples", _) => {}
                        _ => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_of_the_document_leads_to_a_component() {
        let document = crate::document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 100, "{}", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_type_of_an_event_decides_which_component_describes_it() {
        let document = crate::document();
        let event = &document["components"]["schemas"]["Event"];
        assert_eq!(event["discriminator"]["propertyName"], "type");
        assert_eq!(event["oneOf"].as_array().map(Vec::len), Some(Kind::ALL.len()));
        for kind in Kind::ALL {
            let reference =
                event["discriminator"]["mapping"][kind.event_type()].as_str().expect("a component");
            let schema = document.pointer(&reference[1..]).expect("a schema");
            assert_eq!(schema["properties"]["type"]["const"], kind.event_type());
            assert_eq!(schema["properties"]["type"]["type"], "string");
            assert!(schema["required"].as_array().is_some_and(|names| names.contains(&json!("source"))));
            assert!(schema["examples"].as_array().is_some_and(|examples| !examples.is_empty()), "{kind}");
            for absent in ["$id", "$schema", "$ref"] {
                assert!(schema.get(absent).is_none(), "{kind}: {absent}");
            }
        }
    }

    #[test]
    fn no_component_of_an_event_replaces_one_of_the_api() {
        let (_, document) = crate::openapi::split_typed(crate::ledger_routes());
        let own = document.components.expect("components").schemas;
        let both: Vec<String> = components().into_iter().map(|(name, _)| name).collect();
        assert!(both.iter().all(|name| !own.contains_key(name)), "{both:?}");
    }

    #[test]
    fn a_body_that_states_events_has_examples_and_the_schemas_of_events() {
        let document = crate::document();
        let content = &document["paths"]["/events"]["post"]["requestBody"]["content"];
        let structured = &content["application/cloudevents+json"];
        assert_eq!(structured["schema"]["$ref"], "#/components/schemas/RecordableEvent");
        assert_eq!(structured["examples"].as_object().map(Map::len), Some(EXAMPLES.len()));
        assert_eq!(content["application/cloudevents-batch+json"]["schema"]["type"], "array");
    }
}
