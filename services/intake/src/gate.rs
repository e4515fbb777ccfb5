//! Whether a release may be deployed to a lane, by all that is known now.

use chrono::{DateTime, Utc};
use ledger_domain::event::Actor;
use ledger_domain::gate::{Case, Finding, findings};
use ledger_domain::{Lane, Line, Position, Release};
use ledger_views::{PolicyInForce, Snapshot};

/// What somebody wants to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateQuestion {
    /// Where.
    pub lane: Lane,
    /// What.
    pub release: Release,
    /// Who wants to; their own approval does not count.
    pub requester: Option<Actor>,
    /// The rollback that the deploy is a step of.
    pub rollback_id: Option<Line>,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateAnswer {
    /// The position that it is true for.
    pub position: Position,
    /// The position of the policy that it was judged by.
    pub policy: Option<Position>,
    /// What each rule says.
    pub findings: Vec<Finding>,
}

impl GateAnswer {
    /// Whether every rule lets the deploy pass.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.findings.iter().all(|finding| finding.passes)
    }
}

/// Asks the gate. An environment that no event ever named has no rules: whoever asks should know it.
///
/// # Errors
/// The database does not answer.
pub async fn gate(
    snapshot: &mut Snapshot,
    question: &GateQuestion,
    now: DateTime<Utc>,
) -> Result<GateAnswer, ledger_views::Error> {
    let GateQuestion { lane, release, requester, rollback_id } = question;
    let environment = &lane.environment;
    let position = snapshot.position();
    let PolicyInForce { declared, policy } = snapshot.policy(environment, position).await?;
    let mut provings = Vec::new();
    for former in policy.promotion.iter().flat_map(|promotion| &promotion.from) {
        provings.push(snapshot.proving(former, &lane.service, release, now).await?);
    }
    let freezes = snapshot.freezes(environment, now).await?;
    let active = snapshot.active_rollback(environment).await?;
    let active = active.filter(|(active, _)| Some(active) != rollback_id.as_ref());
    let revoked = snapshot.revoked(&release.artifact).await?;
    let hold = snapshot.hold(lane, release).await?;
    let answers = snapshot.answers_to_deploy(lane, release).await?;
    let case = Case {
        policy: &policy,
        freezes: &freezes,
        rollback: active.as_ref().map(|(rollback_id, position)| (rollback_id, *position)),
        revoked: revoked.first(),
        hold: hold.as_ref(),
        provings: &provings,
        answers: &answers,
        requester: requester.as_ref(),
    };
    Ok(GateAnswer { position, policy: declared, findings: findings(&case) })
}
