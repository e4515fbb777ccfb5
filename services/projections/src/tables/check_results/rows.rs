//! Writes of check results: the ends and starts of checks.

use chrono::{DateTime, Utc};
use ledger_domain::event::{Payload, Validation, ValidationSubject};
use ledger_domain::{Position, ShortText};
use sqlx::PgConnection;
use uuid::Uuid;

use super::subjects::{LaneSubject, artifact_subject, environment_subject};
use crate::bulk_insert::{BatchStatement, insert_row};
use crate::postgres::{Error, bigint};
use crate::sql::sql;
use crate::tables::lanes::optional_columns;

insert_row! {
    /// Row of `verdicts`: the end of a check.
    pub(crate) struct CheckEndInsert => "verdicts" {
        position: i64,
        occurred_at: DateTime<Utc>,
        subject: Uuid,
        environment_id: Option<i32>,
        scope: &'static str,
        service: Option<String>,
        version: Option<String>,
        check_name: String,
        run: Option<String>,
        passed: bool,
        counts: bool,
        artifact: Option<String>,
        config: Option<String>,
        infrastructure: Option<String>,
        commit: Option<String>,
    }
}

insert_row! {
    /// Row of `check_starts`.
    pub(crate) struct CheckStartInsert => "check_starts" {
        position: i64,
        occurred_at: DateTime<Utc>,
        subject: Uuid,
        environment_id: Option<i32>,
        check_name: String,
        run: Option<String>,
    }
}

/// Rows to insert into `verdicts` and `check_starts`.
#[derive(Default)]
pub(crate) struct CheckResultRows {
    ends: Vec<CheckEndInsert>,
    starts: Vec<CheckStartInsert>,
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
        match payload {
            Payload::ValidationPassed(validation) => {
                self.push_ends(validation, true, environment_id, (at, occurred_at));
            }
            Payload::ValidationFailed(validation) => {
                self.push_ends(validation, false, environment_id, (at, occurred_at));
            }
            Payload::ValidationStarted(validation) => self.starts.push(CheckStartInsert {
                position: bigint(at),
                occurred_at,
                subject: subject(validation).0,
                environment_id,
                check_name: validation.check.to_string(),
                run: validation.run.as_ref().map(ShortText::to_string),
            }),
            _ => {}
        }
    }

    /// Adds the end of a check: one row, or two if the artifact has two keys.
    fn push_ends(
        &mut self,
        validation: &Validation,
        passed: bool,
        environment_id: Option<i32>,
        (at, occurred_at): (Position, DateTime<Utc>),
    ) {
        let (key, scope, parts) = subject(validation);
        let lane = match &validation.subject {
            ValidationSubject::Lane { lane, release, .. } => Some((lane, release.as_ref())),
            ValidationSubject::Environment(_) | ValidationSubject::Artifact(_) => None,
        };
        let package_key = match &validation.subject {
            ValidationSubject::Artifact(artifact) => artifact.package_key(),
            _ => None,
        };
        for subject in [key].into_iter().chain(package_key.map(|key| artifact_subject(&key))) {
            let [artifact, config, infrastructure, commit] = parts.clone();
            self.ends.push(CheckEndInsert {
                position: bigint(at),
                occurred_at,
                subject,
                environment_id,
                scope,
                service: lane.map(|(lane, _)| lane.service.to_string()),
                version: lane.and_then(|(_, release)| release).map(|release| release.version.to_string()),
                check_name: validation.check.to_string(),
                run: validation.run.as_ref().map(ShortText::to_string),
                passed,
                counts: !(passed && contradicts(validation)),
                artifact,
                config,
                infrastructure,
                commit,
            });
        }
    }

    pub(crate) fn add_to(self, statement: &mut BatchStatement) -> Result<(), Error> {
        statement.insert(self.ends)?;
        statement.insert(self.starts)
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
