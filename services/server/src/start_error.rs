//! Reasons for which the service does not start.

use std::net::SocketAddr;

use ledger_access::oidc::SettingsError;
use ledger_api::TlsError;
use ledger_domain::TenantName;
use ledger_journal::jetstream::OpenError;
use metrics_exporter_prometheus::BuildError as MetricsError;

use crate::config::{HookError, WebhookError};

/// Error that prevents the service from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service cannot open the journal.
    #[error("cannot open the journal")]
    Journal(#[from] OpenError),
    /// The settings of the projections are unusable.
    #[error("cannot open the projections of {tenant}")]
    Projections {
        /// Tenant of the projections.
        tenant: TenantName,
        /// Cause.
        #[source]
        source: ledger_projections::Error,
    },
    /// The service cannot listen on the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address to listen on.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The settings of access cannot be used.
    #[error("cannot use the settings of access")]
    Access(#[from] SettingsError),
    /// A webhook cannot be used.
    #[error("cannot accept webhooks")]
    Hooks(#[from] HookError),
    /// The settings of Kafka cannot be used.
    #[error("cannot use Kafka")]
    Kafka(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The settings of outgoing webhooks cannot be used.
    #[error("cannot deliver to webhooks")]
    Webhooks(#[from] WebhookError),
    /// The HTTP client of webhooks cannot be created.
    #[error("cannot deliver to webhooks")]
    WebhookClient(#[from] ledger_webhooks::SetupError),
    /// The files of TLS are unusable.
    #[error("cannot start TLS")]
    Tls(#[from] TlsError),
    /// The metrics recorder cannot be installed.
    #[error("cannot install the metrics recorder")]
    Metrics(#[from] MetricsError),
}
