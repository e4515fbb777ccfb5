//! Incidents: something is wrong in an environment. They have no effect on lanes, checks or rollbacks.

use crate::{EnvironmentName, Position, ServiceName, ShortText, TargetName};

/// An incident and the part of an environment that it affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The emitter's name for the incident, the same when it is opened and when it is resolved.
    pub incident_id: ShortText,
    /// The environment.
    pub environment: EnvironmentName,
    /// The service; `None`: the whole environment.
    pub service: Option<ServiceName>,
    /// The target; `None`: all targets. Given with a service only.
    pub target: Option<TargetName>,
}

/// An incident was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentOpening {
    /// The incident.
    pub incident: Incident,
    /// A line that tells what is wrong.
    pub title: Option<ShortText>,
    /// The severity in the emitter's words.
    pub severity: Option<ShortText>,
    /// Position of the entry that caused the incident.
    pub caused_by: Option<Position>,
}
