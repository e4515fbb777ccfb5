//! Removes generations that no process uses any more.

use std::time::Duration;

use tracing::info;

use crate::generations::registry::Worker;
use crate::postgres::{Database, Error};
use crate::projector::pipeline::close;

/// Longest wait for readers of a generation that is dropped.
const DROP_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Drops expired generations, and generations of older schema versions that no worker supports.
pub(crate) async fn drop_expired(
    database: Database,
    worker: Worker,
    retention: Duration,
    tenants: Vec<String>,
    mut expired: Vec<(String, i32, i32)>,
) -> Result<(), Error> {
    let mut connection = database.connect().await?;
    Worker::delete_stale(&mut connection, retention).await?;
    expired.extend(worker.outdated(&mut connection, &tenants, retention).await?);
    for (tenant, version, number) in expired {
        let generation = (tenant.as_str(), version, number);
        match worker.drop_generation(&mut connection, generation, DROP_LOCK_TIMEOUT).await {
            Ok(true) => info!(tenant, version, number, "dropped expired generation"),
            // Another process dropped it first.
            Ok(false) => {}
            Err(error) if error.is_lock_timeout() => {
                info!(tenant, version, number, "expired generation is still in use; retrying later");
            }
            Err(error) => return Err(error),
        }
    }
    close(connection).await;
    Ok(())
}
