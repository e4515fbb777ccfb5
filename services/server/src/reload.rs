//! Reloads the files of TLS: soon after they change, and at once after SIGHUP.

use std::time::Duration;

use ledger_api::Tls;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Seconds between two looks at the files.
const CHECK_INTERVAL_SECONDS: u64 = 5;

/// Reloads the files until `shutdown` is cancelled.
pub(crate) async fn run(tls: Tls, shutdown: CancellationToken) {
    let mut hangup = signal(SignalKind::hangup())
        .inspect_err(|error| warn!(%error, "cannot handle SIGHUP; the TLS files are only checked regularly"))
        .ok();
    loop {
        let hung_up = async {
            match &mut hangup {
                // The stream of a signal does not end.
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = hung_up => {
                info!("received SIGHUP; reloading the TLS files");
                tls.reload().await;
            }
            () = tokio::time::sleep(Duration::from_secs(CHECK_INTERVAL_SECONDS)) => {
                tls.reload_if_changed().await;
            }
        }
    }
}
