//! Responses with a problem, as the OpenAPI document describes them.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::problem::Problem;

/// Responses of a route that has no failures of its own: an invalid request, or a failure of the service.
pub(crate) struct ProblemResponses;

impl IntoResponses for ProblemResponses {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let responses = [("4XX", "Invalid request"), ("5XX", "Internal error, or temporarily unavailable")];
        responses.into_iter().map(|(status, description)| (status.to_owned(), problem(description))).collect()
    }
}

fn problem(description: &str) -> RefOr<Response> {
    let schema = Ref::from_schema_name(<Problem as ToSchema>::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(description);
    RefOr::T(response.content("application/problem+json", content).build())
}
