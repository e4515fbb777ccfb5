//! A rollback's life: which step may follow which.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{Actor, AutomaticRollback};
use crate::gate::{Answer, approved_by_others};
use crate::{Line, Position, Release, ServiceName, TargetName};

/// Where a rollback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It was asked for, and nothing is done yet.
    Requested,
    /// It is being carried out.
    Started,
    /// The environment runs what was wanted.
    Succeeded,
    /// The environment does not run what was wanted.
    Failed,
    /// It was called off.
    Cancelled,
}

impl Phase {
    /// The phase as one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The phase with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Requested, Self::Started, Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|phase| phase.name() == name)
    }

    /// Whether another rollback of the environment has to wait for this one.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Requested | Self::Started)
    }
}

/// What a next step of a rollback is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life<'a> {
    /// Where it is.
    pub phase: Phase,
    /// Who asked for it.
    pub initiated_by: &'a Actor,
    /// How many other people must approve.
    pub approvals: u32,
    /// What people answered.
    pub answers: &'a [Answer],
}

/// Why a step of a rollback's life is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has ended.
    #[error("the rollback has {} already", .0.name())]
    Ended(Phase),
    /// It was started before.
    #[error("the rollback is started already")]
    StartedAlready,
    /// It must be started first.
    #[error("the rollback is not started")]
    NotStarted,
    /// It needs approvals.
    #[error("the rollback has {granted} of {wanted} approvals")]
    NotApproved {
        /// How many there are.
        granted: usize,
        /// How many there must be.
        wanted: u32,
    },
    /// Somebody rejected it.
    #[error("the rollback was rejected (position {0})")]
    Rejected(Position),
    /// People do not approve what they asked for themselves.
    #[error("{0} asked for the rollback, and does not approve it")]
    SelfApproval(Line),
    /// A gate's human part is a person's.
    #[error("{0} is a workload, and approvals are people's")]
    NotAPerson(Line),
    /// The environment does not run what was wanted.
    #[error("the environment does not run what the rollback wanted: {}", list(.0))]
    Differs(Vec<String>),
}

fn list(lanes: &[String]) -> String {
    let shown = lanes.iter().take(10).cloned().collect::<Vec<_>>().join("; ");
    match lanes.len().checked_sub(10) {
        Some(more) if more > 0 => format!("{shown}; and {more} more"),
        _ => shown,
    }
}

impl Life<'_> {
    /// How many more approvals it needs before it may start; an error if it may never.
    ///
    /// # Errors
    /// Somebody rejected it.
    pub fn approvals_lacking(&self) -> Result<usize, Refused> {
        let (granted, rejected) = approved_by_others(self.answers, self.initiated_by);
        match rejected {
            Some(position) => Err(Refused::Rejected(position)),
            None => Ok((self.approvals as usize).saturating_sub(granted)),
        }
    }

    /// Whether its execution may begin.
    ///
    /// # Errors
    /// Says why not.
    pub fn start(&self) -> Result<(), Refused> {
        self.must_be_active()?;
        if self.phase == Phase::Started {
            return Err(Refused::StartedAlready);
        }
        match self.approvals_lacking()? {
            0 => Ok(()),
            lacking => {
                let granted = (self.approvals as usize).saturating_sub(lacking);
                Err(Refused::NotApproved { granted, wanted: self.approvals })
            }
        }
    }

    /// Whether it may be said to have succeeded: `differing` are the lanes that do not run what was wanted.
    ///
    /// # Errors
    /// Says why not.
    pub fn succeed(&self, differing: Vec<String>) -> Result<(), Refused> {
        self.must_be_active()?;
        if self.phase != Phase::Started {
            return Err(Refused::NotStarted);
        }
        if differing.is_empty() { Ok(()) } else { Err(Refused::Differs(differing)) }
    }

    /// Whether it may be said to have failed.
    ///
    /// # Errors
    /// Says why not.
    pub fn fail(&self) -> Result<(), Refused> {
        self.must_be_active()?;
        if self.phase == Phase::Started { Ok(()) } else { Err(Refused::NotStarted) }
    }

    /// Whether it may be called off.
    ///
    /// # Errors
    /// Says why not.
    pub fn cancel(&self) -> Result<(), Refused> {
        self.must_be_active()
    }

    /// Whether a person may answer it.
    ///
    /// # Errors
    /// Says why not.
    pub fn answer(&self, actor: &Actor) -> Result<(), Refused> {
        self.must_be_active()?;
        if self.phase == Phase::Started {
            return Err(Refused::StartedAlready);
        }
        if actor.is_workload() {
            return Err(Refused::NotAPerson(actor.name.clone()));
        }
        if actor.name == self.initiated_by.name {
            return Err(Refused::SelfApproval(actor.name.clone()));
        }
        Ok(())
    }

    fn must_be_active(&self) -> Result<(), Refused> {
        if self.phase.is_active() { Ok(()) } else { Err(Refused::Ended(self.phase)) }
    }
}

/// What the controller knows of an environment's earlier rollbacks by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutomaticPast {
    /// When each of the last day's was recorded.
    pub requested_at: Vec<DateTime<Utc>>,
    /// When the last one was recorded, whenever that was.
    pub last_requested_at: Option<DateTime<Utc>>,
    /// The last that ended, if it failed, and where that is told. A later policy forgives it.
    pub failed: Option<(Line, Position)>,
}

/// Why the controller asks for no rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abstention {
    /// What was checked does not run there, or was checked again since.
    NotRunning,
    /// Another rollback is under way.
    UnderWay(Line),
    /// The last one that it asked for failed: it is switched off until the policy is declared again.
    SwitchedOff {
        /// Which.
        rollback_id: Line,
        /// Where that is told.
        position: Position,
    },
    /// The last one is not long enough ago.
    CoolDown {
        /// When it is.
        until: DateTime<Utc>,
    },
    /// There were as many in a day as the policy allows.
    TooMany {
        /// How many it allows.
        at_most: u32,
    },
    /// The environment's policy does not ask for it any more.
    NotWanted,
    /// There is nowhere to go back to.
    NoKnownGoodPoint,
    /// The environment runs that point's composition already.
    AlreadyThere,
    /// Something stands in the way of the plan.
    Blocked(String),
}

impl fmt::Display for Abstention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => {
                f.write_str("what was checked does not run there, or was checked again since")
            }
            Self::UnderWay(rollback) => write!(f, "rollback {rollback} is under way"),
            Self::SwitchedOff { rollback_id, position } => write!(
                f,
                "automatic rollback is switched off, since rollback {rollback_id} failed (position {position}); declare the environment's policy again to switch it on"
            ),
            Self::CoolDown { until } => {
                write!(
                    f,
                    "the last automatic rollback was too short a time ago: none before {}",
                    until.to_rfc3339()
                )
            }
            Self::TooMany { at_most } => {
                write!(f, "there were {at_most} automatic rollbacks within a day, which is the most")
            }
            Self::NotWanted => {
                f.write_str("the environment's policy does not ask for automatic rollback any more")
            }
            Self::NoKnownGoodPoint => f.write_str("there is no known-good point to go back to"),
            Self::AlreadyThere => f.write_str("the environment runs the last known-good composition already"),
            Self::Blocked(what) => write!(f, "the plan is blocked: {what}"),
        }
    }
}

/// Whether the controller may ask for a rollback now, as far as its own past goes.
///
/// # Errors
/// Says why not.
pub fn may_act(rule: &AutomaticRollback, past: &AutomaticPast, now: DateTime<Utc>) -> Result<(), Abstention> {
    if let Some((rollback_id, position)) = &past.failed {
        return Err(Abstention::SwitchedOff { rollback_id: rollback_id.clone(), position: *position });
    }
    // Who wants a century means never.
    let cool_down = TimeDelta::seconds(rule.cool_down_seconds.min(100 * 366 * 86_400).cast_signed());
    if let Some(until) = past.last_requested_at.map(|last| last + cool_down)
        && now < until
    {
        return Err(Abstention::CoolDown { until });
    }
    let day = now - TimeDelta::days(1);
    let lately = past.requested_at.iter().filter(|at| **at > day).count();
    if lately >= rule.at_most_a_day as usize {
        return Err(Abstention::TooMany { at_most: rule.at_most_a_day });
    }
    Ok(())
}

impl AutomaticRollback {
    /// Whether the failure of a check may lead to a rollback, where these checks are required.
    #[must_use]
    pub fn is_triggered_by(&self, check: &Line, required: &[Line]) -> bool {
        if self.checks.is_empty() { required.contains(check) } else { self.checks.contains(check) }
    }
}

/// How a lane differs from what a rollback wanted, in words.
#[must_use]
pub fn difference(
    service: &ServiceName,
    target: &TargetName,
    wanted: Option<&Release>,
    runs: Option<&Release>,
) -> String {
    let word = |release: Option<&Release>| match release {
        Some(release) => release.version.to_string(),
        None => "nothing".to_owned(),
    };
    match (wanted, runs) {
        (Some(wanted), Some(runs)) if wanted.version == runs.version => {
            format!(
                "{service} at {target} runs {wanted} with another artifact, configuration or infrastructure"
            )
        }
        _ => format!("{service} at {target} runs {} instead of {}", word(runs), word(wanted)),
    }
}

#[cfg(test)]
mod tests;
