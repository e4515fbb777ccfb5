//! OpenAPI 3.1 document of the API, generated from the handlers.

use std::collections::BTreeSet;

use axum::Router;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi as Document, Server, ServerBuilder, ServerVariableBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::client_schemas::suit_generators;
use crate::event_components::add_events;
use crate::parameter_schemas::describe;
use crate::word_schemas::add_words;
use crate::{Shared, ledger_routes, schemas, service_routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Release Ledger",
        description = "Records releases, checks and rollbacks, and shows which release ran where.\n\n\
            The server of a path states the tenant: `/v1` is the tenant `default`, and \
            `/v1/tenants/{tenant}` any other.",
    ),
    security(("bearer" = []), ()),
    tags(
        (name = "events", description = "Entries of the ledger"),
        (name = "environments", description = "State of environments, now and at any point"),
        (name = "rollback", description = "Release points, gates and rollbacks"),
        (name = "ledger", description = "The ledger as a whole"),
        (name = "quarantine", description = "Messages of other tools that could not be understood"),
        (name = "subscriptions", description = "Webhooks to which entries are delivered"),
        (name = "access", description = "Who the client is, and who may do what"),
    )
)]
struct Description;

/// Prefix of all paths but those of schemas.
const VERSION: &str = "/v1";
/// Prefix of the paths of a named tenant's ledger.
const TENANT: &str = "/v1/tenants/{tenant}";

/// Returns the router of all paths, with and without a tenant, and the OpenAPI document.
pub(crate) fn split(api: OpenApiRouter<Shared>) -> (Router<Shared>, Value) {
    let (router, document) = split_typed(api);
    // Keys of its maps are texts only: it always serializes.
    let mut document = serde_json::to_value(&document).unwrap_or_default();
    add_words(&mut document);
    // The types of utoipa cannot express the published schemas.
    add_events(&mut document);
    suit_generators(&mut document);
    document["components"]["securitySchemes"] = json!({"bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "Token of the ledger, or of an issuer that it trusts. Unnecessary if the service does not \
                        authenticate its clients.",
    }});
    (router, document)
}

/// Returns the router of all paths and its document, without the schemas of events.
pub(crate) fn split_typed(api: OpenApiRouter<Shared>) -> (Router<Shared>, Document) {
    let root = OpenApiRouter::with_openapi(Description::openapi());
    let (router, mut document) = root
        .nest(VERSION, api.merge(service_routes()))
        .nest(TENANT, ledger_routes())
        .routes(routes!(schemas::list_schemas))
        .routes(routes!(schemas::get_schema))
        .split_for_parts();
    state_servers(&mut document);
    for item in document.paths.paths.values_mut() {
        operations(item).into_iter().flatten().for_each(describe);
    }
    (router, document)
}

fn operations(item: &mut PathItem) -> [Option<&mut Operation>; 2] {
    [item.get.as_mut(), item.post.as_mut()]
}

/// States each operation once: the paths of a ledger without their prefix, which is one of the two servers of the
/// document. A path with another prefix has a server of its own.
fn state_servers(document: &mut Document) {
    let paths = std::mem::take(&mut document.paths.paths);
    let of_ledgers: BTreeSet<String> =
        paths.keys().filter_map(|path| path.strip_prefix(TENANT)).map(str::to_owned).collect();
    for (path, mut item) in paths {
        if path.starts_with(TENANT) {
            continue;
        }
        let Some(short) = path.strip_prefix(VERSION) else {
            item.servers = Some(vec![Server::new("/")]);
            document.paths.paths.insert(path, item);
            continue;
        };
        if !of_ledgers.contains(short) {
            item.servers = Some(vec![Server::new(VERSION)]);
        }
        document.paths.paths.insert(short.to_owned(), item);
    }
    let tenant = ServerVariableBuilder::new()
        .default_value("default")
        .description(Some("The tenant that owns the ledger."));
    document.servers = Some(vec![
        ServerBuilder::new().url(VERSION).description(Some("Ledger of the tenant `default`.")).build(),
        ServerBuilder::new()
            .url(TENANT)
            .description(Some("Ledger of a named tenant."))
            .parameter("tenant", tenant)
            .build(),
    ]);
}

/// Returns the OpenAPI document of the API. `schemas/http/openapi.json` is a copy of it.
#[must_use]
pub fn document() -> Value {
    split(ledger_routes()).1
}

pub(crate) fn docs(document: Value) -> Router<Shared> {
    SwaggerUi::new("/docs").external_url_unchecked("/openapi.json", document).into()
}
