//! Roles of a process.

use serde::Deserialize;

/// Role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Records events and answers queries.
    Http,
    /// Applies the stream to the projections.
    Projector,
    /// Requests rollbacks after failed checks, where a policy enables it.
    Controller,
    /// Delivers entries to webhooks.
    Webhooks,
}

impl Role {
    /// Returns the name in the settings.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Projector => "projector",
            Self::Controller => "controller",
            Self::Webhooks => "webhooks",
        }
    }
}
