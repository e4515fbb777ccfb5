//! Actors.

use ledger_domain::event::Actor;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Actor in a response. The OpenAPI document has one schema for this type and [`ActorRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActorBody {
    /// Kind: `person`, `workload`, or another word.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Name.
    pub name: String,
}

/// Person, workload or other actor.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ActorBody)]
pub struct ActorRequest {
    /// Kind: `person`, `workload`, or another word.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name.
    pub name: String,
}

impl From<&Actor> for ActorBody {
    fn from(actor: &Actor) -> Self {
        Self { kind: actor.kind.to_string(), name: actor.name.to_string() }
    }
}

impl From<&Actor> for ActorRequest {
    fn from(actor: &Actor) -> Self {
        Self { kind: actor.kind.to_string(), name: actor.name.to_string() }
    }
}
