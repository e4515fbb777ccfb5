//! `schemas/events/` and the CloudEvents parser: each accepts exactly the events that the other accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use jsonschema::{Registry, Validator};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Kind, Principal, PrincipalKind, ShortText};
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/events");
const BASE: &str = "https://releaseledger.io/schemas/events/";

/// Returns the folder's documents by file name without `.json`.
fn documents() -> BTreeMap<String, Value> {
    fs::read_dir(FOLDER)
        .expect("schemas/events")
        .map(|entry| {
            let path = entry.expect("an entry of schemas/events").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a file name in UTF-8");
            let name = name.strip_suffix(".json").expect("only JSON files in schemas/events").to_owned();
            (name, read(&path))
        })
        .collect()
}

fn read(path: &Path) -> Value {
    let text = fs::read(path).expect("a readable schema");
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A kind's schema with its validator.
struct Schema {
    kind: Kind,
    document: Value,
    validator: Validator,
}

impl Schema {
    fn examples(&self) -> &[Value] {
        self.document["examples"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// Returns the schemas of all kinds. They may refer only to `common.json`: the validator has no way to fetch other
/// documents.
fn schemas() -> Vec<Schema> {
    let mut documents = documents();
    let common = documents.remove("common").expect("common.json");
    let registry = Registry::new()
        .add(format!("{BASE}common.json"), common)
        .and_then(jsonschema::RegistryBuilder::prepare)
        .expect("common.json refers only to itself");
    Kind::ALL
        .iter()
        .map(|kind| {
            let document = documents.remove(kind.name()).unwrap_or_else(|| panic!("{kind} has no schema"));
            let validator = jsonschema::options()
                .with_registry(&registry)
                .build(&document)
                .unwrap_or_else(|error| panic!("{kind}: {error}"));
            Schema { kind: *kind, document, validator }
        })
        .collect()
}

fn schema(kind: Kind) -> Schema {
    schemas().into_iter().find(|schema| schema.kind == kind).expect("a schema for every kind")
}

fn parse(event: &Value) -> Result<Envelope, String> {
    Envelope::parse(event.to_string().as_bytes()).map_err(|invalid| invalid.to_string())
}

fn validate(schema: &Schema, event: &Value) -> Result<(), String> {
    schema.validator.validate(event).map_err(|error| format!("{}: {error}", error.instance_path()))
}

#[test]
fn every_kind_has_a_schema_and_every_schema_has_a_kind() {
    let mut names: BTreeSet<String> = documents().into_keys().collect();
    assert!(names.remove("common"), "common.json contains the shared definitions");
    let kinds: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(names, kinds);
}

#[test]
fn every_schema_is_valid_2020_12_and_has_a_title_and_a_description() {
    for (name, document) in documents() {
        if let Err(error) = jsonschema::draft202012::meta::validate(&document) {
            panic!("{name}: {}: {error}", error.instance_path());
        }
        assert_eq!(document["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert_eq!(document["$id"], format!("{BASE}{name}.json"), "{name}");
        for member in ["title", "description"] {
            assert!(document[member].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {member}");
        }
    }
}

#[test]
fn every_example_is_valid_and_decodes_to_its_kind() {
    for schema in schemas() {
        let kind = schema.kind;
        assert!(schema.examples().len() >= 2, "{kind} has a small and a full example");
        for example in schema.examples() {
            assert_eq!(validate(&schema, example), Ok(()), "{kind} {}", example["id"]);
            let envelope = parse(example).unwrap_or_else(|why| panic!("{kind} {}: {why}", example["id"]));
            assert_eq!(envelope.event().payload.kind(), kind);
        }
    }
}

#[test]
fn the_openapi_document_accepts_the_examples_of_events_and_no_unknown_member() {
    let document = ledger_api::document();
    let event = json!({"$ref": "#/components/schemas/Event", "components": document["components"]});
    let validator = jsonschema::draft202012::new(&event).expect("a schema");
    for schema in schemas() {
        for example in schema.examples() {
            let found = validator.validate(example).map_err(|error| error.to_string());
            assert_eq!(found, Ok(()), "{} {}", schema.kind, example["id"]);
            let mut misspelt = example.clone();
            misspelt["data"]["mispelt"] = json!(1);
            assert!(!validator.is_valid(&misspelt), "{} {}", schema.kind, example["id"]);
        }
    }
}

#[test]
fn no_two_examples_are_the_same_event() {
    let mut identities = BTreeSet::new();
    for schema in schemas() {
        for example in schema.examples() {
            let identity = (example["source"].to_string(), example["id"].to_string());
            assert!(identities.insert(identity), "{}: {} is used twice", schema.kind, example["id"]);
        }
    }
}

#[test]
fn every_example_survives_encode_and_decode() {
    for schema in schemas() {
        for example in schema.examples() {
            let read = parse(example).expect("examples decode");
            let written =
                Envelope::compose(read.identity().clone(), read.occurred_at(), read.event().clone())
                    .expect("an example is small");
            let again = Envelope::parse(written.bytes()).expect("an encoded event decodes");
            assert_eq!(again, written);
            assert_eq!(again.event(), read.event());
            let json = serde_json::from_slice(written.bytes()).expect("canonical JSON");
            assert_eq!(validate(&schema, &json), Ok(()), "{} {}", schema.kind, example["id"]);
        }
    }
}

/// A projector takes the envelope of an event that its process recorded, instead of parsing the entry.
#[test]
fn the_envelope_of_a_recorded_event_is_the_one_that_its_entry_has() {
    let text = |text| ShortText::parse(text).expect("a text");
    let sender = Principal {
        kind: PrincipalKind::Workload,
        issuer: text("https://ci.example"),
        subject: text("repo:org/app"),
        name: text("org/app"),
        claims: BTreeMap::from([("ref".into(), text("refs/heads/main"))]),
    };
    for schema in schemas() {
        for example in schema.examples() {
            let received = parse(example).expect("an example is valid");
            let sent = received.clone().sent_by(&sender).expect("an example is small");
            let composed = Envelope::compose(
                received.identity().clone(),
                received.occurred_at(),
                received.event().clone(),
            );
            for envelope in [received, sent, composed.expect("an example is small")] {
                let stored = Envelope::stored(envelope.bytes().clone()).expect("a stored event");
                assert_eq!(stored, envelope, "{} {}", schema.kind, example["id"]);
            }
        }
    }
}

/// The mutations below change only members that occur in an example; each member must occur in one.
#[test]
fn every_member_in_a_schema_occurs_in_an_example() {
    let common = documents().remove("common").expect("common.json");
    for schema in schemas() {
        let (mut known, mut used) = (BTreeSet::new(), BTreeSet::new());
        known_members(&schema.document, &common, "", &mut known);
        schema.examples().iter().for_each(|example| used_members(example, "", &mut used));
        let unused: Vec<_> = known.difference(&used).collect();
        assert!(unused.is_empty(), "{}: no example has {unused:?}", schema.kind);
    }
}

/// Collects the paths of a schema's members; `*` is an array item or a member of an object without fixed names.
fn known_members(schema: &Value, common: &Value, at: &str, known: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let (_, pointer) = reference.split_once('#').expect("references point into common.json");
        known_members(common.pointer(pointer).expect("a definition"), common, at, known);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        known_members(member, common, &at, known);
        known.insert(at);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            known_members(&schema[inner], common, &format!("{at}/*"), known);
        }
    }
    for branch in ["oneOf", "anyOf"].iter().flat_map(|choice| schema[choice].as_array().into_iter().flatten())
    {
        known_members(branch, common, at, known);
    }
}

fn used_members(value: &Value, at: &str, used: &mut BTreeSet<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        used.insert(format!("{at}/{name}"));
        used_members(member, &format!("{at}/{name}"), used);
        used_members(member, &format!("{at}/*"), used);
    }
    value.as_array().into_iter().flatten().for_each(|item| used_members(item, &format!("{at}/*"), used));
}

/// An example with one change.
struct Mutation {
    place: String,
    change: String,
    event: Value,
}

/// Texts that some member of an event accepts, and others that resemble them.
const TEXTS: &[&str] = &[
    "",
    " ",
    "word",
    "_word",
    "-",
    "a.B_c-9",
    "two words",
    " padded",
    "padded ",
    "\u{a0}padded",
    "two\nlines",
    "trailing\n",
    "a\ttab",
    "bell\u{7}",
    "zero\u{200b}width",
    "soft\u{ad}hyphen",
    "right\u{202e}to left",
    "tag\u{e0061}",
    "two\u{2028}lines",
    "\u{3164}",
    "heart\u{2764}\u{fe0f}",
    "blank\u{2800}",
    "noncharacter\u{fffe}",
    "noncharacter\u{1ffff}",
    "http://[::1]/a?b=c#d",
    "a#b#c",
    "50%",
    "a%20b",
    ".",
    "..",
    "stream",
    "delete\u{7f}",
    "next\u{85}line",
    "café",
    "production",
    "application/json",
    "application/json; charset=utf-8",
    "Application/JSON",
    "application/jsonp",
    "2026-08-01T12:00:00Z",
    "2026-08-01t12:00:00.123456789z",
    "2026-12-31T23:59:60Z",
    "2026-08-01T12:00:00+24:00",
    "2026-08-01T24:00:00Z",
    "2026-08-01T12:00:00",
    "2026-08-01T12:00:00.Z",
    "2026-13-01T12:00:00Z",
    "2026-08-01",
    "1969-12-31T23:59:59Z",
    "pkg:",
    "pkg:oci",
    "pkg:oci/",
    "pkg:/oci/search-api",
    "pkg:cargo/rand@0.9.1?arch=arm64#src",
    "pkg:9/rand",
    "PKG:cargo/rand",
    "pkg:oci/search-api@v948",
    "pkg:docker/search-api@sha256:12",
    "registry.example/search-api:latest",
    "registry.example/search-api@sha256:12",
    "known_good",
    "warn",
    "switch",
    "service",
    "environment",
    "all",
    "any",
    "1.0",
];

/// Returns the values that replace each value in turn: every JSON type, and texts and numbers at the boundaries of the
/// rules.
fn substitutes() -> Vec<Value> {
    let texts = TEXTS.iter().map(|text| Value::from(*text));
    let long = [63, 64, 512, 513, 4096, 4097].map(|length| "x".repeat(length).into());
    values_of_other_types().into_iter().chain(texts).chain(digests().map(Value::from)).chain(long).collect()
}

fn values_of_other_types() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(i32::MIN),
        json!(i64::from(i32::MIN) - 1),
        json!(i32::MAX),
        json!(i64::from(i32::MAX) + 1),
        json!(u32::MAX),
        json!(u64::from(u32::MAX) + 1),
        json!((1_u64 << 53) - 1),
        json!(1_u64 << 53),
        json!(-(1_i64 << 53)),
        json!([]),
        json!({}),
        json!([[]]),
        json!([{}]),
        json!([""]),
        json!({"name": "search-api"}),
        json!({"search-api": ["two words"]}),
    ]
}

/// Returns texts with a digest, valid and invalid.
fn digests() -> [String; 11] {
    let sha256 = "0".repeat(64);
    [
        format!("sha256:{sha256}"),
        format!("sha512:{sha256}{sha256}"),
        format!("sha512:{sha256}"),
        format!("sha256:{}", "A".repeat(64)),
        format!("registry.example/search-api@sha256:{sha256}"),
        format!("sha256:{sha256}@latest"),
        format!("pkg:@sha256:{sha256}"),
        format!("pkg:oci/search-api@sha256:{sha256}"),
        format!("pkg:docker/search-api@sha256%3A{sha256}?repository_url=registry.example"),
        format!("pkg:OCI/search-api@v948?checksum=sha512:{sha256}{sha256}"),
        format!("pkg:oci/search-api@sha256:{sha256}0"),
    ]
}

/// Returns an example's mutations: each value removed, each value replaced, and each object with an unknown member.
fn mutations(example: &Value) -> Vec<Mutation> {
    let mut places = Vec::new();
    collect_places(example, String::new(), &mut places);
    let substitutes = substitutes();
    let mut mutations = Vec::new();
    for place in places {
        let value = example.pointer(&place).expect("a place in the example");
        if value.is_object() {
            mutations.push(mutated(example, &place, "has an unknown member", |value| {
                value["unknown_member"] = json!("unknown");
            }));
        }
        let Some((parent, key)) = place.rsplit_once('/') else { continue };
        mutations.push(mutated(example, parent, &format!("lacks {key}"), |parent| remove(parent, key)));
        for substitute in &substitutes {
            let change = format!("is {}", brief(substitute));
            mutations.push(mutated(example, &place, &change, |value| *value = substitute.clone()));
        }
    }
    mutations
}

fn collect_places(value: &Value, at: String, places: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        collect_places(member, format!("{at}/{name}"), places);
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        collect_places(item, format!("{at}/{index}"), places);
    }
    places.push(at);
}

fn mutated(example: &Value, place: &str, change: &str, apply: impl FnOnce(&mut Value)) -> Mutation {
    let mut event = example.clone();
    apply(event.pointer_mut(place).expect("a place in the example"));
    Mutation { place: place.to_owned(), change: change.to_owned(), event }
}

fn remove(parent: &mut Value, key: &str) {
    match parent {
        Value::Object(members) => {
            members.remove(key);
        }
        Value::Array(items) => {
            items.remove(key.parse().expect("an index"));
        }
        _ => panic!("{key} has a parent that is neither object nor array"),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 140 { format!("{} bytes of text", text.len() - 2) } else { text }
}

#[test]
fn schema_and_code_accept_and_reject_the_same_events() {
    let mut disagreements = Vec::new();
    let (mut accepted, mut rejected) = (0, 0);
    for schema in schemas() {
        for mutation in schema.examples().iter().flat_map(mutations) {
            let (by_schema, by_code) = (validate(&schema, &mutation.event), parse(&mutation.event));
            match (&by_schema, &by_code) {
                (Ok(()), Ok(_)) => accepted += 1,
                (Err(_), Err(_)) => rejected += 1,
                _ => disagreements.push(format!(
                    "{}: {} {}: schema {by_schema:?}, code {:?}",
                    schema.kind,
                    mutation.place,
                    mutation.change,
                    by_code.map(|_| ())
                )),
            }
        }
    }
    assert!(disagreements.is_empty(), "{} disagreements:\n{}", disagreements.len(), disagreements.join("\n"));
    assert!(accepted > 1_000 && rejected > 1_000, "both outcomes occur: {accepted}, {rejected}");
}

/// Returns an example of the kind with one value changed.
fn with(schema: &Schema, place: &str, value: &Value) -> Value {
    let has_place = |example: &&Value| example.pointer(place).is_some();
    let example =
        schema.examples().iter().find(has_place).unwrap_or_else(|| panic!("no example has {place}"));
    mutated(example, place, "", |old| *old = value.clone()).event
}

#[test]
fn schema_and_code_accept_the_same_attribute_names() {
    let schema = schema(Kind::DeploySucceeded);
    let accepted_by = |name: &str, value: Value| {
        let event = mutated(&schema.examples()[0], "", "", |event| event[name] = value).event;
        (validate(&schema, &event).is_ok(), parse(&event).is_ok())
    };
    for good in ["traceparent", "x", "7", &"x".repeat(40)] {
        assert_eq!(accepted_by(good, json!("")), (true, true), "{good}");
    }
    for bad in ["", "Traceparent", "trace-parent", "data_base64", "é", "x\n", &"x".repeat(41)] {
        assert_eq!(accepted_by(bad, json!("")), (false, false), "{bad}");
    }
}

#[test]
fn schema_and_code_accept_the_same_names_of_points() {
    let schema = schema(Kind::ReleasePointMarked);
    let accepted_by = |name: &str| {
        let event = with(&schema, "/data/name", &json!(name));
        (validate(&schema, &event).is_ok(), parse(&event).is_ok())
    };
    for good in [
        "before-the-move",
        "v2 launch",
        "a@b",
        "1.2.3",
        "latest-good",
        "Yesterday",
        "2h ago",
        "-1h",
        "5x",
        "20-1-1",
    ] {
        assert_eq!(accepted_by(good), (true, true), "{good}");
    }
    for bad in [
        "latest",
        "last-known-good",
        "now",
        "today",
        "yesterday",
        "0",
        "4711",
        "-5",
        "2h",
        "36501d",
        "change:3",
        "change:x",
        "point:x",
        "2026-03-01",
        "2026-02-30",
        "2026-3-1",
        "2026-03-01T12:00Z",
        "staging@latest",
        "a@change:x",
        "@2h",
        "stream",
    ] {
        assert_eq!(accepted_by(bad), (false, false), "{bad}");
    }
}

#[test]
fn rules_that_json_schema_cannot_express_are_enforced_by_code() {
    let link = json!({"rel": "pipeline", "href": format!("https://ci.example/{}", "x".repeat(400))});
    let cases = [
        ("texts are limited in bytes, not in characters", "/data/release/version", json!("é".repeat(257))),
        ("long texts are limited in bytes, too", "/data/reason", json!("é".repeat(2049))),
        ("a package URL is decoded", "/data/release/artifact", json!("pkg:cargo/rand@%ff")),
        ("a package URL's qualifiers have names", "/data/release/artifact", json!("pkg:cargo/rand?=x&9=y")),
        ("a package URL's name is not empty", "/data/release/artifact", json!("pkg:cargo/rand/@0.9.1")),
        ("February has 28 days", "/time", json!("2026-02-29T12:00:00Z")),
        ("a leap second ends a month of UTC", "/time", json!("2026-12-31T12:00:60Z")),
        ("1970 begins at UTC", "/time", json!("1970-01-01T00:30:00+01:00")),
        ("a float is not an integer, even if it is whole", "/attempt", json!(1.0)),
        ("an event has at most 65,535 bytes", "/data/links", json!(vec![link; 200])),
    ];
    let schema = schema(Kind::DeploySucceeded);
    for (rule, place, value) in cases {
        let event = with(&schema, place, &value);
        assert_eq!(validate(&schema, &event), Ok(()), "{rule}");
        assert!(parse(&event).is_err(), "{rule}");
    }
}

#[test]
fn events_that_code_accepts_beyond_the_schema_are_listed() {
    let cases = [
        (
            "ECMA-262 counts U+FEFF as white space, Unicode does not",
            "/data/corrects/id",
            json!("\u{feff}run-4713"),
        ),
        ("1970 begins at UTC", "/time", json!("1969-12-31T23:30:00-01:00")),
    ];
    let schema = schema(Kind::DeploySucceeded);
    for (rule, place, value) in cases {
        let event = with(&schema, place, &value);
        assert!(validate(&schema, &event).is_err(), "{rule}");
        assert!(parse(&event).is_ok(), "{rule}");
    }
}
