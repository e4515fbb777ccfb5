//! Schemas of the parameters in the OpenAPI document: a pattern, a list or bounds for each.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};

/// Form of the names of environments, services, targets and tenants.
const NAME: &str = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}";
/// Form of a time.
const TIME: &str = "now|today|yesterday|[0-9]{1,19}[smhdw]|[0-9]{4}-[0-9]{2}-[0-9]{2}\
    ([Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2}))?";

/// Characters of a point, at most: the name of an environment, `@`, `point:` and a name.
const MAX_POINT: usize = 63 + 1 + 6 + 512;

/// Largest position.
const MAX_POSITION: i64 = i64::MAX;

fn text(pattern: String) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build()
}

fn number(minimum: i64, maximum: i64) -> Object {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    let number = ObjectBuilder::new().schema_type(Type::Integer).format(Some(format));
    number.minimum(Some(minimum)).maximum(Some(maximum)).build()
}

fn one_of(values: &[&str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.iter().copied())).build()
}

fn text_up_to(characters: usize) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String);
    text.min_length(Some(1)).max_length(Some(characters)).build()
}

/// Returns the schema of the parameter `name` of an operation; `None` for one without a rule.
fn schema(operation: &str, name: &str) -> Option<Object> {
    Some(match name {
        "environment" | "service"
            if ["getOverview", "getDeployFrequency"].iter().any(|it| operation.starts_with(it)) =>
        {
            text(format!("^{NAME}(,{NAME})*$"))
        }
        "environment" | "service" | "target" | "tenant" | "hook" | "subscription" => {
            text(format!("^{NAME}$"))
        }
        "before" if operation == "listReads" => {
            text("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$".to_owned())
        }
        "after" if operation.starts_with("getOverview") => text(format!("^{NAME}$")),
        "after" | "before" | "known_at" | "wait_for" | "position" | "Last-Event-ID" => {
            number(0, MAX_POSITION)
        }
        "wait_ms" => number(0, 30_000),
        "limit" if ["listEvents", "findRelease", "listReads"].iter().any(|it| operation.starts_with(it)) => {
            number(1, 1_000)
        }
        "limit" if operation.starts_with("getOverview") => number(1, 50),
        "skip" => number(0, 100_000),
        "limit" => number(1, 100),
        // Any text may be the name of a point.
        "at" | "point" | "from" | "to" => text_up_to(MAX_POINT),
        "format" if operation.starts_with("followEvents") => one_of(&["ledger", "cdevents"]),
        "format" => one_of(&["json", "yaml", "env", "kustomize", "helm-values"]),
        "order" => one_of(&["asc", "desc"]),
        "by" => one_of(&["day", "week", "month"]),
        "since" | "until" => text(format!("^({TIME})$")),
        "status" if ["listEvents", "followEvents"].iter().any(|it| operation.starts_with(it)) => {
            text("^[a-z]+(,[a-z]+)*$".to_owned())
        }
        "status" => one_of(&["empty", "candidate", "known_good", "bad"]),
        "phase" => one_of(&["requested", "started", "succeeded", "failed", "cancelled"]),
        "type" => text("^[a-z0-9_.]+(,[a-z0-9_.]+)*$".to_owned()),
        "message_id" => text("^[0-9a-f]{32}$".to_owned()),
        "window" => text("^[0-9]{1,12}[smhdw]$".to_owned()),
        "If-Match" => text("^(\\*|\"[0-9]{1,19}\")$".to_owned()),
        "If-None-Match" => text("^(\\*|.*\".*\".*)$".to_owned()),
        "source" | "id" | "rollback_id" | "correlation" | "causation" | "actor" | "commit" | "artifact"
        | "release" | "principal" => text_up_to(512),
        "Prefer" => one_of(&["return=minimal"]),
        "folder" => one_of(&["events", "kafka"]),
        "file" => text("^[a-z_.-]+\\.json$".to_owned()),
        "dry_run" | "active" => ObjectBuilder::new().schema_type(Type::Boolean).build(),
        _ => return None,
    })
}

/// Sets the schema of each parameter of an operation.
pub(crate) fn describe(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        if let Some(schema) = schema(&id, &parameter.name) {
            parameter.schema = Some(RefOr::T(Schema::Object(schema)));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_parameter_has_a_pattern_a_list_or_bounds() {
        let document = crate::document();
        let operations = document["paths"].as_object().expect("paths").iter().flat_map(|(path, item)| {
            item.as_object().expect("an item").values().map(move |operation| (path, operation))
        });
        let mut unbounded = Vec::new();
        for (path, operation) in operations {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let schema = &parameter["schema"];
                let is_bounded =
                    ["pattern", "enum", "maximum", "maxLength"].iter().any(|key| schema.get(key).is_some());
                if !is_bounded && schema["type"] != "boolean" {
                    unbounded.push(format!("{path} {}", parameter["name"]));
                }
            }
        }
        assert_eq!(unbounded, Vec::<String>::new());
    }
}
