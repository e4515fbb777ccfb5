//! Marks of release points, and approvals: people's votes on rollbacks and deploys.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ledger_domain::event::{Actor, Approval, ApprovalSubject, Event, MarkedStatus, Payload};
use ledger_domain::gate::ApprovalVote;
use ledger_domain::known_good::{Marked, Status};
use ledger_domain::{
    CompositionId, CompositionIndex, EnvironmentName, LongText, Position, Release, ServiceName, ShortText,
    TargetName, TextError,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Snapshot;
use crate::key::key;
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::lanes::{optional_columns, parse_release};
use crate::tables::live::composition_at;

/// Marks of an environment's compositions that are not revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Marks by composition, in recorded order, each with the marked position.
    marked: BTreeMap<CompositionId, Vec<(Position, Marked)>>,
    /// Composition at each position that was ever marked.
    compositions: BTreeMap<Position, CompositionId>,
}

impl Marks {
    /// Returns the mark in force for a composition: the last one.
    #[must_use]
    pub fn on(&self, composition: CompositionId) -> Option<&Marked> {
        self.marked.get(&composition)?.last().map(|(_, marked)| marked)
    }

    /// Returns the compositions whose mark in force has a status.
    pub(crate) fn with_status(&self, status: MarkedStatus) -> Vec<CompositionId> {
        let in_force = self.marked.iter().filter_map(|(id, marks)| Some((id, &marks.last()?.1)));
        in_force.filter(|(_, marked)| marked.status == status).map(|(id, _)| *id).collect()
    }

    /// Returns the marked compositions, each with a position at which it ran.
    pub fn points(&self) -> Vec<(Position, CompositionId)> {
        let points = self.marked.iter().filter_map(|(id, marks)| Some((marks.last()?.0, *id)));
        points.collect()
    }

    /// Returns the position that was last marked with this name.
    #[must_use]
    pub fn named(&self, name: &ShortText) -> Option<Position> {
        let marks = self.marked.values().flatten();
        let named = marks.filter(|(_, marked)| marked.name.as_ref() == Some(name));
        named.max_by_key(|(_, marked)| marked.position).map(|(point, _)| *point)
    }

    fn add(&mut self, point: Position, composition: CompositionId, marked: Option<Marked>) {
        self.compositions.insert(point, composition);
        match marked {
            Some(marked) => self.marked.entry(composition).or_default().push((point, marked)),
            None => {
                self.marked.remove(&composition);
            }
        }
    }
}

#[derive(sqlx::FromRow)]
struct MarkRow {
    position: i64,
    occurred_at: DateTime<Utc>,
    point: i64,
    status: Option<String>,
    name: Option<String>,
    actor_kind: Option<String>,
    actor_name: Option<String>,
    reason: Option<String>,
}

impl MarkRow {
    fn parse(&self) -> Result<Option<Marked>, Error> {
        parsed("marks", self.position, || {
            let status = match self.status.as_deref() {
                None => return Ok(None),
                Some("known_good") => MarkedStatus::KnownGood,
                Some("bad") => MarkedStatus::Bad,
                Some(other) => return Err(format!("unknown status {other}").into()),
            };
            let actor = match (&self.actor_kind, &self.actor_name) {
                (Some(kind), Some(name)) => Some(actor(kind, name)?),
                _ => None,
            };
            Ok::<_, Box<dyn std::error::Error>>(Some(Marked {
                position: position(self.position),
                occurred_at: self.occurred_at,
                status,
                name: self.name.as_deref().map(ShortText::stored).transpose()?,
                actor,
                reason: self.reason.as_deref().map(LongText::parse).transpose()?,
            }))
        })
    }
}

#[derive(sqlx::FromRow)]
struct VoteRow {
    position: i64,
    occurred_at: DateTime<Utc>,
    granted: bool,
    expires_at: Option<DateTime<Utc>>,
    actor_kind: String,
    actor_name: String,
    target: Option<String>,
    version: Option<String>,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
}

impl VoteRow {
    fn parse(&self) -> Result<ApprovalVote, Error> {
        let actor = parsed("approvals", self.position, || actor(&self.actor_kind, &self.actor_name))?;
        Ok(ApprovalVote { actor, granted: self.granted, position: position(self.position) })
    }

    fn parse_deploy_vote(&self) -> Result<Option<StatedDeployVote>, Error> {
        let Some(version) = &self.version else { return Ok(None) };
        let parts = [&self.artifact, &self.config, &self.infrastructure, &self.commit];
        let vote = self.parse()?;
        parsed("approvals", self.position, || {
            let target = self.target.as_deref().map(TargetName::parse).transpose()?;
            Ok::<_, Box<dyn std::error::Error>>(Some(StatedDeployVote {
                vote,
                occurred_at: self.occurred_at,
                expires_at: self.expires_at,
                target,
                release: parse_release(version, parts)?,
            }))
        })
    }
}

/// Vote on a deploy, with the release that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedDeployVote {
    /// Actor, decision and position.
    pub vote: ApprovalVote,
    /// Time at which it was given.
    pub occurred_at: DateTime<Utc>,
    /// Time at which it expires, if ever.
    pub expires_at: Option<DateTime<Utc>>,
    /// Target that it names; `None`: all targets of the service.
    pub target: Option<TargetName>,
    /// Release, with the parts that it names.
    pub release: Release,
}

fn actor(kind: &str, name: &str) -> Result<Actor, TextError> {
    Ok(Actor { kind: ShortText::stored(kind)?, name: ShortText::stored(name)? })
}

fn rollback_subject(environment: &EnvironmentName, rollback_id: &ShortText) -> Uuid {
    key("rollback", &[environment.as_str(), rollback_id.as_str()])
}

fn deploy_subject(environment: &EnvironmentName, service: &ServiceName, version: &ShortText) -> Uuid {
    key("deploy", &[environment.as_str(), service.as_str(), version.as_str()])
}

impl Snapshot {
    /// Returns the marks of an environment's compositions, as known at a position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn marks(&mut self, environment: &EnvironmentName, known_at: Position) -> Result<Marks, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Marks::default()) };
        let query = sqlx::query_as(sql!("marks/of_environment")).bind(id).bind(bigint(known_at));
        let rows: Vec<MarkRow> = query.fetch_all(self.connection()).await?;
        let mut marks = Marks::default();
        for row in rows {
            let point = position(row.point);
            let composition = match marks.compositions.get(&point) {
                Some(known) => *known,
                None => {
                    let found = composition_at(self.connection(), id, point).await?;
                    found.unwrap_or_else(|| CompositionIndex::default().id())
                }
            };
            marks.add(point, composition, row.parse()?);
        }
        Ok(marks)
    }

    /// Returns people's votes on a rollback that count at a time, ordered by position. An expired grant does not
    /// count, nor do earlier votes of the same person.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn votes_on_rollback(
        &mut self,
        environment: &EnvironmentName,
        rollback_id: &ShortText,
        now: DateTime<Utc>,
    ) -> Result<Vec<ApprovalVote>, Error> {
        let rows = load_votes(self.connection(), rollback_subject(environment, rollback_id)).await?;
        let mut counting: Vec<ApprovalVote> = Vec::new();
        for row in &rows {
            let vote = row.parse()?;
            if row.granted && row.expires_at.is_some_and(|end| end <= now) {
                counting.retain(|earlier| !earlier.actor.is_same_person(&vote.actor));
            } else {
                counting.push(vote);
            }
        }
        Ok(counting)
    }

    /// Returns people's votes on deploys of a version of a service, ordered by position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn votes_on_deploy(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &ShortText,
    ) -> Result<Vec<StatedDeployVote>, Error> {
        let rows = load_votes(self.connection(), deploy_subject(environment, service, version)).await?;
        let votes: Result<Vec<_>, _> = rows.iter().map(VoteRow::parse_deploy_vote).collect();
        Ok(votes?.into_iter().flatten().collect())
    }
}

async fn load_votes(connection: &mut PgConnection, subject: Uuid) -> Result<Vec<VoteRow>, Error> {
    Ok(sqlx::query_as(sql!("approvals/of_subject")).bind(subject).fetch_all(connection).await?)
}

/// Writes the mark or the vote of an event, if it has one.
pub(crate) async fn write(
    connection: &mut PgConnection,
    event: &Event,
    environment_id: i32,
    at: Position,
    occurred_at: DateTime<Utc>,
) -> Result<(), Error> {
    match &event.payload {
        Payload::ReleasePointMarked(marked) => {
            let status = Some(Status::from(marked.status).name());
            let mark = (marked.point.position, status, marked.name.as_ref());
            write_mark(connection, event, environment_id, (at, occurred_at), mark).await
        }
        Payload::ReleasePointRevoked(point) => {
            let mark = (point.position, None, None);
            write_mark(connection, event, environment_id, (at, occurred_at), mark).await
        }
        Payload::ApprovalGranted(approval) => {
            write_vote(connection, event, approval, true, (at, occurred_at)).await
        }
        Payload::ApprovalRejected(approval) => {
            write_vote(connection, event, approval, false, (at, occurred_at)).await
        }
        _ => Ok(()),
    }
}

async fn write_mark(
    connection: &mut PgConnection,
    event: &Event,
    environment_id: i32,
    (at, occurred_at): (Position, DateTime<Utc>),
    (point, status, name): (Position, Option<&str>, Option<&ShortText>),
) -> Result<(), Error> {
    sqlx::query(sql!("marks/insert"))
        .bind(environment_id)
        .bind(bigint(at))
        .bind(occurred_at)
        .bind(bigint(point))
        .bind(status)
        .bind(name.map(ShortText::as_str))
        .bind(event.actor.as_ref().map(|actor| actor.kind.as_str()))
        .bind(event.actor.as_ref().map(|actor| actor.name.as_str()))
        .bind(event.reason.as_ref().map(LongText::as_str))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_vote(
    connection: &mut PgConnection,
    event: &Event,
    approval: &Approval,
    granted: bool,
    (at, occurred_at): (Position, DateTime<Utc>),
) -> Result<(), Error> {
    // Event parsing rejects a vote without an actor.
    let Some(actor) = &event.actor else { return Ok(()) };
    let (subject, target, release) = match &approval.subject {
        ApprovalSubject::Rollback { environment, rollback_id } => {
            (rollback_subject(environment, rollback_id), None, None)
        }
        ApprovalSubject::Deploy { lane, release } => {
            let subject = deploy_subject(&lane.environment, &lane.service, &release.version);
            (subject, lane.target.as_ref(), Some(release))
        }
    };
    let mut query = sqlx::query(sql!("approvals/insert"))
        .bind(bigint(at))
        .bind(subject)
        .bind(occurred_at)
        .bind(granted)
        .bind(approval.expires_at)
        .bind(actor.kind.as_str())
        .bind(actor.name.as_str())
        .bind(target.map(TargetName::as_str))
        .bind(release.map(|release| release.version.as_str()));
    for part in optional_columns(release) {
        query = query.bind(part);
    }
    query.execute(connection).await?;
    Ok(())
}
