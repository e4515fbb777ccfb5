//! A plan for an environment as it is now, with what it was made from and what stands in its way.

use chrono::{DateTime, Utc};
use ledger_domain::event::Plan;
use ledger_domain::obstacle::{Obstacle, Way, Weight, obstacles};
use ledger_domain::{
    Anchor, Artifact, Composition, EnvironmentName, Goal, LaneFold, Lanes, PointName, Position, Scope,
};
use ledger_views::{AskError, Believed, Point, PolicyInForce, Snapshot, When};

/// What somebody wants an environment to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The environment.
    pub environment: EnvironmentName,
    /// The point that it is to be brought to.
    pub to: Goal,
    /// The lanes that are to be brought there.
    pub scope: Scope,
}

impl Wish {
    /// The environment whose point it is, where that is another one.
    #[must_use]
    pub fn source(&self) -> Option<&EnvironmentName> {
        self.to.environment.as_ref().filter(|source| **source != self.environment)
    }
}

/// A plan, with what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What was wished for.
    pub wish: Wish,
    /// The position that all of it is true for.
    pub position: Position,
    /// The position of the environment's last change. While it stays, so does what the plan begins with; what
    /// `last-known-good` means, and the policy, can change all the same, which the plan's digest shows.
    pub environment_position: Position,
    /// The position that the goal means.
    pub to: Position,
    /// The point at that position, with what is thought of it. None where the environment had not begun.
    pub point: Option<Point>,
    /// The policy that it was made by.
    pub policy: PolicyInForce,
    /// The steps.
    pub plan: Plan,
    /// What the environment runs when the plan is carried out.
    pub result: Composition,
    /// What stands in the way, and what that does to the plan.
    pub obstacles: Vec<(Obstacle, Weight)>,
}

impl Planned {
    /// What keeps it from being asked for.
    pub fn blockers(&self, force: bool) -> impl Iterator<Item = &Obstacle> {
        let blocking = self.obstacles.iter().filter(move |(_, weight)| !weight.lets_pass(force));
        blocking.map(|(obstacle, _)| obstacle)
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such environment or position.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No point of the environment is known good.
    #[error("no point of {0} is known good")]
    NoKnownGoodPoint(EnvironmentName),
    /// No point of the environment has this name.
    #[error("no point of {0} is marked with the name {1}")]
    NoSuchName(EnvironmentName, ledger_domain::Line),
}

impl From<ledger_views::Error> for PlanError {
    fn from(error: ledger_views::Error) -> Self {
        Self::Ask(AskError::Failed(error))
    }
}

/// Makes the plan that a wish comes to, now.
///
/// # Errors
/// There is no such point, or the database does not answer.
pub async fn plan(snapshot: &mut Snapshot, wish: &Wish, now: DateTime<Utc>) -> Result<Planned, PlanError> {
    let source = wish.source();
    let of = source.unwrap_or(&wish.environment);
    let position = snapshot.position();
    let present = present(snapshot, &wish.environment, source.is_some()).await?;
    if !snapshot.knows(of).await? {
        return Err(AskError::UnknownEnvironment(of.clone()).into());
    }
    let (to, point) = resolve(snapshot, of, &wish.to.point, Believed { known_at: None, now }).await?;
    // A position between two points is at the first of them.
    let wanted = point.as_ref().map_or_else(Composition::default, |point| point.composition.clone());
    let policy = snapshot.policy(&wish.environment, position).await?;
    let plan = Plan::make(position, &present, &wanted, &wish.scope, &policy.policy);
    let artifacts = plan.steps.iter().filter_map(|step| step.to.as_ref()?.artifact.as_ref());
    let revoked = snapshot.revoked(artifacts.collect::<Vec<&Artifact>>()).await?;
    let irreversible = snapshot.irreversible(&wish.environment, to).await?;
    let freezes = snapshot.freezes(&wish.environment, now).await?;
    let way = Way {
        source,
        to,
        status: point.as_ref().map(|point| point.judgement.status),
        irreversible: &irreversible,
        revoked: &revoked,
        freezes: &freezes,
    };
    let weighed = obstacles(&plan, &way).into_iter().map(|obstacle| {
        let weight = obstacle.weight(&policy.policy);
        (obstacle, weight)
    });
    let obstacles = weighed.collect();
    Ok(Planned {
        wish: wish.clone(),
        position,
        environment_position: present.values().filter_map(LaneFold::position).max().unwrap_or_default(),
        to,
        result: result(&present, &wanted, &wish.scope),
        point,
        policy,
        plan,
        obstacles,
    })
}

/// The lanes of an environment as they are. One that no event ever named has none, where it is to be built.
pub(crate) async fn present(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    may_be_new: bool,
) -> Result<Lanes, AskError> {
    match snapshot.state(environment, When::LATEST).await {
        Ok(state) => Ok(state.into_lanes()),
        Err(AskError::UnknownEnvironment(_)) if may_be_new => Ok(Lanes::new()),
        Err(error) => Err(error),
    }
}

/// What an environment ran at a position.
pub(crate) async fn composition(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    at: Position,
) -> Result<Composition, AskError> {
    Ok(snapshot.state(environment, When::position(at)).await?.composition())
}

/// The position that a point's name means, and the point there.
///
/// # Errors
/// There is no such point, or the database does not answer.
pub async fn resolve(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    name: &PointName,
    believed: Believed,
) -> Result<(Position, Option<Point>), PlanError> {
    let known_at = believed.known_at.unwrap_or(snapshot.position());
    let position = match name {
        PointName::LastKnownGood => {
            return match snapshot.last_known_good(environment, known_at, believed).await? {
                Some(point) => Ok((point.since.position, Some(point))),
                None => Err(PlanError::NoKnownGoodPoint(environment.clone())),
            };
        }
        PointName::Named(name) => {
            let marks = snapshot.marks(environment, known_at).await?;
            let named = marks.named(name);
            named.ok_or_else(|| PlanError::NoSuchName(environment.clone(), name.clone()))?
        }
        PointName::At(Anchor::Latest) => snapshot.position(),
        PointName::At(Anchor::Position(position)) => *position,
        PointName::At(Anchor::Time(time)) => {
            snapshot.position_at(environment, *time).await?.unwrap_or_default()
        }
        PointName::At(at @ Anchor::ChangesAgo(_)) => {
            snapshot.state(environment, When { at: *at, known_at: None }).await?.position
        }
    };
    Ok((position, snapshot.point(environment, position, believed).await?))
}

/// What runs when the lanes of a scope run what is wanted.
fn result(present: &Lanes, wanted: &Composition, scope: &Scope) -> Composition {
    let stays = present.iter().filter(|((service, target), _)| !scope.has(service, target));
    let stays = stays.filter_map(|(lane, fold)| Some((lane.clone(), fold.live()?.to_owned())));
    let comes = wanted.lanes().filter(|(service, target, _)| scope.has(service, target));
    let comes = comes.map(|(service, target, live)| ((service.clone(), target.clone()), live.clone()));
    stays.chain(comes).collect()
}
