//! How far back an environment can be brought, and what must be kept for it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ledger_domain::event::Plan;
use ledger_domain::horizon::RetainedArtifacts;
use ledger_domain::known_good::Status;
use ledger_domain::plan_issue::{PlanContext, PlanIssue, Revocations, RevokedArtifact, Severity, issues};
use ledger_domain::retirement::Standing;
use ledger_domain::{Artifact, EnvironmentName, LaneFilter, Position, Removals, ServiceName, ShortText};
use ledger_projections::{AsKnownAt, Point, QueryError, Snapshot};

use crate::planning::present;

/// Known-good points that are told one by one, at most.
const LISTED: usize = 500;

/// About so many points are read at a time.
const AT_A_TIME: i64 = 64;

/// How far back an environment can be brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Horizon {
    /// The position that it is true for.
    pub position: Position,
    /// The known-good points, the last first.
    pub points: Vec<HorizonPoint>,
    /// Whether there are more.
    pub cut: bool,
    /// What the points that are not bad need, and what runs now.
    pub needed: RetainedArtifacts,
}

/// A known-good point, and what stands in the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct HorizonPoint {
    /// The point.
    pub point: Point,
    /// What stands in the way, and what that does to the plan.
    pub issues: Vec<(PlanIssue, Severity)>,
}

impl HorizonPoint {
    /// Whether it can be carried out; the point at which the environment is counts as well.
    #[must_use]
    pub fn is_possible(&self, force: bool) -> bool {
        self.issues
            .iter()
            .all(|(issue, severity)| *issue == PlanIssue::AlreadyThere || severity.lets_pass(force))
    }
}

/// The known-good points that stood at any time since `now - window`, and what they need. A retired environment has none, and needs
/// nothing.
///
/// # Errors
/// There is no such environment, or the database does not answer.
pub async fn horizon(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    window: TimeDelta,
    now: DateTime<Utc>,
) -> Result<Horizon, QueryError> {
    let position = snapshot.position();
    let present = present(snapshot, environment, false).await?;
    if matches!(snapshot.retirements(environment, position).await?.last(), Standing::Retired(_)) {
        return Ok(Horizon {
            position,
            points: Vec::new(),
            cut: false,
            needed: RetainedArtifacts::default(),
        });
    }
    let policy = snapshot.policy(environment, position).await?.policy;
    let (points, cut, mut needed) = stood(snapshot, environment, now - window, now).await?;
    needed.keep_lanes(&present);
    for (service, _, release) in snapshot.releases_on_the_way(environment).await? {
        needed.keep_release(&service, &release);
    }
    let plans: Vec<(Point, Plan)> = points
        .into_iter()
        .map(|point| {
            let plan = Plan::make(
                position,
                &present,
                &point.composition,
                &LaneFilter::default(),
                &policy,
                Removals::All,
            );
            (point, plan)
        })
        .collect();
    let (revoked, meant) = revoked(snapshot, environment, &plans, now).await?;
    let irreversible = snapshot.irreversible(environment).await?;
    let open = snapshot.open_deploys(environment).await?;
    let freezes = snapshot.freezes(environment, now).await?;
    let points = plans.into_iter().map(|(point, plan)| {
        let way = PlanContext {
            source: None,
            retired: None,
            last_ran: BTreeMap::new(),
            began: Some(&point.since),
            status: Some(point.judgement.status),
            policy: &policy,
            irreversible: &irreversible,
            open: &open,
            revocations: Revocations { revoked: &revoked, meant: Some(&meant) },
            freezes: &freezes,
        };
        let met = issues(&plan, &way).into_iter();
        let issues = met.map(|issue| {
            let severity = issue.severity(&policy);
            (issue, severity)
        });
        HorizonPoint { issues: issues.collect(), point }
    });
    Ok(Horizon { position, points: points.collect(), cut, needed })
}

/// The known-good points that stood since a time, whether there are more, and what all need that are not bad.
async fn stood(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(Vec<Point>, bool, RetainedArtifacts), QueryError> {
    let (mut points, mut cut, mut needed) = (Vec::new(), false, RetainedArtifacts::default());
    let first = snapshot.first_change_after(environment, since).await?;
    let believed = AsKnownAt { known_at: None, now };
    let Some(mut walk) = snapshot.points(environment, snapshot.position(), believed).await? else {
        return Err(QueryError::UnknownEnvironment(environment.clone()));
    };
    while let Some(point) = walk.next(snapshot, AT_A_TIME).await? {
        // The one before the first change stood when the time began. Without a change, the last one stands.
        let is_last = first.is_none_or(|first| point.number.is_none_or(|number| number < first));
        if point.until.is_none_or(|until| until > since) {
            if point.judgement.status != Status::Bad {
                needed.add(&point.composition);
            }
            if point.judgement.status == Status::KnownGood {
                if points.len() < LISTED {
                    points.push(point);
                } else {
                    cut = true;
                }
            }
        }
        if is_last {
            break;
        }
    }
    Ok((points, cut, needed))
}

/// The revocations that hold of what the plans bring, and what versions mean.
async fn revoked(
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
