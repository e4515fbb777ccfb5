//! The settings of a webhook as an operator writes them: what is left out is `None`, and has its default in `Webhook`.

use ledger_domain::ServiceName;
use serde::Deserialize;

use super::check_mapping::CheckMapping;
use super::invalid::InvalidSettings;
use super::kind::{Authentication, HookKind};
use super::tools::{AlertSettings, ArgoCdSettings, FluxSettings, PayloadMember, VersionFrom};
use crate::hooks::mapping::Mapping;
use crate::names::Names;

/// The settings of a webhook as written in the service's settings, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The tool that sends the webhook.
    pub kind: HookKind,
    /// Authentication of a delivery; the tool's own if it is left out.
    pub authentication: Option<Authentication>,
    /// Source of the events, in place of the address in the message.
    pub source: Option<String>,
    /// Names of the ledger by foreign names.
    #[serde(default)]
    pub names: Names,
    /// Environments that are not recorded, by their foreign name or that of the ledger; `*` stands for any characters.
    /// `review/*` if it is left out.
    pub ignored_environments: Option<Vec<String>>,
    /// True if environments that GitHub marks as transient are recorded; false if it is left out.
    pub transient_environments: Option<bool>,
    /// The source of the version at GitHub and GitLab.
    pub version: Option<VersionFrom>,
    /// Members of the payload of GitHub's deployments that are read; version, artifact and config if it is left out.
    pub payload: Option<Vec<PayloadMember>>,
    /// Tasks of GitHub's deployments that deploy a release; `*` stands for any characters. `deploy` if it is left out.
    pub tasks: Option<Vec<String>>,
    /// The runs, jobs and alerts that are checks.
    #[serde(default)]
    pub checks: Vec<CheckMapping>,
    /// Settings of Argo CD.
    pub argocd: Option<ArgoCdSettings>,
    /// Settings of Flux.
    pub flux: Option<FluxSettings>,
    /// Settings of Alertmanager.
    pub alerts: Option<AlertSettings>,
    /// The rules of the kind `generic`.
    pub mapping: Option<Mapping>,
}

impl WebhookSettings {
    /// Returns the settings of a kind with all defaults.
    #[must_use]
    pub fn of_kind(kind: HookKind) -> Self {
        Self {
            kind,
            authentication: None,
            source: None,
            names: Names::default(),
            ignored_environments: None,
            transient_environments: None,
            version: None,
            payload: None,
            tasks: None,
            checks: Vec::new(),
            argocd: None,
            flux: None,
            alerts: None,
            mapping: None,
        }
    }

    /// Checks that the settings are valid, and that each has an effect on the kind of the webhook.
    pub(in crate::hooks) fn check(&self) -> Result<(), InvalidSettings> {
        let kind = self.kind;
        let has_own = matches!(kind, HookKind::GitHub | HookKind::GitLab);
        let is_own = matches!(self.authentication, Some(Authentication::GitHub | Authentication::GitLab));
        if (has_own && self.authentication.is_some()) || is_own && kind != HookKind::Generic {
            return Err(InvalidSettings::Authentication { kind: kind.name() });
        }
        self.check_effects()?;
        match &self.mapping {
            Some(mapping) => mapping.check().map_err(InvalidSettings::Rule)?,
            None if kind == HookKind::Generic => return Err(InvalidSettings::MissingMapping),
            None => {}
        }
        for (index, check) in self.checks.iter().enumerate() {
            check.check(kind).map_err(|detail| InvalidSettings::Check { index, detail })?;
        }
        self.check_names()
    }

    /// Checks that no setting belongs to other kinds.
    fn check_effects(&self) -> Result<(), InvalidSettings> {
        const GITHUB: &[HookKind] = &[HookKind::GitHub];
        for (setting, is_set, owners) in [
            ("transient_environments", self.transient_environments.is_some(), GITHUB),
            ("version", self.version.is_some(), &[HookKind::GitHub, HookKind::GitLab][..]),
            ("payload", self.payload.is_some(), GITHUB),
            ("tasks", self.tasks.is_some(), GITHUB),
            ("argocd", self.argocd.is_some(), &[HookKind::ArgoCd][..]),
            ("flux", self.flux.is_some(), &[HookKind::Flux][..]),
            ("alerts", self.alerts.is_some(), &[HookKind::Alertmanager][..]),
            ("mapping", self.mapping.is_some(), &[HookKind::Generic][..]),
        ] {
            if is_set && !owners.contains(&self.kind) {
                let owners = owners.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" and ");
                return Err(InvalidSettings::WithoutEffect { setting, kind: self.kind.name(), owners });
            }
        }
        Ok(())
    }

    /// Checks the names of the ledger, so that a misspelt one is found at the start.
    fn check_names(&self) -> Result<(), InvalidSettings> {
        let names = &self.names;
        for (table, part) in [
            (&names.environments, "environments"),
            (&names.services, "services"),
            (&names.targets, "targets"),
        ] {
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
}

/// Checks a name. Environments, services and targets have the same grammar.
fn check_name(member: String, name: &str) -> Result<(), InvalidSettings> {
    ServiceName::parse(name)
        .map(drop)
        .map_err(|error| InvalidSettings::Name { member, detail: error.to_string() })
}
