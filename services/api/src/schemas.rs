//! The published JSON Schemas: `GET /schemas/`. They show nothing of any ledger, and need no credentials.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger_api_types::{COMMON_EVENT_SCHEMA, EVENT_SCHEMAS, KAFKA_SCHEMAS, SchemaBody, SchemasBody};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::conditional::{entity_tag, names_tag};
use crate::parameters::{NoParameters, StrictQuery};
use crate::problem::{Kind, Problem};

/// A schema changes with the program only.
const CACHE_CONTROL: &str = "public, max-age=3600";

/// Returns the folder, the name without `.json`, and the text of each schema.
fn published() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let common = [("common", COMMON_EVENT_SCHEMA)];
    let events = common.into_iter().chain(EVENT_SCHEMAS.iter().copied());
    let events = events.map(|(name, text)| ("events", name, text));
    events.chain(KAFKA_SCHEMAS.iter().copied().map(|(name, text)| ("kafka", name, text)))
}

fn schema_body((folder, name, text): (&str, &str, &str)) -> Result<SchemaBody, Problem> {
    #[derive(Deserialize)]
    struct Titled {
        title: String,
    }
    let titled: Titled = serde_json::from_str(text).map_err(|error| Problem::new(Kind::Internal, error))?;
    Ok(SchemaBody { path: format!("/schemas/{folder}/{name}.json"), title: titled.title })
}

/// Path parameters that name a schema.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SchemaPath {
    /// Folder of the schema: `events` or `kafka`.
    folder: String,
    /// File name of the schema, such as `deploy.succeeded.json`.
    file: String,
}

/// List the schemas
///
/// Returns the JSON Schemas (2020-12) of events, and of the records that the ledger produces to Kafka. Needs no
/// credentials.
#[utoipa::path(
    get,
    path = "/schemas/",
    operation_id = "listSchemas",
    tag = "events",
    responses(
        (status = 200, description = "Schemas", body = SchemasBody),
        (status = "4XX", description = "Invalid request",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list_schemas(
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
) -> Result<Response, Problem> {
    let schemas = published().map(schema_body).collect::<Result<Vec<_>, Problem>>()?;
    Ok(([(header::CACHE_CONTROL, CACHE_CONTROL)], Json(SchemasBody { schemas })).into_response())
}

/// Get a schema
///
/// Returns a JSON Schema, byte for byte as published. A schema of an event refers to `common.json` beside it. Needs no
/// credentials.
#[utoipa::path(
    get,
    path = "/schemas/{folder}/{file}",
    operation_id = "getSchema",
    tag = "events",
    params(
        SchemaPath,
        ("If-None-Match" = Option<String>, Header, description = "Entity tags of the schema that the client has"),
    ),
    responses(
        (status = 200, description = "Schema", content((serde_json::Value = "application/schema+json"))),
        (status = 304, description = "The client has it already"),
        (status = "4XX", description = "Invalid request, or unknown schema",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Internal error",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get_schema(
    Path(SchemaPath { folder, file }): Path<SchemaPath>,
    StrictQuery(NoParameters {}): StrictQuery<NoParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_wanted =
        |(of, name, _): &(&str, &str, &str)| *of == folder && file.strip_suffix(".json") == Some(*name);
    let (_, _, text) = published().find(is_wanted).ok_or_else(|| {
        let detail = format!("no schema at /schemas/{folder}/{file}; GET /schemas/ lists them");
        Problem::new(Kind::PathNotFound, detail)
    })?;
    let tag = entity_tag(text.as_bytes());
    let not_modified = names_tag(&headers, header::IF_NONE_MATCH, &tag);
    let tag = HeaderValue::from_str(&tag).map_err(|error| Problem::new(Kind::Internal, error))?;
    let cache_headers =
        [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL))];
    if not_modified {
        return Ok((StatusCode::NOT_MODIFIED, cache_headers).into_response());
    }
    let content_type = [(header::CONTENT_TYPE, "application/schema+json")];
    Ok((cache_headers, content_type, text).into_response())
}
