//! People's words: on release points, on rollbacks and on deploys.

use std::collections::BTreeMap;

use ledger_domain::event::{Actor, ApprovalSubject, Event, Fact, MarkedStatus};
use ledger_domain::gate::Answer;
use ledger_domain::known_good::{Marked, Status};
use ledger_domain::{EnvironmentName, Lane, Line, Position, Prose, Release, TextError};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Snapshot;
use crate::database::{Error, bigint, parsed, position};
use crate::key::key;
use crate::lanes::{is_meant, told};

pub(crate) const STATEMENTS: &[&str] = &[MARKS, ANSWERS, WRITE_MARK, WRITE_ANSWER];

const MARKS: &str = "SELECT position, point, status, name, actor_kind, actor_name, reason FROM marks
    WHERE environment_id = $1 AND position <= $2 ORDER BY position";

const ANSWERS: &str =
    "SELECT position, granted, actor_kind, actor_name, artifact, config, infrastructure, commit
    FROM approvals WHERE subject = $1 ORDER BY position";

const WRITE_MARK: &str = "INSERT INTO marks (environment_id, position, point, status, name, actor_kind,
        actor_name, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const WRITE_ANSWER: &str =
    "INSERT INTO approvals (position, subject, granted, actor_kind, actor_name, artifact,
        config, infrastructure, commit)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// People's words, by the position of the point that they are about, as long as nobody took them back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<Position, Marked>);

impl Marks {
    /// The last word on a point that stood from one position up to before another.
    pub(crate) fn on(&self, from: Position, before: Option<Position>) -> Option<&Marked> {
        let before = before.unwrap_or(Position::new(u64::MAX));
        self.0.range(from..before).map(|(_, marked)| marked).max_by_key(|marked| marked.position)
    }

    /// The position that was last marked with a name.
    #[must_use]
    pub fn named(&self, name: &Line) -> Option<Position> {
        let named = self.0.iter().filter(|(_, marked)| marked.name.as_ref() == Some(name));
        named.max_by_key(|(_, marked)| marked.position).map(|(point, _)| *point)
    }

    /// Whether a word stands on a position.
    #[must_use]
    pub fn has(&self, point: Position) -> bool {
        self.0.contains_key(&point)
    }
}

#[derive(sqlx::FromRow)]
struct MarkRow {
    position: i64,
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
                Some(other) => return Err(format!("{other} is no status").into()),
            };
            let actor = match (&self.actor_kind, &self.actor_name) {
                (Some(kind), Some(name)) => Some(actor(kind, name)?),
                _ => None,
            };
            Ok::<_, Box<dyn std::error::Error>>(Some(Marked {
                position: position(self.position),
                status,
                name: self.name.as_deref().map(Line::parse).transpose()?,
                actor,
                reason: self.reason.as_deref().map(Prose::parse).transpose()?,
            }))
        })
    }
}

#[derive(sqlx::FromRow)]
struct AnswerRow {
    position: i64,
    granted: bool,
    actor_kind: String,
    actor_name: String,
    artifact: Option<String>,
    config: Option<String>,
    infrastructure: Option<String>,
    commit: Option<String>,
}

impl AnswerRow {
    fn parse(&self) -> Result<Answer, Error> {
        let actor = parsed("approvals", self.position, || actor(&self.actor_kind, &self.actor_name))?;
        Ok(Answer { actor, granted: self.granted, position: position(self.position) })
    }
}

fn actor(kind: &str, name: &str) -> Result<Actor, TextError> {
    Ok(Actor { kind: Line::parse(kind)?, name: Line::parse(name)? })
}

fn of_rollback(environment: &EnvironmentName, rollback_id: &Line) -> Uuid {
    key("rollback", &[environment.as_str(), rollback_id.as_str()])
}

fn of_deploy(lane: &Lane, release: &Release) -> Uuid {
    let Lane { environment, service, target } = lane;
    key("deploy", &[environment.as_str(), service.as_str(), target.as_str(), release.version.as_str()])
}

impl Snapshot {
    /// People's words on the points of an environment, as known at a position.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn marks(&mut self, environment: &EnvironmentName, known_at: Position) -> Result<Marks, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Marks::default()) };
        let query = sqlx::query_as(MARKS).bind(id).bind(bigint(known_at));
        let rows: Vec<MarkRow> = query.fetch_all(self.connection()).await?;
        let mut marks = Marks::default();
        for row in rows {
            let point = position(row.point);
            match row.parse()? {
                Some(marked) => marks.0.insert(point, marked),
                None => marks.0.remove(&point),
            };
        }
        Ok(marks)
    }

    /// People's answers to a rollback, in their order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn answers_to_rollback(
        &mut self,
        environment: &EnvironmentName,
        rollback_id: &Line,
    ) -> Result<Vec<Answer>, Error> {
        let rows = answers(self.connection(), of_rollback(environment, rollback_id)).await?;
        rows.iter().map(AnswerRow::parse).collect()
    }

    /// People's answers to a deploy of a release to a lane, in their order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn answers_to_deploy(&mut self, lane: &Lane, release: &Release) -> Result<Vec<Answer>, Error> {
        let rows = answers(self.connection(), of_deploy(lane, release)).await?;
        let told = |row: &AnswerRow| {
            is_meant(release, [&row.artifact, &row.config, &row.infrastructure, &row.commit])
        };
        rows.iter().filter(|row| told(row)).map(AnswerRow::parse).collect()
    }
}

async fn answers(connection: &mut PgConnection, subject: Uuid) -> Result<Vec<AnswerRow>, Error> {
    Ok(sqlx::query_as(ANSWERS).bind(subject).fetch_all(connection).await?)
}

/// Writes what a person says by an event, if one does.
pub(crate) async fn write(
    connection: &mut PgConnection,
    event: &Event,
    environment_id: i32,
    at: Position,
) -> Result<(), Error> {
    match &event.fact {
        Fact::ReleasePointMarked(mark) => {
            let status = Some(Status::from(mark.status).name());
            write_mark(
                connection,
                event,
                environment_id,
                at,
                (mark.point.position, status, mark.name.as_ref()),
            )
            .await
        }
        Fact::ReleasePointRevoked(point) => {
            write_mark(connection, event, environment_id, at, (point.position, None, None)).await
        }
        Fact::ApprovalGranted(approval) => write_answer(connection, event, &approval.subject, true, at).await,
        Fact::ApprovalRejected(approval) => {
            write_answer(connection, event, &approval.subject, false, at).await
        }
        _ => Ok(()),
    }
}

async fn write_mark(
    connection: &mut PgConnection,
    event: &Event,
    environment_id: i32,
    at: Position,
    (point, status, name): (Position, Option<&str>, Option<&Line>),
) -> Result<(), Error> {
    sqlx::query(WRITE_MARK)
        .bind(environment_id)
        .bind(bigint(at))
        .bind(bigint(point))
        .bind(status)
        .bind(name.map(Line::as_str))
        .bind(event.actor.as_ref().map(|actor| actor.kind.as_str()))
        .bind(event.actor.as_ref().map(|actor| actor.name.as_str()))
        .bind(event.reason.as_ref().map(Prose::as_str))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_answer(
    connection: &mut PgConnection,
    event: &Event,
    subject: &ApprovalSubject,
    granted: bool,
    at: Position,
) -> Result<(), Error> {
    // An answer without an actor is refused where events are read.
    let Some(actor) = &event.actor else { return Ok(()) };
    let (subject, release) = match subject {
        ApprovalSubject::Rollback { environment, rollback_id } => {
            (of_rollback(environment, rollback_id), None)
        }
        ApprovalSubject::Deploy { lane, release } => (of_deploy(lane, release), Some(release)),
    };
    let mut query = sqlx::query(WRITE_ANSWER)
        .bind(bigint(at))
        .bind(subject)
        .bind(granted)
        .bind(actor.kind.as_str())
        .bind(actor.name.as_str());
    for part in told(release) {
        query = query.bind(part);
    }
    query.execute(connection).await?;
    Ok(())
}
