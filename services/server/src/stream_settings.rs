//! A journal's settings, looked at again and again: an operator may have changed them since it was opened.

use std::time::Duration;

use ledger_domain::TenantName;
use ledger_journal::SharedJournal;
use tracing::{error, info};

/// How often they are looked at.
const PERIOD: Duration = Duration::from_secs(60);

/// Looks at a journal's settings for ever, and logs when they no longer are as a ledger needs them, or are
/// again. A journal that does not answer is told of by others.
pub(crate) async fn watch(tenant: TenantName, journal: SharedJournal) {
    let mut known = Vec::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        let Ok(config_drift) = journal.config_drift().await else { continue };
        if config_drift == known {
            continue;
        }
        if config_drift.is_empty() {
            info!(%tenant, "the stream's settings are as they must be again");
        } else {
            error!(%tenant, config_drift = config_drift.join("; "), "the stream's settings were changed: entries may be lost");
        }
        known = config_drift;
    }
}
