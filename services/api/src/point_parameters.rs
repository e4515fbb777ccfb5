//! Points and times as parameters: one grammar, in all of them.
//!
//! Invariant: a time ago, `today` and `yesterday` are relative to the service's clock, and days are days of UTC. The
//! response says which position or time was meant.

use chrono::{DateTime, Utc};
use ledger_domain::{EnvironmentName, PointInTime, PointRef, PointSelector, Position, parse_time_ref};
use ledger_ingest::resolve;
use ledger_projections::{AsKnownAt, AsOf, Snapshot};

use crate::parameters::{parse, parse_optional};
use crate::problem::{Kind, Problem};

/// Knowledge of the ledger that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownAt {
    /// The entries up to a position.
    Position(Position),
    /// The entries that were recorded up to a time.
    Time(DateTime<Utc>),
}

/// Parses a time that selects events.
pub(crate) fn parse_moment(
    name: &str,
    text: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Problem> {
    parse_optional(name, text, |text| parse_time_ref(text, now))
}

/// Parses a point of the path's environment, or of another: `staging@latest`.
pub(crate) fn parse_side(
    name: &str,
    text: &str,
    environment: &EnvironmentName,
    now: DateTime<Utc>,
) -> Result<(EnvironmentName, PointSelector), Problem> {
    let PointRef { environment: stated, point } = parse(name, text, |text| PointRef::parse(text, now))?;
    Ok((stated.unwrap_or_else(|| environment.clone()), point))
}

/// Parses a point of the path's environment. Rejects a point of another environment.
pub(crate) fn parse_point(
    name: &str,
    text: &str,
    environment: &EnvironmentName,
    now: DateTime<Utc>,
) -> Result<PointSelector, Problem> {
    let (stated, point) = parse_side(name, text, environment, now)?;
    match stated == *environment {
        true => Ok(point),
        false => {
            let detail =
                format!("the point belongs to {stated}: name {stated} in the path in place of {environment}");
            Err(Problem::parameter(name, detail))
        }
    }
}

/// Parses `known_at`: a position, a time, or `latest`, which is the default.
pub(crate) fn parse_known_at(text: Option<&str>, now: DateTime<Utc>) -> Result<Option<KnownAt>, Problem> {
    let point = parse_optional("known_at", text, |text| PointInTime::parse(text, now))?;
    match point {
        None | Some(PointInTime::Latest) => Ok(None),
        Some(PointInTime::Position(position)) => Ok(Some(KnownAt::Position(position))),
        Some(PointInTime::Time(time)) => Ok(Some(KnownAt::Time(time))),
        Some(PointInTime::ChangesAgo(_)) => {
            let detail = "must be a position, a time at which entries were recorded, or latest";
            Err(Problem::parameter("known_at", detail))
        }
    }
}

/// Checks that `known_at` is given only with a point that does not determine what is known.
pub(crate) fn check_known_at(point: &PointSelector, known_at: Option<KnownAt>) -> Result<(), Problem> {
    let is_allowed = matches!(point, PointSelector::At(PointInTime::Latest | PointInTime::Time(_)));
    if known_at.is_none() || is_allowed {
        return Ok(());
    }
    let detail = format!("is valid only with a time or with latest, not with {point}");
    Err(Problem::parameter("known_at", detail))
}

/// Returns the position of `known_at`: for a time, that of the last entry that was recorded up to it.
pub(crate) async fn known_position(
    snapshot: &mut Snapshot,
    known_at: Option<KnownAt>,
) -> Result<Option<Position>, Problem> {
    match known_at {
        None => Ok(None),
        Some(KnownAt::Position(position)) => Ok(Some(position)),
        Some(KnownAt::Time(time)) => Ok(Some(snapshot.position_recorded_by(time).await?)),
    }
}

/// Returns what selects the state at a point: the position that the point resolves to, or its time.
pub(crate) async fn as_of(
    snapshot: &mut Snapshot,
    environment: &EnvironmentName,
    point: &PointSelector,
    now: DateTime<Utc>,
) -> Result<AsOf, Problem> {
    if let PointSelector::At(at) = point {
        return Ok((*at).into());
    }
    if !snapshot.knows(environment).await? {
        return Err(Problem::unknown_environment(environment));
    }
    let known = AsKnownAt { known_at: None, now };
    let found = resolve(snapshot, environment, point, known).await?.point;
    let found = found.ok_or_else(|| unknown_point(environment, point))?;
    Ok(AsOf::Position(found.since.position))
}

/// Returns the problem of a selector that selects no point.
pub(crate) fn unknown_point(environment: &EnvironmentName, point: &PointSelector) -> Problem {
    Problem::new(Kind::UnknownPoint, format!("{environment} has no release point {point}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-03-02T12:30:00Z".parse().expect("a time")
    }

    fn environment() -> EnvironmentName {
        EnvironmentName::parse("production").expect("a name")
    }

    fn detail(problem: Problem) -> String {
        problem.into_body().detail
    }

    #[test]
    fn a_point_may_name_the_environment_of_the_path_and_no_other() {
        for text in ["yesterday", "production@yesterday"] {
            let point = parse_point("at", text, &environment(), now()).expect(text);
            assert_eq!(point.to_string(), "2026-03-01T00:00:00Z");
        }
        let error = parse_point("at", "staging@yesterday", &environment(), now()).expect_err("another one");
        assert!(detail(error).starts_with("at: the point belongs to staging"));
    }

    #[test]
    fn what_is_known_is_given_by_a_position_a_time_or_latest() {
        let parsed = |text| parse_known_at(Some(text), now()).map_err(detail);
        assert_eq!(parsed("latest"), Ok(None));
        assert_eq!(parsed("7"), Ok(Some(KnownAt::Position(Position::new(7)))));
        assert_eq!(parsed("0s"), Ok(Some(KnownAt::Time(now()))));
        for text in ["-1", "last-known-good", "3x", ""] {
            assert!(parsed(text).expect_err(text).starts_with("known_at: "), "{text}");
        }
        let known_at = Some(KnownAt::Position(Position::new(7)));
        for (text, is_allowed) in
            [("latest", true), ("2h", true), ("3", false), ("-1", false), ("change:2", false), ("x", false)]
        {
            let point = parse_point("at", text, &environment(), now()).expect(text);
            assert_eq!(check_known_at(&point, known_at).is_ok(), is_allowed, "{text}");
            assert!(check_known_at(&point, None).is_ok(), "{text}");
        }
    }
}
