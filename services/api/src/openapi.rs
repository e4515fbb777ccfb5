//! OpenAPI 3.1 document of the API, generated from the handlers.

use axum::Router;
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi as Document, RefOr, Required};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::event_components::add_events;
use crate::parameter_schemas::describe;
use crate::word_schemas::add_words;
use crate::{Shared, ledger_routes, schemas, service_routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Release Ledger",
        description = "Records releases, checks and rollbacks, and shows which release ran where.\n\n\
            Every path below `/v1` except those of access also exists for a named tenant: \
            `/v1/tenants/{tenant}/…`.",
    ),
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

/// Returns the router of all paths, with and without a tenant, and its OpenAPI document.
pub(crate) fn split(api: OpenApiRouter<Shared>) -> (Router<Shared>, Value) {
    let (router, document) = split_typed(api);
    // Keys of its maps are texts only: it always serializes.
    let mut document = serde_json::to_value(&document).unwrap_or_default();
    add_words(&mut document);
    // The types of utoipa cannot express the published schemas.
    add_events(&mut document);
    (router, document)
}

/// Returns the router of all paths and its document, without the schemas of events.
pub(crate) fn split_typed(api: OpenApiRouter<Shared>) -> (Router<Shared>, Document) {
    let root = OpenApiRouter::with_openapi(Description::openapi());
    let (router, mut document) = root
        .nest("/v1", api.merge(service_routes()))
        .nest("/v1/tenants/{tenant}", ledger_routes())
        .routes(routes!(schemas::list_schemas))
        .routes(routes!(schemas::get_schema))
        .split_for_parts();
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/v1/tenants/{tenant}") {
            operations(item).into_iter().flatten().for_each(scope_to_tenant);
        }
        operations(item).into_iter().flatten().for_each(describe);
    }
    (router, document)
}

fn operations(item: &mut PathItem) -> [Option<&mut Operation>; 2] {
    [item.get.as_mut(), item.post.as_mut()]
}

/// Turns an operation into its variant for a named tenant: a distinct id and the path parameter `tenant`.
fn scope_to_tenant(operation: &mut Operation) {
    if let Some(id) = &mut operation.operation_id {
        id.push_str("OfTenant");
    }
    let tenant = ParameterBuilder::new()
        .name("tenant")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The tenant that owns the ledger."))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(tenant));
}

/// Returns the OpenAPI document of the API. `schemas/http/openapi.json` is a copy of it.
#[must_use]
pub fn document() -> Value {
    split(ledger_routes()).1
}

pub(crate) fn docs(document: Value) -> Router<Shared> {
    SwaggerUi::new("/docs").external_url_unchecked("/openapi.json", document).into()
}
