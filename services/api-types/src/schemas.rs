//! The published JSON Schemas of the folder `schemas`, compiled in, and the list of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Definitions that the schemas of events share: `common.json`.
pub const COMMON_EVENT_SCHEMA: &str = include_str!("../../../schemas/events/common.json");

macro_rules! published {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../schemas/", $folder, "/", $name, ".json")))),+]
    };
}

/// Schemas of events, by the short name of the event's type.
pub const EVENT_SCHEMAS: &[(&str, &str)] = published![
    "events":
    "activity.reported",
    "approval.granted",
    "approval.rejected",
    "artifact.built",
    "artifact.reinstated",
    "artifact.revoked",
    "deploy.failed",
    "deploy.removed",
    "deploy.started",
    "deploy.succeeded",
    "environment.declared",
    "environment.observed",
    "environment.retired",
    "freeze.lifted",
    "freeze.started",
    "grant.added",
    "grant.removed",
    "incident.opened",
    "incident.resolved",
    "release_point.marked",
    "release_point.revoked",
    "rollback.cancelled",
    "rollback.declined",
    "rollback.failed",
    "rollback.requested",
    "rollback.started",
    "rollback.succeeded",
    "subscription.created",
    "subscription.disabled",
    "subscription.removed",
    "tenant.created",
    "tenant.retired",
    "token.created",
    "token.revoked",
    "token.rotated",
    "traffic.switched",
    "validation.failed",
    "validation.passed",
    "validation.started",
];

/// Schemas of the records that the ledger produces to Kafka, by name.
pub const KAFKA_SCHEMAS: &[(&str, &str)] = published!["kafka": "cdevents", "entry", "headers", "lane-state"];

/// The JSON Schemas that the service publishes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SchemasBody {
    /// Schemas, by path.
    pub schemas: Vec<SchemaBody>,
}

/// A published JSON Schema.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SchemaBody {
    /// Path on this service: `/schemas/events/deploy.succeeded.json`.
    pub path: String,
    /// Title of the schema.
    #[serde(default)]
    #[schema(required)]
    pub title: String,
}

#[cfg(test)]
mod tests {
    use ledger_domain::Kind;

    use super::*;

    #[test]
    fn every_type_of_event_has_one_schema_by_its_short_name() {
        for kind in Kind::ALL {
            let found = EVENT_SCHEMAS.iter().find(|(name, _)| *name == kind.name());
            let (_, text) = found.unwrap_or_else(|| panic!("{} has no schema", kind.name()));
            assert!(text.contains(kind.event_type()), "{}", kind.name());
        }
        assert_eq!(EVENT_SCHEMAS.len(), Kind::ALL.len());
    }
}
