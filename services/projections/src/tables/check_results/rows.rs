//! Writes of check results: the ends and starts of checks.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Payload, Validation, ValidationSubject};
use ledger_domain::{Position, ShortText};
use sqlx::PgConnection;
use uuid::Uuid;

use super::statements::{INSERT_ENDS, INSERT_STARTS};
use super::{LaneSubject, artifact_subject, environment_subject};
use crate::postgres::{Error, bigint};
use crate::sql::sql;
use crate::tables::lanes::optional_columns;

/// Rows to insert into `verdicts` and `check_starts`, column by column.
#[derive(Default)]
pub(crate) struct CheckResultRows {
    position: Vec<i64>,
    occurred_at: Vec<DateTime<Utc>>,
    subject: Vec<Uuid>,
    environment_id: Vec<Option<i32>>,
    scope: Vec<&'static str>,
    check_name: Vec<String>,
    run: Vec<Option<String>>,
    passed: Vec<bool>,
    counts: Vec<bool>,
    release_parts: [Vec<Option<String>>; 4],
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

impl CheckResultRows {
    /// Adds the end or the start of a check, if the payload is one.
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
            subjects.extend(artifact.package_key().map(|key| artifact_subject(&key)));
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
        for (column, part) in self.release_parts.iter_mut().zip(parts) {
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
            let mut query = sqlx::query(INSERT_ENDS)
                .bind(self.position)
                .bind(self.occurred_at)
                .bind(self.subject)
                .bind(self.environment_id)
                .bind(self.scope)
                .bind(self.check_name)
                .bind(self.run)
                .bind(self.passed)
                .bind(self.counts);
            for column in self.release_parts {
                query = query.bind(column);
            }
            query.execute(&mut *connection).await?;
        }
        let starts = self.starts;
        if !starts.position.is_empty() {
            let query = sqlx::query(INSERT_STARTS).bind(starts.position).bind(starts.occurred_at);
            let query = query.bind(starts.subject).bind(starts.environment_id);
            query.bind(starts.check_name).bind(starts.run).execute(connection).await?;
        }
        Ok(())
    }
}

/// Returns true if the case counts of a check contradict a pass.
pub(crate) fn contradicts(validation: &Validation) -> bool {
    validation.counts.is_some_and(|counts| counts.contradict_a_pass())
}

/// Marks the end or the start of a check as corrected: it has no effect from the position `from` on.
pub(crate) async fn correct(
    connection: &mut PgConnection,
    corrected: Position,
    from: Position,
) -> Result<(), Error> {
    for sql in [sql!("check_results/correct_ends"), sql!("check_results/correct_starts")] {
        sqlx::query(sql).bind(bigint(corrected)).bind(bigint(from)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Returns the key of the checked subject, its scope, and the optional parts that the check states of its release.
fn subject(validation: &Validation) -> (Uuid, &'static str, [Option<String>; 4]) {
    match &validation.subject {
        ValidationSubject::Artifact(artifact) => {
            let text = Some(artifact.as_str().to_owned());
            (artifact_subject(&artifact.identity()), "artifact", [text, None, None, None])
        }
        ValidationSubject::Environment(environment) => {
            (environment_subject(environment), "environment", optional_columns(None))
        }
        ValidationSubject::Lane { lane, release: Some(release), .. } => (
            LaneSubject::of(lane).release_key(release.version.as_str()),
            "release",
            optional_columns(Some(release)),
        ),
        ValidationSubject::Lane { lane, release: None, deployment } => match deployment {
            Some(deployment) => (
                LaneSubject::of(lane).deployment_key(deployment.as_str()),
                "deployment",
                optional_columns(None),
            ),
            None => (LaneSubject::of(lane).lane_key(), "lane", optional_columns(None)),
        },
    }
}
