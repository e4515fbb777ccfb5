//! The samples that fuzzers edit: examples of the schemas and of the guides, the samples of the tests of CDEvents, and
//! `samples/hooks.json` and `samples/exports.json` for what these lack.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// Returns the text of a file of the project.
fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/fuzz is in the root");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("samples are JSON")
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("not a list of samples: {other}"),
    }
}

/// Returns the examples of every event.
pub(crate) fn events() -> &'static [Value] {
    static EVENTS: OnceLock<Vec<Value>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/events");
        let names =
            fs::read_dir(folder).expect("schemas/events").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        let schemas = names.iter().map(|name| parse(&read(&format!("schemas/events/{name}"))));
        let examples = schemas.filter_map(|mut schema| schema.get_mut("examples").map(Value::take));
        examples.flat_map(items).collect()
    })
}

/// Returns lists of three events.
pub(crate) fn batches() -> &'static [Value] {
    static BATCHES: OnceLock<Vec<Value>> = OnceLock::new();
    BATCHES.get_or_init(|| events().chunks(3).map(Value::from).collect())
}

/// Returns a policy of each example that declares an environment.
pub(crate) fn policies() -> &'static [Value] {
    static POLICIES: OnceLock<Vec<Value>> = OnceLock::new();
    POLICIES
        .get_or_init(|| events().iter().filter_map(|event| event["data"].get("policy").cloned()).collect())
}

/// Returns a CDEvent of every type of every specification.
pub(crate) fn cdevents() -> &'static [Value] {
    static CDEVENTS: OnceLock<Vec<Value>> = OnceLock::new();
    CDEVENTS.get_or_init(|| {
        let files = ["0.3.0", "0.4.1", "0.5.1", "0.6.0-draft"];
        let files = files.map(|name| format!("services/adapters/src/cdevents/tests/samples/{name}.json"));
        let mut samples: Vec<Value> = files.iter().flat_map(|path| items(parse(&read(path)))).collect();
        samples.push(guide("cdevents"));
        samples
    })
}

/// Returns each CDEvent in a CloudEvent whose attributes agree with it.
pub(crate) fn cloudevents() -> &'static [Value] {
    static CLOUDEVENTS: OnceLock<Vec<Value>> = OnceLock::new();
    CLOUDEVENTS.get_or_init(|| cdevents().iter().map(in_cloudevent).collect())
}

/// Returns lists of three CDEvents in CloudEvents.
pub(crate) fn cloudevent_batches() -> &'static [Value] {
    static BATCHES: OnceLock<Vec<Value>> = OnceLock::new();
    BATCHES.get_or_init(|| cloudevents().chunks(3).map(Value::from).collect())
}

/// Returns a CDEvent in a CloudEvent whose attributes agree with it.
pub(crate) fn in_cloudevent(message: &Value) -> Value {
    let context = &message["context"];
    json!({
        "specversion": "1.0", "id": context["id"], "source": context["source"], "type": context["type"],
        "time": context["timestamp"], "datacontenttype": "application/json", "data": message
    })
}

/// Returns the first JSON of a guide.
fn guide(name: &str) -> Value {
    let text = read(&format!("ops/guides/{name}.md"));
    let (_, block) = text.split_once("```json").expect("the guide has an example");
    let (_, block) = block.split_once('\n').expect("the example begins on a line of its own");
    parse(block.split_once("```").expect("the example ends").0)
}

/// Samples for a kind of webhook.
#[derive(Debug)]
pub(crate) struct Hook {
    /// Settings of a webhook.
    pub(crate) settings: Vec<Value>,
    /// Bodies of deliveries.
    pub(crate) bodies: Vec<Value>,
}

/// Returns the samples for a kind of webhook.
pub(crate) fn hook(kind: &str) -> &'static Hook {
    static HOOKS: OnceLock<BTreeMap<String, Hook>> = OnceLock::new();
    let hooks = HOOKS.get_or_init(|| {
        let Value::Object(file) = parse(&read("tests/fuzz/samples/hooks.json")) else {
            return BTreeMap::new();
        };
        let hook = |(kind, mut samples): (String, Value)| {
            let mut bodies = items(samples["bodies"].take());
            bodies.push(guide(if kind == "generic" { "generic-webhooks" } else { &kind }));
            (kind, Hook { settings: items(samples["settings"].take()), bodies })
        };
        file.into_iter().map(hook).collect()
    });
    &hooks[kind]
}

/// Exported histories.
#[derive(Debug)]
pub(crate) struct Exports {
    /// Files of GitHub.
    pub(crate) github: Vec<Value>,
    /// Files of GitLab.
    pub(crate) gitlab: Vec<Value>,
    /// Tables.
    pub(crate) csv: Vec<String>,
}

/// Returns the exported histories.
pub(crate) fn exports() -> &'static Exports {
    static EXPORTS: OnceLock<Exports> = OnceLock::new();
    EXPORTS.get_or_init(|| {
        let mut file = parse(&read("tests/fuzz/samples/exports.json"));
        let csv = items(file["csv"].take());
        Exports {
            github: items(file["github"].take()),
            gitlab: items(file["gitlab"].take()),
            csv: csv.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    })
}
