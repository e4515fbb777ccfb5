//! A webhook whose deliveries can be authenticated and translated: valid settings with their defaults, and secrets.

use super::authenticity::signing_key;
use super::mapping::Mapping;
use super::secret::Secret;
use super::settings::{
    AlertSettings, ArgoCdSettings, Authentication, CheckMapping, FluxSettings, HookKind, InvalidSettings,
    PayloadMember, VersionFrom, WebhookSettings,
};
use crate::names::Names;
use crate::text;

/// A webhook with valid settings and its secrets.
#[derive(Debug, Clone)]
pub struct Webhook {
    kind: HookKind,
    authentication: Authentication,
    pub(super) secrets: Vec<Secret>,
    /// Source of the events, in place of the address in the message.
    pub(super) source: Option<String>,
    pub(super) names: Names,
    ignored_environments: Vec<String>,
    pub(super) transient_environments: bool,
    pub(super) version: VersionFrom,
    pub(super) payload: Vec<PayloadMember>,
    pub(super) tasks: Vec<String>,
    checks: Vec<CheckMapping>,
    pub(super) argocd: ArgoCdSettings,
    pub(super) flux: FluxSettings,
    pub(super) alerts: AlertSettings,
    pub(super) mapping: Option<Mapping>,
}

impl Webhook {
    /// Creates a webhook from its settings and the secrets: one, or two while they are rotated.
    ///
    /// # Errors
    /// The settings or the secrets are invalid, for the reason in the error.
    pub fn new(settings: WebhookSettings, secrets: Vec<Secret>) -> Result<Self, InvalidSettings> {
        if !(1..=2).contains(&secrets.len()) {
            return Err(InvalidSettings::SecretCount(secrets.len()));
        }
        let webhook = Self { secrets, ..Self::offline(settings)? };
        webhook.check_secrets()?;
        Ok(webhook)
    }

    /// Creates a webhook that translates deliveries and authenticates none, for a test of its settings.
    ///
    /// # Errors
    /// The settings are invalid, for the reason in the error.
    pub fn offline(settings: WebhookSettings) -> Result<Self, InvalidSettings> {
        settings.check()?;
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let webhook = Self {
            kind: settings.kind,
            authentication: settings.authentication.unwrap_or(settings.kind.default_authentication()),
            secrets: Vec::new(),
            source: settings.source,
            names: settings.names,
            ignored_environments: settings.ignored_environments.unwrap_or_else(|| owned(&["review/*"])),
            transient_environments: settings.transient_environments.unwrap_or(false),
            version: settings.version.unwrap_or_default(),
            payload: settings.payload.unwrap_or_else(|| {
                vec![PayloadMember::Version, PayloadMember::Artifact, PayloadMember::Config]
            }),
            tasks: settings.tasks.unwrap_or_else(|| owned(&["deploy"])),
            checks: settings.checks,
            argocd: settings.argocd.unwrap_or_default(),
            flux: settings.flux.unwrap_or_default(),
            alerts: settings.alerts.unwrap_or_default(),
            mapping: settings.mapping,
        };
        webhook.check_environments()?;
        Ok(webhook)
    }

    /// Returns the tool that sends the webhook.
    #[must_use]
    pub const fn kind(&self) -> HookKind {
        self.kind
    }

    /// Returns how a delivery is authenticated.
    #[must_use]
    pub const fn authentication(&self) -> Authentication {
        self.authentication
    }

    /// Returns true if an environment with this name is not recorded.
    pub(super) fn ignores(&self, environment: &str) -> bool {
        self.ignored_environments.iter().any(|pattern| text::matches(pattern, environment))
    }

    /// Returns the checks that a run, job or alert may perform, in the order of the settings.
    pub(super) fn checks<'s>(
        &'s self,
        event: &'s str,
        name: &'s str,
    ) -> impl Iterator<Item = &'s CheckMapping> + 's {
        self.checks.iter().filter(move |check| check.is_of(event, name))
    }

    /// Returns the first check that a run, job or alert may perform.
    pub(super) fn check<'s>(&'s self, event: &'s str, name: &'s str) -> Option<&'s CheckMapping> {
        self.checks(event, name).next()
    }

    /// Checks that no check is of an environment that is not recorded.
    fn check_environments(&self) -> Result<(), InvalidSettings> {
        for (index, check) in self.checks.iter().enumerate() {
            if let Some(name) = check.environment.as_deref().filter(|name| self.ignores(name)) {
                let detail = format!("environment {name:?} is one of ignored_environments");
                return Err(InvalidSettings::Check { index, detail });
            }
        }
        Ok(())
    }

    /// Checks that signing tokens can be decoded.
    fn check_secrets(&self) -> Result<(), InvalidSettings> {
        if !matches!(self.authentication, Authentication::GitLab | Authentication::Standard) {
            return Ok(());
        }
        let is_standard = self.authentication == Authentication::Standard;
        let mut keys = self.secrets.iter().filter_map(|secret| signing_key(secret, is_standard));
        if keys.any(|key| key.is_none()) { Err(InvalidSettings::SigningToken) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret() -> Secret {
        Secret::parse(b"0123456789abcdef").expect("a secret")
    }

    fn webhook(config: serde_json::Value) -> Result<Webhook, String> {
        let config = serde_json::from_value(config).map_err(|error: serde_json::Error| error.to_string())?;
        Webhook::new(config, vec![secret()]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_kind_is_the_only_required_setting() {
        let webhook = webhook(json!({"kind": "github"})).expect("valid");
        assert_eq!(webhook.authentication(), Authentication::GitHub);
        assert!(webhook.ignores("review/7"));
    }

    #[test]
    fn invalid_settings_name_their_fault() {
        for (config, fault) in [
            (json!({"kind": "github", "unknown": 1}), "unknown field"),
            (json!({"kind": "github", "authentication": "bearer"}), "own authentication"),
            (json!({"kind": "flux", "authentication": "github"}), "own authentication"),
            (json!({"kind": "generic"}), "requires mapping"),
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
            let error = webhook(config).expect_err(fault);
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn a_setting_without_effect_is_rejected_and_names_the_kinds_that_it_belongs_to() {
        for (setting, value, kinds, owners) in [
            ("transient_environments", json!(false), &["gitlab", "flux"][..], "github"),
            ("version", json!("ref"), &["argocd", "flux", "alertmanager"][..], "github and gitlab"),
            ("payload", json!(["version"]), &["gitlab"][..], "github"),
            ("tasks", json!([]), &["gitlab"][..], "github"),
            ("argocd", json!({}), &["github", "flux"][..], "argocd"),
            ("flux", json!({"kustomization_success": "reconciliation"}), &["argocd"][..], "flux"),
            ("alerts", json!({"check_label": "check"}), &["github", "flux"][..], "alertmanager"),
            (
                "mapping",
                json!({"source": "s", "rules": [{"ignore": "a"}]}),
                &["flux", "github"][..],
                "generic",
            ),
        ] {
            for kind in kinds {
                let error = webhook(json!({"kind": kind, setting: value})).expect_err(setting);
                let expected =
                    format!("{setting} has no effect on the kind {kind}; it belongs to {owners}: ");
                assert!(error.starts_with(&expected), "{error}");
            }
        }
    }

    #[test]
    fn a_setting_of_a_check_without_effect_is_rejected() {
        let lane =
            "github (workflow_run, check_suite, check_run), gitlab (pipeline, job), alertmanager (alert)";
        let runs = "github (workflow_run, check_suite, check_run), gitlab (pipeline, job)";
        let with_trigger = "github (workflow_run), gitlab (pipeline)";
        for (kind, event, setting, value, owners) in [
            ("alertmanager", "alert", "branches", json!(["main"]), runs),
            ("alertmanager", "alert", "of_commit", json!(true), runs),
            ("alertmanager", "alert", "triggers", json!(["push"]), with_trigger),
            ("argocd", "health", "environment", json!("production"), lane),
            ("argocd", "health", "whole_environment", json!(true), lane),
            ("flux", "test", "service", json!("web"), lane),
            ("flux", "test", "target", json!("eu"), lane),
            ("github", "check_run", "triggers", json!(["push"]), with_trigger),
            ("gitlab", "job", "triggers", json!(["web"]), with_trigger),
        ] {
            let check = json!({"event": event, "name": "a", "check": "b", setting: value});
            let error = webhook(json!({"kind": kind, "checks": [check]})).expect_err(setting);
            let expected = format!("checks[0]: {setting} has no effect on {event}; it belongs to {owners}");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_check_of_runs_that_state_no_trigger_requires_branches() {
        for (kind, event) in [("github", "check_run"), ("github", "check_suite"), ("gitlab", "job")] {
            let check = json!({"event": event, "name": "a", "check": "b", "environment": "production"});
            let error = webhook(json!({"kind": kind, "checks": [check]})).expect_err(event);
            assert!(error.starts_with("checks[0]: branches is required"), "{error}");
        }
    }

    #[test]
    fn a_check_of_an_environment_that_is_not_recorded_is_rejected() {
        let check = json!({"event": "alert", "name": "a", "check": "b", "environment": "lab"});
        let config = json!({"kind": "alertmanager", "checks": [check], "ignored_environments": ["l*"]});
        let error = webhook(config).expect_err("never recorded");
        assert_eq!(error, "checks[0]: environment \"lab\" is one of ignored_environments");
    }

    #[test]
    fn a_webhook_has_one_secret_or_two() {
        let config = WebhookSettings::of_kind(HookKind::Flux);
        for count in [0, 3] {
            let error =
                Webhook::new(config.clone(), vec![secret(); count]).expect_err("no or too many secrets");
            assert_eq!(error, InvalidSettings::SecretCount(count));
        }
        assert!(Webhook::new(config, vec![secret(), secret()]).is_ok());
    }

    #[test]
    fn a_signing_token_is_base64() {
        let token = Secret::parse(b"whsec_not base64 at all").expect("long enough");
        let error =
            Webhook::new(WebhookSettings::of_kind(HookKind::GitLab), vec![token]).expect_err("no Base64");
        assert_eq!(error, InvalidSettings::SigningToken);
    }
}
