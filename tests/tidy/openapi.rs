//! The published OpenAPI document must match the handlers, and each identifier in a path must be reachable.

use std::collections::BTreeSet;
use std::fs;

use chrono::DateTime;
use ledger_domain::{EnvironmentName, PointSelector, ShortText, SubscriptionName, TenantName};
use serde_json::Value;

use crate::tree::root;

#[test]
fn the_openapi_document_matches_the_handlers() {
    let path = root().join("schemas/http/openapi.json");
    let document = ledger_api::document();
    let actual = serde_json::to_string_pretty(&document).expect("serialize the document") + "\n";
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("create the folder");
        fs::write(&path, &actual).expect("write the document");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    let line = published.lines().zip(actual.lines()).position(|(published, actual)| published != actual);
    assert!(
        published == actual,
        "schemas/http/openapi.json differs from the handlers, from line {} on. If the API is meant to change, \
         run `UPDATE=1 cargo test -p ledger-tests --test tidy`, and review the difference as a client would.",
        line.unwrap_or(published.lines().count().min(actual.lines().count())) + 1
    );
}

/// Returns true if the value of a path parameter is accepted in a new event or request.
fn is_accepted(parameter: &str, value: &str) -> bool {
    match parameter {
        "tenant" | "hook" => TenantName::parse(value).is_ok(),
        "message_id" => value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "environment" => EnvironmentName::parse(value).is_ok(),
        "subscription" => SubscriptionName::parse(value).is_ok(),
        "rollback_id" => ShortText::parse_identifier(value).is_ok(),
        "point" => PointSelector::parse(value, DateTime::UNIX_EPOCH).is_ok(),
        "folder" => matches!(value, "events" | "kafka"),
        "file" => value.len() > ".json".len() && value.ends_with(".json"),
        "position" => value.parse::<u64>().is_ok(),
        other => panic!("add the rule for new values of the path parameter {other} here"),
    }
}

/// Returns the paths of the document with each of their servers.
fn paths(document: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    for (path, item) in document["paths"].as_object().expect("the document has paths") {
        let servers = item["servers"].as_array().or(document["servers"].as_array()).expect("servers");
        let urls = servers.iter().filter_map(|server| server["url"].as_str());
        paths.extend(urls.map(|url| format!("{}{path}", url.trim_end_matches('/'))));
    }
    paths
}

/// Otherwise a value could be recorded that no request can name: the path leads to another resource.
#[test]
fn no_path_parameter_accepts_a_literal_of_its_place_or_a_dot_segment() {
    let document = ledger_api::document();
    let paths = paths(&document);
    let paths: Vec<Vec<&str>> = paths.iter().map(|path| path.split('/').collect()).collect();
    let mut clashes = Vec::new();
    let mut checked = BTreeSet::new();
    for path in &paths {
        for (place, segment) in path.iter().enumerate() {
            let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) else {
                continue;
            };
            checked.insert(name);
            let beside = paths.iter().filter(|other| other.get(..place) == Some(&path[..place]));
            let literals = beside.filter_map(|other| other.get(place)).filter(|text| !text.starts_with('{'));
            for value in literals.chain(&[".", "..", ""]) {
                if is_accepted(name, value) {
                    clashes.push(format!("{}: {value:?} is a valid {name}", path.join("/")));
                }
            }
        }
    }
    assert_eq!(clashes, Vec::<String>::new());
    assert!(checked.contains("rollback_id"), "{checked:?}");
    assert!(checked.contains("tenant"), "{checked:?}");
}

#[test]
fn no_operation_of_the_document_is_stated_twice() {
    let document = ledger_api::document();
    let items = document["paths"].as_object().expect("the document has paths").values();
    let operations = items.flat_map(|item| item.as_object().expect("an item").values());
    let ids: Vec<&str> = operations.filter_map(|operation| operation["operationId"].as_str()).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert!(ids.len() > 30, "{}", ids.len());
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
    let paths = paths(&document);
    assert_eq!(paths.len(), paths.iter().collect::<BTreeSet<_>>().len(), "{paths:?}");
}
