//! The API's description: OpenAPI 3.1, made from the handlers themselves.

use axum::Router;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi as Document, RefOr, Required};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::{Shared, questions_and_events};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Release Ledger",
        description = "What was released where, what checked it, and how it was undone.\n\n\
            Every path is also there for a named tenant: `/v1/tenants/{tenant}/…`.",
    ),
    tags(
        (name = "events", description = "The ledger's entries"),
        (name = "environments", description = "What runs where, now and at any point"),
        (name = "rollback", description = "What is known good, and the way back to it"),
        (name = "ledger", description = "The ledger as a whole"),
    )
)]
struct Description;

pub(crate) fn split(api: OpenApiRouter<Shared>) -> (Router<Shared>, Document) {
    let root = OpenApiRouter::with_openapi(Description::openapi());
    let (router, mut document) =
        root.nest("/v1", api).nest("/v1/tenants/{tenant}", questions_and_events()).split_for_parts();
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/v1/tenants/{tenant}") {
            operations(item).into_iter().flatten().for_each(of_a_tenant);
        }
    }
    (router, document)
}

fn operations(item: &mut PathItem) -> [Option<&mut Operation>; 2] {
    [item.get.as_mut(), item.post.as_mut()]
}

/// The same operation for a named tenant: its own id, and one more parameter.
fn of_a_tenant(operation: &mut Operation) {
    if let Some(id) = &mut operation.operation_id {
        id.push_str("OfTenant");
    }
    let tenant = ParameterBuilder::new()
        .name("tenant")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("Whose ledger it is."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(tenant));
}

/// The API's description. `schemas/http/openapi.json` is this, written down.
#[must_use]
pub fn document() -> Document {
    split(questions_and_events()).1
}

pub(crate) fn docs(document: Document) -> Router<Shared> {
    SwaggerUi::new("/docs").url("/openapi.json", document).into()
}
