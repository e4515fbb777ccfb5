//! Ends and starts of checks on their way into the tables.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Payload, Validation, ValidationSubject};
use ledger_domain::{Position, ShortText};
use sqlx::PgConnection;
use uuid::Uuid;

use super::statements::{CORRECT, CORRECT_STARTS, WRITE, WRITE_STARTS};
use super::{Named, of_artifact, of_environment};
use crate::postgres::{Error, bigint};
use crate::tables::lanes::told;

/// Ends and starts of checks on their way into the tables, column by column.
#[derive(Default)]
pub(crate) struct VerdictRows {
    position: Vec<i64>,
    occurred_at: Vec<DateTime<Utc>>,
    subject: Vec<Uuid>,
    environment_id: Vec<Option<i32>>,
    scope: Vec<&'static str>,
    check_name: Vec<String>,
    run: Vec<Option<String>>,
    passed: Vec<bool>,
    counts: Vec<bool>,
    told: [Vec<Option<String>>; 4],
    starts: StartRows,
}

#[derive(Default)]
struct StartRows {
    position: Vec<i64>,
    occurred_at: Vec<DateTime<Utc>>,
    subject: Vec<Uuid>,
    environment_id: Vec<Option<i32>>,
    check_name: Vec<String>,
    run: Vec<Option<String>>,
}

impl VerdictRows {
    /// Adds the end or the start of a check, if the fact is one.
    pub(crate) fn push(
        &mut self,
        payload: &Payload,
        environment_id: Option<i32>,
        at: Position,
        occurred_at: DateTime<Utc>,
    ) {
        let (validation, passed) = match payload {
            Payload::ValidationPassed(validation) => (validation, true),
            Payload::ValidationFailed(validation) => (validation, false),
            Payload::ValidationStarted(validation) => {
                self.push_start(validation, environment_id, at, occurred_at);
                return;
            }
            _ => return,
        };
        let (key, scope, parts) = subject(validation);
        let mut subjects = vec![key];
        if let ValidationSubject::Artifact(artifact) = &validation.subject {
            subjects.extend(artifact.package_key().map(|key| of_artifact(&key)));
        }
        for subject in subjects {
            self.add(validation, passed, environment_id, (at, occurred_at), (subject, scope, parts.clone()));
        }
    }

    fn add(
        &mut self,
        validation: &Validation,
        passed: bool,
        environment_id: Option<i32>,
        (at, occurred_at): (Position, DateTime<Utc>),
        (subject, scope, parts): (Uuid, &'static str, [Option<String>; 4]),
    ) {
        self.position.push(bigint(at));
        self.occurred_at.push(occurred_at);
        self.subject.push(subject);
        self.environment_id.push(environment_id);
        self.scope.push(scope);
        self.check_name.push(validation.check.to_string());
        self.run.push(validation.run.as_ref().map(ShortText::to_string));
        self.passed.push(passed);
        self.counts.push(!(passed && contradicts(validation)));
        for (column, part) in self.told.iter_mut().zip(parts) {
            column.push(part);
        }
    }

    fn push_start(
        &mut self,
        validation: &Validation,
        environment_id: Option<i32>,
        at: Position,
        occurred_at: DateTime<Utc>,
    ) {
        let rows = &mut self.starts;
        rows.position.push(bigint(at));
        rows.occurred_at.push(occurred_at);
        rows.subject.push(subject(validation).0);
        rows.environment_id.push(environment_id);
        rows.check_name.push(validation.check.to_string());
        rows.run.push(validation.run.as_ref().map(ShortText::to_string));
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        if !self.position.is_empty() {
            let mut query = sqlx::query(WRITE)
                .bind(self.position)
                .bind(self.occurred_at)
                .bind(self.subject)
                .bind(self.environment_id)
                .bind(self.scope)
                .bind(self.check_name)
                .bind(self.run)
                .bind(self.passed)
                .bind(self.counts);
            for column in self.told {
                query = query.bind(column);
            }
            query.execute(&mut *connection).await?;
        }
        let starts = self.starts;
        if !starts.position.is_empty() {
            let query = sqlx::query(WRITE_STARTS).bind(starts.position).bind(starts.occurred_at);
            let query = query.bind(starts.subject).bind(starts.environment_id);
            query.bind(starts.check_name).bind(starts.run).execute(connection).await?;
        }
        Ok(())
    }
}

/// Whether the counts of a check contradict that it passed.
pub(crate) fn contradicts(validation: &Validation) -> bool {
    validation.counts.is_some_and(|counts| counts.contradict_a_pass())
}

/// Has the end or the start of a check that an event told no effect from another position on.
pub(crate) async fn correct(
    connection: &mut PgConnection,
    corrected: Position,
    from: Position,
) -> Result<(), Error> {
    for sql in [CORRECT, CORRECT_STARTS] {
        sqlx::query(sql).bind(bigint(corrected)).bind(bigint(from)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The key of what was checked, what it is, and what was said of the release besides its version.
fn subject(validation: &Validation) -> (Uuid, &'static str, [Option<String>; 4]) {
    match &validation.subject {
        ValidationSubject::Artifact(artifact) => {
            let text = Some(artifact.as_str().to_owned());
            (of_artifact(&artifact.identity()), "artifact", [text, None, None, None])
        }
        ValidationSubject::Environment(environment) => {
            (of_environment(environment), "environment", told(None))
        }
        ValidationSubject::Lane { lane, release: Some(release), .. } => {
            (Named::of(lane).version(release.version.as_str()), "release", told(Some(release)))
        }
        ValidationSubject::Lane { lane, release: None, deployment } => match deployment {
            Some(deployment) => (Named::of(lane).deployment(deployment.as_str()), "deployment", told(None)),
            None => (Named::of(lane).lane(), "lane", told(None)),
        },
    }
}
