//! Case counts of checks, added to the parts of a response that cite their results.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger_api_types::{CountsBody, FindingBody, PointBody};
use ledger_domain::Position;
use ledger_projections::{Error, Snapshot};
use tokio::time::timeout;
use tracing::debug;

use crate::problem::Problem;
use crate::tenant::TenantLedger;

/// Time limit of reading the counts for a problem, which is complete without them.
const PROBLEM_COUNTS_TIMEOUT: Duration = Duration::from_millis(500);

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

/// Adds the case counts of checks to the plan of a problem, if it has one. If they cannot be read in time, the plan has
/// none.
pub(crate) async fn add_plan_counts(ledger: &TenantLedger, problem: &mut Problem) {
    let Some(plan) = problem.plan_mut() else { return };
    let citations = cited_by_points(plan.to.point.as_mut_slice()).collect();
    let added = timeout(PROBLEM_COUNTS_TIMEOUT, async {
        add_counts(&mut ledger.projections.snapshot().await?, citations).await
    });
    match added.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "cannot read the counts of checks; responding without them"),
        Err(_) => debug!("reading the counts of checks takes too long; responding without them"),
    }
}

/// Returns the evidence that the reasons for the status of points cite.
pub(crate) fn cited_by_points(points: &mut [PointBody]) -> impl Iterator<Item = Citation<'_>> {
    points.iter_mut().flat_map(|point| &mut point.reasons).filter_map(|reason| {
        let position = reason.position?;
        Some((position, &mut reason.counts))
    })
}

/// Returns the evidence that findings of the gate cite. A finding that passes rests on several results.
pub(crate) fn cited_by_findings(findings: &mut [FindingBody]) -> impl Iterator<Item = Citation<'_>> {
    findings.iter_mut().filter(|finding| !finding.passes).filter_map(|finding| {
        let position = finding.position?;
        Some((position, &mut finding.counts))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finding_that_passes_cites_no_counts() {
        let finding =
            |passes: bool| json!({"rule": "promotion", "passes": passes, "detail": "", "position": 4});
        let findings = json!([finding(true), finding(false)]);
        let mut findings: Vec<FindingBody> = serde_json::from_value(findings).expect("findings");

        let cited: Vec<u64> = cited_by_findings(&mut findings[..1]).map(|(position, _)| position).collect();
        assert!(cited.is_empty(), "{cited:?}");
        let cited: Vec<u64> = cited_by_findings(&mut findings[1..]).map(|(position, _)| position).collect();
        assert_eq!(cited, [4]);
    }
}
