//! OpenAPI 3.1 document of the API, generated from the handlers.

use axum::Router;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi as Document, RefOr, Required};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::parameter_schemas::describe;
use crate::{Shared, ledger_routes, service_routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Release Ledger",
        description = "Records releases, checks and rollbacks, and shows which release ran where.\n\n\
            Every path except those of access also exists for a named tenant: `/v1/tenants/{tenant}/…`.",
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
pub(crate) fn split(api: OpenApiRouter<Shared>) -> (Router<Shared>, Document) {
    let root = OpenApiRouter::with_openapi(Description::openapi());
    let (router, mut document) = root
        .nest("/v1", api.merge(service_routes()))
        .nest("/v1/tenants/{tenant}", ledger_routes())
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
pub fn document() -> Document {
    split(ledger_routes()).1
}

pub(crate) fn docs(document: Document) -> Router<Shared> {
    SwaggerUi::new("/docs").url("/openapi.json", document).into()
}
