//! The rollback horizon: the points to which an environment can be rolled back, and the artifacts to retain for them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_domain::event::Plan;
use ledger_domain::horizon::{RetainedArtifacts, held_releases};
use ledger_domain::known_good::Status;
use ledger_domain::plan_issue::{PlanContext, PlanIssue, Revocations, RevokedArtifact, Severity, issues};
use ledger_domain::{Artifact, EnvironmentName, LaneFilter, Position, Removals, ServiceName, ShortText};
use ledger_projections::{AsKnownAt, Point, QueryError, Snapshot};

use crate::planning::current_lanes;

/// Maximum number of known-good points that are listed.
const MAX_LISTED_POINTS: usize = 500;

/// Approximate number of points that are read at a time.
const POINT_PAGE_SIZE: i64 = 64;
/// Number of points whose versions without an artifact are looked up at a time.
const RESOLVED_POINTS: usize = 64;

/// The rollback horizon of an environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Horizon {
    /// Position of the snapshot.
    pub position: Position,
    /// Known-good points, newest first, at most 500.
    pub points: Vec<HorizonPoint>,
    /// True if there are more.
    pub cut: bool,
    /// Artifacts to retain: for the points that are not bad, and for what runs now.
    pub needed: RetainedArtifacts,
}

/// A known-good point with the issues of the plan to it.
#[derive(Debug, Clone, PartialEq)]
pub struct HorizonPoint {
    /// The point.
    pub point: Point,
    /// Issues of the plan, with their severities.
    pub issues: Vec<(PlanIssue, Severity)>,
}

impl HorizonPoint {
    /// Returns true if the plan to the point can be carried out, or if the environment is already at the point.
    #[must_use]
    pub fn is_possible(&self, force: bool) -> bool {
        self.issues
            .iter()
            .all(|(issue, severity)| *issue == PlanIssue::AlreadyThere || severity.permits(force))
    }
}

/// Returns the known-good points that were in effect at any time since `now - window`, and the artifacts to retain.
/// A retired environment has neither.
///
/// # Errors
/// The environment does not exist, or the database does not answer.
pub async fn horizon(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    window: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Horizon, QueryError> {
    let position = snapshot.position();
    let current = current_lanes(snapshot, environment, false).await?;
    if snapshot.retirements(environment, position).await?.last().retired_by().is_some() {
        return Ok(Horizon {
            position,
            points: Vec::new(),
            cut: false,
            needed: RetainedArtifacts::default(),
        });
    }
    let policy = snapshot.policy(environment, position).await?.policy;
    let (points, cut, mut needed) = points_since(snapshot, environment, now - window, now).await?;
    let open_releases = snapshot.releases_on_the_way(environment).await?;
    let held = open_releases.iter().map(|(service, _, release)| (service, release));
    let versions = needed.versions_to_look_up(held_releases(&current).chain(held));
    add_possible_artifacts(snapshot, environment, versions, &mut needed).await?;
    needed.keep_lanes(&current);
    for (service, _, release) in &open_releases {
        needed.keep_release(service, release);
    }
    let plans: Vec<(Point, Plan)> = points
        .into_iter()
        .map(|point| {
            let plan = Plan::make(
                position,
                &current,
                &point.composition,
                &LaneFilter::default(),
                &policy,
                Removals::All,
            );
            (point, plan)
        })
        .collect();
    let (revoked, version_artifacts) = revocations(snapshot, environment, &plans, now).await?;
    let irreversible = snapshot.irreversible(environment).await?;
    let open = snapshot.open_deploys(environment).await?;
    let freezes = snapshot.freezes(environment, now).await?;
    let points = plans.into_iter().map(|(point, plan)| {
        let context = PlanContext {
            source: None,
            retired: None,
            last_ran: BTreeMap::new(),
            began: Some(&point.since),
            status: Some(point.judgement.status),
            policy: &policy,
            irreversible: &irreversible,
            open: &open,
            revocations: Revocations { revoked: &revoked, version_artifacts: Some(&version_artifacts) },
            freezes: &freezes,
        };
        let issues = issues(&plan, &context).into_iter();
        let issues = issues.map(|issue| {
            let severity = issue.severity(&policy);
            (issue, severity)
        });
        HorizonPoint { issues: issues.collect(), point }
    });
    Ok(Horizon { position, points: points.collect(), cut, needed })
}

/// Returns the known-good points that were in effect since a time, true if there are more than listed, and the
/// artifacts of all points that are not bad.
async fn points_since(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(Vec<Point>, bool, RetainedArtifacts), QueryError> {
    let (mut points, mut cut, mut needed) = (Vec::new(), false, RetainedArtifacts::default());
    let first_change = snapshot.first_change_after(environment, since).await?;
    let as_known_at = AsKnownAt { known_at: None, now };
    let Some(mut cursor) = snapshot.points(environment, snapshot.position(), as_known_at).await? else {
        return Err(QueryError::UnknownEnvironment(environment.clone()));
    };
    let mut batch: Vec<Point> = Vec::with_capacity(RESOLVED_POINTS);
    let mut is_last = false;
    while !is_last {
        let next = cursor.next(snapshot, POINT_PAGE_SIZE).await?;
        // The point before the first change was in effect at `since`. Without a change, that is the last point.
        let is_before =
            |point: &Point| first_change.is_none_or(|first| point.number.is_none_or(|number| number < first));
        is_last = next.as_ref().is_none_or(is_before);
        batch.extend(next.filter(|point| point.until.is_none_or(|until| until > since)));
        if !is_last && batch.len() < RESOLVED_POINTS {
            continue;
        }
        let kept = batch.iter().filter(|point| point.judgement.status != Status::Bad);
        let releases = kept.flat_map(|point| point.composition.lanes());
        let versions =
            needed.versions_to_look_up(releases.map(|(service, _, live)| (service, &live.release)));
        add_possible_artifacts(snapshot, environment, versions, &mut needed).await?;
        for point in batch.drain(..) {
            if point.judgement.status != Status::Bad {
                needed.add(&point.composition);
            }
            if point.judgement.status == Status::KnownGood {
                if points.len() < MAX_LISTED_POINTS {
                    points.push(point);
                } else {
                    cut = true;
                }
            }
        }
    }
    Ok((points, cut, needed))
}

/// Looks up the artifacts that releases of versions of services may have.
async fn add_possible_artifacts(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    versions: Vec<(ServiceName, ShortText)>,
    needed: &mut RetainedArtifacts,
) -> Result<(), ledger_projections::Error> {
    if versions.is_empty() {
        return Ok(());
    }
    let artifacts = snapshot.possible_artifacts(environment, &versions).await?;
    for (version, possible) in versions.into_iter().zip(artifacts) {
        needed.set_possible_artifacts(version, possible);
    }
    Ok(())
}

/// Returns the revocations in force of the plans' releases, and the artifacts that their versions mean.
async fn revocations(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    plans: &[(Point, Plan)],
    now: DateTime<Utc>,
) -> Result<(Vec<RevokedArtifact>, BTreeMap<(ServiceName, ShortText), Artifact>), ledger_projections::Error> {
    let steps = plans.iter().flat_map(|(_, plan)| &plan.steps);
    let releases: BTreeMap<_, _> = steps
        .filter_map(|step| {
            let release = step.to.as_ref()?;
            Some(((&step.service, release.parts()), (&step.service, release)))
        })
        .collect();
    let releases: Vec<_> = releases.into_values().collect();
    snapshot.revoked_releases(environment, &releases, now).await
}
