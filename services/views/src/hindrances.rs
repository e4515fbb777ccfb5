//! What can keep a release from being brought back: artifacts that are revoked, deploys that cannot be undone.

use ledger_domain::event::{Fact, Revoked};
use ledger_domain::obstacle::{IrreversibleDeploy, RevokedArtifact};
use ledger_domain::{Artifact, EnvironmentName, Line, Position, ServiceName, TargetName};
use sqlx::PgConnection;

use crate::Snapshot;
use crate::database::{Error, bigint, parsed, position};

pub(crate) const STATEMENTS: &[&str] = &[REVOKED, IRREVERSIBLE, WRITE_REVOCATION, WRITE_IRREVERSIBLE];

/// Each artifact's first revocation, and whether any of them says that it is gone.
const REVOKED: &str = "SELECT artifact, min(position), bool_or(deleted) FROM revocations
    WHERE artifact = ANY($1) GROUP BY artifact ORDER BY 2";

const IRREVERSIBLE: &str = "SELECT position, service, target, version FROM irreversible_deploys
    WHERE environment_id = $1 AND position > $2 ORDER BY position";

const WRITE_REVOCATION: &str = "INSERT INTO revocations (position, artifact, deleted)
    SELECT unnest($1::bigint[]), unnest($2::text[]), unnest($3::boolean[])";

const WRITE_IRREVERSIBLE: &str =
    "INSERT INTO irreversible_deploys (environment_id, position, service, target, version)
    SELECT unnest($1::integer[]), unnest($2::bigint[]), unnest($3::text[]), unnest($4::text[]),
        unnest($5::text[])";

impl Snapshot {
    /// Which of these artifacts must not be used any more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn revoked<'a>(
        &mut self,
        artifacts: impl IntoIterator<Item = &'a Artifact>,
    ) -> Result<Vec<RevokedArtifact>, Error> {
        let texts: Vec<String> = artifacts.into_iter().map(|artifact| artifact.as_str().to_owned()).collect();
        let query = sqlx::query_as(REVOKED).bind(texts);
        let rows: Vec<(String, i64, bool)> = query.fetch_all(self.connection()).await?;
        rows.into_iter()
            .map(|(artifact, at, deleted)| {
                let artifact = parsed("revocations", at, || Artifact::parse(&artifact))?;
                Ok(RevokedArtifact { artifact, deleted, position: position(at) })
            })
            .collect()
    }

    /// The deploys to an environment after a position that cannot be undone.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn irreversible(
        &mut self,
        environment: &EnvironmentName,
        after: Position,
    ) -> Result<Vec<IrreversibleDeploy>, Error> {
        let Some(id) = self.environment_id(environment).await? else { return Ok(Vec::new()) };
        let query = sqlx::query_as(IRREVERSIBLE).bind(id).bind(bigint(after));
        let rows: Vec<(i64, String, String, String)> = query.fetch_all(self.connection()).await?;
        rows.into_iter()
            .map(|(at, service, target, version)| {
                parsed("irreversible_deploys", at, || {
                    Ok::<_, Box<dyn std::error::Error>>(IrreversibleDeploy {
                        service: ServiceName::parse(&service)?,
                        target: TargetName::parse(&target)?,
                        version: Line::parse(&version)?,
                        position: position(at),
                    })
                })
            })
            .collect()
    }
}

/// What cannot be brought back, on its way into the tables, column by column.
#[derive(Default)]
pub(crate) struct HindranceRows {
    revoked: (Vec<i64>, Vec<String>, Vec<bool>),
    irreversible: IrreversibleRows,
}

#[derive(Default)]
struct IrreversibleRows {
    environment_id: Vec<i32>,
    position: Vec<i64>,
    service: Vec<String>,
    target: Vec<String>,
    version: Vec<String>,
}

impl HindranceRows {
    pub(crate) fn push(&mut self, fact: &Fact, environment_id: Option<i32>, at: Position) {
        match (fact, environment_id) {
            (Fact::ArtifactRevoked(Revoked { artifact, deleted, .. }), _) => {
                self.revoked.0.push(bigint(at));
                self.revoked.1.push(artifact.as_str().to_owned());
                self.revoked.2.push(*deleted);
            }
            (Fact::DeploySucceeded(deploy), Some(id)) if !deploy.reversible => {
                let rows = &mut self.irreversible;
                rows.environment_id.push(id);
                rows.position.push(bigint(at));
                rows.service.push(deploy.lane.service.to_string());
                rows.target.push(deploy.lane.target.to_string());
                rows.version.push(deploy.release.version.to_string());
            }
            _ => {}
        }
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), Error> {
        let (position, artifact, deleted) = self.revoked;
        if !position.is_empty() {
            let query = sqlx::query(WRITE_REVOCATION).bind(position).bind(artifact).bind(deleted);
            query.execute(&mut *connection).await?;
        }
        let rows = self.irreversible;
        if !rows.position.is_empty() {
            sqlx::query(WRITE_IRREVERSIBLE)
                .bind(rows.environment_id)
                .bind(rows.position)
                .bind(rows.service)
                .bind(rows.target)
                .bind(rows.version)
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}
