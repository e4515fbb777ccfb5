//! Activities: occurrences on the way of a release without an effect on lanes, checks or rollbacks.

use crate::{Artifact, EnvironmentName, ServiceName, ShortText, TargetName};

/// Something that happened on the way of a release: a pipeline run, a merge, a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// The occurrence: `change.merged`, `pipelinerun.finished`.
    pub activity: ShortText,
    /// The subject: the pipeline run, the change, the ticket.
    pub subject: Option<ShortText>,
    /// The environment that it concerns.
    pub environment: Option<EnvironmentName>,
    /// The service that it concerns. Given with an environment only.
    pub service: Option<ServiceName>,
    /// The target that it concerns. Given with a service only.
    pub target: Option<TargetName>,
    /// The artifact that it concerns.
    pub artifact: Option<Artifact>,
    /// The commit that it concerns.
    pub commit: Option<ShortText>,
    /// The result: `success`, `failure`, `error`, `cancelled`.
    pub outcome: Option<ShortText>,
}
