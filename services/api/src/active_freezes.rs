//! Freezes in force, for lists of environments.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ledger_api_types::ActiveFreezeBody;
use ledger_domain::EnvironmentName;
use ledger_projections::{Error, Snapshot};

/// Largest number of active freezes that a list of environments shows.
const MAX_ACTIVE: u32 = 1_000;

/// Returns the freezes that are in force in each of the environments, in the order of their starts.
///
/// # Errors
/// The database query fails.
pub(crate) async fn active_freezes(
    snapshot: &mut Snapshot,
    environments: &[EnvironmentName],
    now: DateTime<Utc>,
) -> Result<BTreeMap<EnvironmentName, Vec<ActiveFreezeBody>>, Error> {
    let rows = snapshot.freeze_list(environments, None, Some(now), MAX_ACTIVE).await?;
    let mut active: BTreeMap<EnvironmentName, Vec<ActiveFreezeBody>> = BTreeMap::new();
    for row in rows.into_iter().rev() {
        let body = ActiveFreezeBody {
            freeze_id: row.freeze_id.to_string(),
            position: row.started.position.get(),
            until: row.until,
        };
        active.entry(row.environment).or_default().push(body);
    }
    Ok(active)
}
