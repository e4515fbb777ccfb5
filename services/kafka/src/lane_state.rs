//! States of lanes: what an entry changed, and the value of a lane's record.

use std::collections::HashMap;

use chrono::SecondsFormat;
use ledger_domain::{Composition, EnvironmentName, Kind, Lane, LiveRelease, Position};
use ledger_projections::{AsOf, Projections, QueryError, RecordedEntry};
use serde_json::{Map, Value, json};

use crate::record::Decoded;

/// The compositions of environments after the last entry that could change them.
#[derive(Default)]
pub(crate) struct Compositions(HashMap<EnvironmentName, Composition>);

/// A lane that an entry changed, with what it runs now; `None`: nothing.
pub(crate) type Change = (Lane, Option<LiveRelease>);

/// Returns true if an entry can change what lanes run.
fn can_change_lanes(entry: &Decoded<'_>) -> bool {
    let event = entry.envelope.event();
    let is_about_environment =
        matches!(event.payload.kind(), Kind::EnvironmentDeclared | Kind::EnvironmentRetired);
    event.payload.change().is_some() || event.corrects.is_some() || is_about_environment
}

impl Compositions {
    /// Returns the lanes of which an entry changed the live release, sorted by service and target.
    ///
    /// # Errors
    /// The database query fails, or the projections are behind the entry.
    pub(crate) async fn changes(
        &mut self,
        projections: &Projections,
        entry: &Decoded<'_>,
    ) -> Result<Vec<Change>, QueryError> {
        let Some(environment) = entry.payload().environment() else { return Ok(Vec::new()) };
        if !can_change_lanes(entry) {
            return Ok(Vec::new());
        }
        let position = entry.row.position;
        let before = match self.0.remove(environment) {
            Some(composition) => composition,
            None => {
                let previous = Position::new(position.get().saturating_sub(1));
                composition(projections, environment, previous).await?
            }
        };
        let after = composition(projections, environment, position).await?;
        let changes = changes(environment, &before, &after);
        self.0.insert(environment.clone(), after);
        Ok(changes)
    }
}

/// Returns the composition of an environment at a position, as known there.
async fn composition(
    projections: &Projections,
    environment: &EnvironmentName,
    position: Position,
) -> Result<Composition, QueryError> {
    match projections.state(environment, AsOf::Position(position)).await {
        Ok(state) => Ok(state.composition()),
        Err(QueryError::UnknownEnvironment(_)) => Ok(Composition::default()),
        Err(error) => Err(error),
    }
}

fn changes(environment: &EnvironmentName, before: &Composition, after: &Composition) -> Vec<Change> {
    let lane = |service: &ledger_domain::ServiceName, target: &ledger_domain::TargetName| Lane {
        environment: environment.clone(),
        service: service.clone(),
        target: target.clone(),
    };
    let set = after.lanes().filter(|(service, target, live)| before.lane(service, target) != Some(*live));
    let set = set.map(|(service, target, live)| (lane(service, target), Some(live.clone())));
    let emptied = before.lanes().filter(|(service, target, _)| after.lane(service, target).is_none());
    let emptied = emptied.map(|(service, target, _)| (lane(service, target), None));
    let mut changes: Vec<Change> = set.chain(emptied).collect();
    changes.sort_by(|(a, _), (b, _)| (&a.service, &a.target).cmp(&(&b.service, &b.target)));
    changes
}

/// Returns the value of a lane's record: what it runs after an entry.
pub(crate) fn value(lane: &Lane, live: &LiveRelease, row: &RecordedEntry) -> Value {
    let release = &live.release;
    let [version, optional @ ..] = release.parts();
    let mut described = Map::new();
    described.insert("version".to_owned(), json!(version));
    for (name, part) in ["artifact", "config", "infrastructure", "commit"].into_iter().zip(optional) {
        if !part.is_empty() {
            described.insert(name.to_owned(), json!(part));
        }
    }
    let mut state = json!({
        "position": row.position.get(),
        "environment": lane.environment.as_str(),
        "service": lane.service.as_str(),
        "target": lane.target.as_str(),
        "release": described,
        "since": {
            "position": live.since.position.get(),
            "occurred_at": live.since.occurred_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            "event_id": live.since.event_id.as_str(),
        },
    });
    if let Some(slot) = &live.slot {
        state["slot"] = json!(slot.as_str());
    }
    state
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use ledger_domain::{EventId, EventRef, Release, ServiceName, ShortText, TargetName};

    use super::*;

    fn live(version: &str, position: u64) -> LiveRelease {
        LiveRelease {
            slot: None,
            release: Release::of_version(ShortText::parse(version).expect("a version")),
            since: EventRef {
                occurred_at: DateTime::UNIX_EPOCH,
                position: Position::new(position),
                event_id: EventId::parse("e").expect("an id"),
            },
        }
    }

    fn service(name: &str) -> ServiceName {
        ServiceName::parse(name).expect("a service")
    }

    fn composition(lanes: &[(&str, LiveRelease)]) -> Composition {
        lanes.iter().map(|(name, live)| ((service(name), TargetName::default()), live.clone())).collect()
    }

    #[test]
    fn a_lane_has_a_change_if_it_runs_something_else_or_since_another_event_and_a_tombstone_if_nothing() {
        let before = composition(&[("api", live("1", 1)), ("old", live("1", 2)), ("web", live("1", 3))]);
        let after = composition(&[("api", live("1", 1)), ("new", live("1", 9)), ("web", live("1", 8))]);
        let production = EnvironmentName::parse("production").expect("an environment");

        let changes = changes(&production, &before, &after);

        let named: Vec<_> = changes.iter().map(|(lane, live)| (lane.to_string(), live.is_some())).collect();
        let expected = [("new", true), ("old", false), ("web", true)];
        assert_eq!(named, expected.map(|(service, runs)| (format!("production/default/{service}"), runs)));
    }
}
