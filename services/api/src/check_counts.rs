//! Case counts of checks, added to the parts of a response that cite their results.

use std::collections::BTreeSet;

use ledger_api_types::{CountsBody, FindingBody, PointBody};
use ledger_domain::Position;
use ledger_projections::{Error, Snapshot};
use tracing::debug;

use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// Position of the evidence that a part of a response cites, and the place for its counts if it is a check result.
pub(crate) type Citation<'b> = (u64, &'b mut Option<CountsBody>);

/// Adds the case counts of check results to the parts of a response that cite them. Evidence that is no check result,
/// or states no counts, has none.
pub(crate) async fn add_counts(snapshot: &mut Snapshot, citations: Vec<Citation<'_>>) -> Result<(), Error> {
    if citations.is_empty() {
        return Ok(());
    }
    let positions: BTreeSet<Position> =
        citations.iter().map(|(position, _)| Position::new(*position)).collect();
    let positions: Vec<Position> = positions.into_iter().collect();
    let counts = snapshot.check_counts(&positions).await?;
    for (position, place) in citations {
        *place = counts.get(&Position::new(position)).copied().map(CountsBody::from);
    }
    Ok(())
}

/// Adds the case counts of checks to the plan of a problem, if it has one. If they cannot be read, the plan has none.
pub(crate) async fn add_plan_counts(ledger: &TenantLedger, problem: &mut Problem) {
    let Some(plan) = problem.plan_mut() else { return };
    let citations = cited_by_points(plan.to.point.as_mut_slice()).collect();
    let added = match ledger.projections.snapshot().await {
        Ok(mut snapshot) => add_counts(&mut snapshot, citations).await,
        Err(error) => Err(error),
    };
    if let Err(error) = added {
        debug!(%error, "cannot read the counts of checks; responding without them");
    }
}

/// Returns the evidence that the reasons for the status of points cite.
pub(crate) fn cited_by_points(points: &mut [PointBody]) -> impl Iterator<Item = Citation<'_>> {
    points.iter_mut().flat_map(|point| &mut point.reasons).filter_map(|reason| {
        let position = reason.position?;
        Some((position, &mut reason.counts))
    })
}

/// Returns the evidence that findings of the gate cite.
pub(crate) fn cited_by_findings(findings: &mut [FindingBody]) -> impl Iterator<Item = Citation<'_>> {
    findings.iter_mut().filter_map(|finding| {
        let position = finding.position?;
        Some((position, &mut finding.counts))
    })
}
