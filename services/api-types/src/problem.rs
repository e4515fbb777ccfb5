//! Problem documents (`application/problem+json`, RFC 9457).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::plan::PlanBody;

/// Problem document as defined by RFC 9457.
// A member that cannot be parsed counts as absent, except `type`: a client decides by the type alone.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Kind of the problem, a stable URN.
    #[serde(rename = "type", default)]
    #[schema(required)]
    pub kind: String,
    /// Short summary of the kind.
    #[serde(default, deserialize_with = "deserialize_or_default")]
    #[schema(required)]
    pub title: String,
    /// HTTP status.
    #[serde(default, deserialize_with = "deserialize_or_default")]
    #[schema(required)]
    pub status: u16,
    /// Explanation of this occurrence.
    #[serde(default, deserialize_with = "deserialize_or_default")]
    #[schema(required)]
    pub detail: String,
    /// URN of the request, with the id of its header `Request-Id`.
    #[serde(default, deserialize_with = "deserialize_or_default", skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Errors by location.
    #[serde(default, deserialize_with = "deserialize_or_default", skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Related position: of the projections, or of the entry that conflicts.
    #[serde(default, deserialize_with = "deserialize_or_default", skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Current plan, if the request was rejected because of it.
    #[serde(default, deserialize_with = "deserialize_or_default", skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<PlanBody>>,
}

/// Error at one location of the request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// RFC 6901 JSON pointer into the event or the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Name of the parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Explanation of the error.
    #[serde(default)]
    #[schema(required)]
    pub detail: String,
}

impl ProblemBody {
    /// Prefix of the `type` of every problem of a ledger. Other sources of problems, such as a proxy, have other types.
    pub const URN_PREFIX: &str = "urn:release-ledger:problem:";

    /// Returns the last part of the URN; `None` if the problem is not a ledger's.
    #[must_use]
    pub fn slug(&self) -> Option<&str> {
        self.kind.strip_prefix(Self::URN_PREFIX)
    }
}

/// Deserializes any JSON value; one that is not a `T` gives the default.
fn deserialize_or_default<'de, T: DeserializeOwned + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let json = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(json.get()).unwrap_or_default())
}
