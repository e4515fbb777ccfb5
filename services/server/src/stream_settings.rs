//! Periodic check of a stream's settings: an operator may change them while the service runs.

use std::time::Duration;

use ledger_domain::TenantName;
use ledger_journal::SharedJournal;
use tracing::{error, info};

/// Interval between checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Checks a stream's settings for as long as it runs, and logs when they start or stop differing from those that the
/// ledger needs. Ignores an unavailable journal: health checks report it.
pub(crate) async fn watch(tenant: TenantName, journal: SharedJournal) {
    let mut last = Vec::new();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let Ok(config_drift) = journal.config_drift().await else { continue };
        if config_drift == last {
            continue;
        }
        if config_drift.is_empty() {
            info!(%tenant, "stream settings are correct again");
        } else {
            let config_drift = config_drift.join("; ");
            error!(%tenant, config_drift, "stream settings were changed; entries may be lost");
        }
        last = config_drift;
    }
}
