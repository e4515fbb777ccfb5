//! Settings that belong to one tool, or to two.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The source of the version of a deploy at GitHub and GitLab, where the message itself states none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionFrom {
    /// The tag if the ref is one, else the commit. A ref counts as a tag if it starts with `refs/tags/`, or has the form
    /// `1.2.3…` or `v1.2.3…`. A branch is no version: each of its deploys would have the same.
    #[default]
    Auto,
    /// The ref, unchanged but for `refs/heads/` and `refs/tags/`.
    Ref,
    /// The commit.
    Commit,
}

/// A member of the payload of a deployment at GitHub that is read into the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadMember {
    /// The version of the release.
    Version,
    /// The artifact of the release.
    Artifact,
    /// The digest of the configuration of the release.
    Config,
    /// The service, in place of the name of the repository.
    Service,
    /// The target.
    Target,
    /// The slot.
    Slot,
}

/// The meaning of an Argo CD application's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevisionMeans {
    /// The revision of the infrastructure's code: the repository has manifests only.
    #[default]
    Infrastructure,
    /// The commit that was deployed: the repository has the program and its manifests.
    Commit,
}

/// Settings of Argo CD.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArgoCdSettings {
    /// The meaning of a revision of git.
    pub revision: RevisionMeans,
    /// Image repositories by service. The tag of the service's image is the version, and its digest the artifact. Without
    /// an entry, the version is that of the chart, or the revision.
    pub images: BTreeMap<String, String>,
    /// True if an application that becomes healthy after a sync resolves its incident. An application that was never
    /// degraded becomes healthy after each sync, and then resolves an incident that was never opened.
    pub resolves_incidents: bool,
}

/// The event of a Kustomization that means that it was deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KustomizationSuccess {
    /// The health check passed: sent once for each change, if the Kustomization has `wait: true` or `healthChecks`.
    #[default]
    HealthCheck,
    /// The reconciliation finished: sent in each interval, changed or not, and each is recorded as a deploy.
    Reconciliation,
}

/// Settings of Flux.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FluxSettings {
    /// The event of a Kustomization that means that it was deployed.
    pub kustomization_success: KustomizationSuccess,
}

/// Settings of Alertmanager: the labels that state the subject of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// Labels that may hold the environment; the first that an alert has counts.
    pub environment_labels: Vec<String>,
    /// Labels that may hold the service.
    pub service_labels: Vec<String>,
    /// Labels that may hold the target.
    pub target_labels: Vec<String>,
    /// Label that holds the severity.
    pub severity_label: String,
    /// Label that holds the name of the check that an alert fails, beside the alerts in `checks`.
    pub check_label: Option<String>,
}

impl Default for AlertSettings {
    fn default() -> Self {
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            environment_labels: labels(&["environment", "env"]),
            service_labels: labels(&["service"]),
            target_labels: labels(&["target"]),
            severity_label: "severity".to_owned(),
            check_label: None,
        }
    }
}
