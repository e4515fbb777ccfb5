//! Backtest of a candidate policy on the history in a snapshot.

use ledger_domain::Position;
use ledger_domain::backtest::{Backtest, Candidate, KINDS, Report};
use ledger_projections::{QueryError, Snapshot};

use crate::Rejection;
use crate::request::check_policy;

/// Number of positions that are read at a time, which bounds the memory for the history.
const PAGE_SIZE: u64 = 1_000;

/// Reason why a candidate is not tested.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The environment or position does not exist, or the query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The policy is inconsistent.
    #[error(transparent)]
    Rejected(Box<Rejection>),
}

impl From<ledger_projections::Error> for BacktestError {
    fn from(error: ledger_projections::Error) -> Self {
        Self::Query(error.into())
    }
}

/// Tests a candidate on the history from its beginning up to a position.
///
/// # Errors
/// The policy is inconsistent, the environment or position does not exist, or the database does not answer.
pub async fn backtest(
    snapshot: &mut Snapshot,
    candidate: Candidate,
    until: Position,
) -> Result<Report, BacktestError> {
    check_policy(&candidate.environment, &candidate.policy)
        .map_err(|rejection| BacktestError::Rejected(Box::new(rejection)))?;
    let projections = snapshot.position();
    if let Some(asked) = [candidate.after, until].into_iter().find(|asked| *asked > projections) {
        return Err(QueryError::NotYet { asked, projections }.into());
    }
    if !snapshot.knows(&candidate.environment).await? {
        return Err(QueryError::UnknownEnvironment(candidate.environment).into());
    }
    let environments: Vec<_> = candidate.environments().into_iter().cloned().collect();
    let environments: Vec<_> = environments.iter().collect();
    let mut backtest = Backtest::of(candidate);
    let mut after = Position::START;
    while after < until {
        let up_to = Position::new(after.get() + PAGE_SIZE).min(until);
        for (position, envelope) in snapshot.entries(&environments, KINDS, after, up_to).await? {
            backtest.feed(position, envelope.occurred_at(), envelope.identity(), envelope.event());
        }
        after = up_to;
    }
    Ok(backtest.report())
}
