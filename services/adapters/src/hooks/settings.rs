//! The settings of a webhook: which tool sends it, how a delivery is authenticated, and what its names mean.

use std::collections::BTreeMap;

use ledger_domain::{EnvironmentName, ServiceName, ShortText, TargetName};
use serde::Deserialize;

use super::authenticity::signing_key;
use super::mapping::Mapping;
use super::secret::Secret;
use crate::names::Names;
use crate::text;

/// The tool that sends a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookKind {
    /// GitHub, github.com or Enterprise Server: webhooks of a repository, an organization or an app.
    GitHub,
    /// GitLab, gitlab.com or self-managed: webhooks of a project, a group or the system.
    GitLab,
    /// Argo CD, by the notification template in `ops/integrations/argocd`.
    ArgoCd,
    /// Flux, by a `Provider` of the type `generic-hmac`: see `ops/integrations/flux`.
    Flux,
    /// Prometheus Alertmanager, and programs that send the same payload (version 4), such as Grafana.
    Alertmanager,
    /// Any other sender of JSON, by a [`Mapping`].
    Generic,
}

impl HookKind {
    /// Returns the name of the kind in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::ArgoCd => "argocd",
            Self::Flux => "flux",
            Self::Alertmanager => "alertmanager",
            Self::Generic => "generic",
        }
    }

    /// Returns the events that a check can be mapped from: see [`CheckMapping::event`].
    const fn check_events(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &["workflow_run", "check_suite", "check_run"],
            Self::GitLab => &["pipeline", "job"],
            Self::ArgoCd => &["health"],
            Self::Flux => &["test"],
            Self::Alertmanager => &["alert"],
            Self::Generic => &[],
        }
    }

    const fn default_authentication(self) -> Authentication {
        match self {
            Self::GitHub => Authentication::GitHub,
            Self::GitLab => Authentication::GitLab,
            Self::Flux => Authentication::XSignature,
            Self::ArgoCd | Self::Alertmanager | Self::Generic => Authentication::Bearer,
        }
    }
}

/// The form in which a delivery proves that its sender has the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// `X-Hub-Signature-256: sha256=…`, the HMAC-SHA-256 of the body.
    #[serde(rename = "github")]
    GitHub,
    /// A secret that starts with `whsec_` is a signing token and verifies `webhook-signature` as [`Self::Standard`] does;
    /// any other is a secret token and must equal `X-Gitlab-Token`.
    #[serde(rename = "gitlab")]
    GitLab,
    /// `X-Signature: sha256=…`, the HMAC-SHA-256 of the body.
    XSignature,
    /// `Authorization: Bearer …` with the secret itself.
    Bearer,
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`, with a time of at most five minutes
    /// ago.
    Standard,
}

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

/// A check of the ledger by the run, job or alert that performs it.
///
/// Only what is mapped becomes a validation; everything else is recorded as an activity, without an effect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckMapping {
    /// Kind of run that performs the check: `workflow_run`, `check_suite` or `check_run` at GitHub; `pipeline` or `job` at
    /// GitLab; `health` in Argo CD; `test` in Flux; `alert` in Alertmanager.
    pub event: String,
    /// Name of the workflow, app, check run, pipeline, job, application or alert; `*` stands for any characters.
    pub name: String,
    /// Name of the check.
    pub check: String,
    /// Environment whose lane, or whose composition, is checked. Alerts, Argo CD and Flux name it themselves.
    pub environment: Option<String>,
    /// Service that is checked; that of the message if it is left out.
    pub service: Option<String>,
    /// Target that is checked; all targets of the service if it is left out.
    pub target: Option<String>,
    /// True if the environment as a whole is checked, and no single service.
    #[serde(default)]
    pub whole_environment: bool,
    /// Branches and tags whose runs count; `*` stands for any characters. If it is left out: the default branch. Required
    /// for check runs, check suites and jobs, which do not state their trigger.
    pub branches: Option<Vec<String>>,
    /// Triggers of runs that count: `event` of GitHub's runs, `source` of GitLab's pipelines. If it is left
    /// out: what runs on a schedule, by hand or by the API. Runs for pull requests and merge requests never count. Add
    /// `deployment_status` only to a workflow that runs after deploys to this environment, and to no other.
    pub triggers: Option<Vec<String>>,
    /// True if the check is about the commit of the run, and counts only where that commit is deployed as a version.
    #[serde(default)]
    pub of_commit: bool,
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

/// The settings of a webhook as written in the service's configuration, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// The tool that sends the webhook.
    pub kind: HookKind,
    /// Authentication of a delivery; the tool's own if it is left out.
    #[serde(default)]
    pub authentication: Option<Authentication>,
    /// Source of the events, in place of the address in the message.
    #[serde(default)]
    pub source: Option<String>,
    /// Names of the ledger by foreign names.
    #[serde(default)]
    pub names: Names,
    /// Foreign environments that are not recorded; `*` stands for any characters.
    #[serde(default = "ignored_environments")]
    pub ignored_environments: Vec<String>,
    /// True if environments that GitHub marks as transient are recorded.
    #[serde(default)]
    pub transient_environments: bool,
    /// The source of the version at GitHub and GitLab.
    #[serde(default)]
    pub version: VersionFrom,
    /// Members of the payload of GitHub's deployments that are read.
    #[serde(default = "payload_members")]
    pub payload: Vec<PayloadMember>,
    /// Tasks of GitHub's deployments that deploy a release; `*` stands for any characters.
    #[serde(default = "tasks")]
    pub tasks: Vec<String>,
    /// The runs, jobs and alerts that are checks.
    #[serde(default)]
    pub checks: Vec<CheckMapping>,
    /// Settings of Argo CD.
    #[serde(default)]
    pub argocd: ArgoCdSettings,
    /// Settings of Flux.
    #[serde(default)]
    pub flux: FluxSettings,
    /// Settings of Alertmanager.
    #[serde(default)]
    pub alerts: AlertSettings,
    /// The rules of the kind `generic`.
    #[serde(default)]
    pub mapping: Option<Mapping>,
}

fn ignored_environments() -> Vec<String> {
    vec!["review/*".to_owned()]
}

fn payload_members() -> Vec<PayloadMember> {
    vec![PayloadMember::Version, PayloadMember::Artifact, PayloadMember::Config]
}

fn tasks() -> Vec<String> {
    vec!["deploy".to_owned()]
}

impl HookConfig {
    /// Returns the settings of a kind with all defaults.
    #[must_use]
    pub fn of_kind(kind: HookKind) -> Self {
        Self {
            kind,
            authentication: None,
            source: None,
            names: Names::default(),
            ignored_environments: ignored_environments(),
            transient_environments: false,
            version: VersionFrom::default(),
            payload: payload_members(),
            tasks: tasks(),
            checks: Vec::new(),
            argocd: ArgoCdSettings::default(),
            flux: FluxSettings::default(),
            alerts: AlertSettings::default(),
            mapping: None,
        }
    }
}

/// Reason why the settings of a webhook are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// There is no secret, or there are more than two.
    #[error("a webhook has one secret, or two while they are rotated; this one has {0}")]
    SecretCount(usize),
    /// A signing token is not `whsec_` and Base64.
    #[error("a signing token is whsec_ followed by Base64 of at least 16 bytes")]
    SigningToken,
    /// The way of authentication is that of another tool.
    #[error("{kind} has its own authentication; remove authentication")]
    Authentication {
        /// The kind of the webhook.
        kind: &'static str,
    },
    /// Only the kind `generic` has a mapping, and it needs one.
    #[error("mapping is for the kind generic, which requires it")]
    Mapping,
    /// The mapping is invalid.
    #[error("mapping: {0}")]
    Rule(String),
    /// A check is invalid.
    #[error("checks[{index}]: {detail}")]
    Check {
        /// Number of the check, from 0.
        index: usize,
        /// The fault.
        detail: String,
    },
    /// A name of the ledger is invalid.
    #[error("{member}: {detail}")]
    Name {
        /// The member of the settings.
        member: String,
        /// The fault.
        detail: String,
    },
}

/// The valid settings of a webhook with its secrets.
#[derive(Debug, Clone)]
pub struct HookSettings {
    pub(super) config: HookConfig,
    pub(super) secrets: Vec<Secret>,
}

impl HookSettings {
    /// Creates the settings from their configuration and the secrets: one, or two while they are rotated.
    ///
    /// # Errors
    /// The configuration or the secrets are invalid, for the reason in the error.
    pub fn new(config: HookConfig, secrets: Vec<Secret>) -> Result<Self, InvalidSettings> {
        if !(1..=2).contains(&secrets.len()) {
            return Err(InvalidSettings::SecretCount(secrets.len()));
        }
        Self::offline(config).and_then(|settings| {
            let settings = Self { secrets, ..settings };
            settings.check_secrets()?;
            Ok(settings)
        })
    }

    /// Creates settings that translate deliveries and authenticate none, for a test of the configuration.
    ///
    /// # Errors
    /// The configuration is invalid, for the reason in the error.
    pub fn offline(config: HookConfig) -> Result<Self, InvalidSettings> {
        let kind = config.kind;
        let has_own = matches!(kind, HookKind::GitHub | HookKind::GitLab);
        let is_own = matches!(config.authentication, Some(Authentication::GitHub | Authentication::GitLab));
        if (has_own && config.authentication.is_some()) || is_own && kind != HookKind::Generic {
            return Err(InvalidSettings::Authentication { kind: kind.name() });
        }
        match (&config.mapping, kind == HookKind::Generic) {
            (Some(mapping), true) => mapping.check().map_err(InvalidSettings::Rule)?,
            (None, false) => {}
            _ => return Err(InvalidSettings::Mapping),
        }
        for (index, check) in config.checks.iter().enumerate() {
            check_mapping(kind, check).map_err(|detail| InvalidSettings::Check { index, detail })?;
        }
        check_names(&config)?;
        Ok(Self { config, secrets: Vec::new() })
    }

    /// Returns the tool that sends the webhook.
    #[must_use]
    pub const fn kind(&self) -> HookKind {
        self.config.kind
    }

    /// Returns how a delivery is authenticated.
    #[must_use]
    pub fn authentication(&self) -> Authentication {
        self.config.authentication.unwrap_or(self.config.kind.default_authentication())
    }

    /// Returns true if deploys to a foreign environment are not recorded.
    pub(super) fn ignores(&self, environment: &str) -> bool {
        self.config.ignored_environments.iter().any(|pattern| text::matches(pattern, environment))
    }

    /// Returns the check of an alert that names it by a label.
    pub(super) fn labelled_check(check: &str) -> CheckMapping {
        CheckMapping {
            event: "alert".to_owned(),
            name: "*".to_owned(),
            check: check.to_owned(),
            environment: None,
            service: None,
            target: None,
            whole_environment: false,
            branches: None,
            triggers: None,
            of_commit: false,
        }
    }

    /// Returns the checks that a run, job or alert may perform, in the order of the settings.
    pub(super) fn checks<'s>(
        &'s self,
        event: &'s str,
        name: &'s str,
    ) -> impl Iterator<Item = &'s CheckMapping> + 's {
        self.config
            .checks
            .iter()
            .filter(move |check| check.event == event && text::matches(&check.name, name))
    }

    /// Returns the first check that a run, job or alert may perform.
    pub(super) fn check<'s>(&'s self, event: &'s str, name: &'s str) -> Option<&'s CheckMapping> {
        self.checks(event, name).next()
    }

    /// Checks that signing tokens can be decoded.
    fn check_secrets(&self) -> Result<(), InvalidSettings> {
        let authentication = self.authentication();
        if !matches!(authentication, Authentication::GitLab | Authentication::Standard) {
            return Ok(());
        }
        let is_standard = authentication == Authentication::Standard;
        let mut keys = self.secrets.iter().filter_map(|secret| signing_key(secret, is_standard));
        if keys.any(|key| key.is_none()) { Err(InvalidSettings::SigningToken) } else { Ok(()) }
    }
}

fn check_mapping(kind: HookKind, check: &CheckMapping) -> Result<(), String> {
    let events = kind.check_events();
    if !events.contains(&check.event.as_str()) {
        return Err(match events {
            [] => "the kind generic has its checks in its mapping".to_owned(),
            _ => format!("event {:?} is none of {}", check.event, events.join(", ")),
        });
    }
    ShortText::parse_identifier(&check.check).map_err(|error| format!("check {error}"))?;
    match &check.environment {
        Some(name) => drop(EnvironmentName::parse(name).map_err(|error| format!("environment: {error}"))?),
        None if matches!(kind, HookKind::GitHub | HookKind::GitLab) => {
            return Err("environment is required: a run does not state it".to_owned());
        }
        None => {}
    }
    if let Some(name) = &check.service {
        ServiceName::parse(name).map_err(|error| format!("service: {error}"))?;
    }
    if let Some(name) = &check.target {
        TargetName::parse(name).map_err(|error| format!("target: {error}"))?;
    }
    if check.whole_environment && (check.service.is_some() || check.target.is_some() || check.of_commit) {
        return Err("whole_environment excludes service, target and of_commit".to_owned());
    }
    Ok(())
}

/// Checks the names of the ledger in the settings, so that a misspelt one is found at the start.
fn check_names(config: &HookConfig) -> Result<(), InvalidSettings> {
    let names = &config.names;
    for (table, part) in
        [(&names.environments, "environments"), (&names.services, "services"), (&names.targets, "targets")]
    {
        for (foreign, name) in table {
            check_name(format!("names.{part}.{foreign}"), name)?;
        }
    }
    for (name, part) in [
        (&names.default_environment, "environment"),
        (&names.default_service, "service"),
        (&names.default_target, "target"),
    ] {
        if let Some(name) = name {
            check_name(format!("names.default_{part}"), name)?;
        }
    }
    Ok(())
}

/// Checks a name. Environments, services and targets have the same grammar.
fn check_name(member: String, name: &str) -> Result<(), InvalidSettings> {
    ServiceName::parse(name)
        .map(drop)
        .map_err(|error| InvalidSettings::Name { member, detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret() -> Secret {
        Secret::parse(b"0123456789abcdef").expect("a secret")
    }

    fn settings(config: serde_json::Value) -> Result<HookSettings, String> {
        let config = serde_json::from_value(config).map_err(|error: serde_json::Error| error.to_string())?;
        HookSettings::new(config, vec![secret()]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_kind_is_the_only_required_setting() {
        let settings = settings(json!({"kind": "github"})).expect("valid");
        assert_eq!(settings.authentication(), Authentication::GitHub);
        assert_eq!(settings.config, HookConfig::of_kind(HookKind::GitHub));
    }

    #[test]
    fn invalid_settings_name_their_fault() {
        for (config, fault) in [
            (json!({"kind": "github", "unknown": 1}), "unknown field"),
            (json!({"kind": "github", "authentication": "bearer"}), "own authentication"),
            (json!({"kind": "flux", "authentication": "github"}), "own authentication"),
            (json!({"kind": "generic"}), "requires it"),
            (
                json!({"kind": "github", "names": {"environments": {"prod": "a b"}}}),
                "names.environments.prod",
            ),
            (
                json!({"kind": "github", "checks": [{"event": "push", "name": "a", "check": "b"}]}),
                "checks[0]: event \"push\" is none of",
            ),
            (
                json!({"kind": "gitlab", "checks": [{"event": "job", "name": "a", "check": "b"}]}),
                "environment is required",
            ),
            (
                json!({"kind": "gitlab", "checks": [
                    {"event": "job", "name": "a", "check": "b", "environment": "p", "whole_environment": true, "service": "s"}
                ]}),
                "excludes service",
            ),
        ] {
            let error = settings(config).expect_err(fault);
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn a_webhook_has_one_secret_or_two() {
        let config = HookConfig::of_kind(HookKind::Flux);
        for count in [0, 3] {
            let error =
                HookSettings::new(config.clone(), vec![secret(); count]).expect_err("no or too many secrets");
            assert_eq!(error, InvalidSettings::SecretCount(count));
        }
        assert!(HookSettings::new(config, vec![secret(), secret()]).is_ok());
    }

    #[test]
    fn a_signing_token_is_base64() {
        let token = Secret::parse(b"whsec_not base64 at all").expect("long enough");
        let error =
            HookSettings::new(HookConfig::of_kind(HookKind::GitLab), vec![token]).expect_err("no Base64");
        assert_eq!(error, InvalidSettings::SigningToken);
    }
}
