//! The kinds of webhooks: the tools that send them, and how each proves that a delivery is authentic.

use serde::Deserialize;

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
    /// Any other sender of JSON, by a mapping.
    Generic,
}

impl HookKind {
    /// All kinds, in the order of their declaration.
    pub(super) const ALL: [Self; 6] =
        [Self::GitHub, Self::GitLab, Self::ArgoCd, Self::Flux, Self::Alertmanager, Self::Generic];

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

    /// Returns the events that a check can be mapped from: see `CheckMapping::event`.
    pub(super) const fn check_events(self) -> &'static [&'static str] {
        match self {
            Self::GitHub => &["workflow_run", "check_suite", "check_run"],
            Self::GitLab => &["pipeline", "job"],
            Self::ArgoCd => &["health"],
            Self::Flux => &["test"],
            Self::Alertmanager => &["alert"],
            Self::Generic => &[],
        }
    }

    pub(in crate::hooks) const fn default_authentication(self) -> Authentication {
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
