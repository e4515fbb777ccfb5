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

const WRITE_REVOCATION: &str = "INSERT INTO revocations (position, artifact, deleted) VALUES ($1, $2, $3)";

const WRITE_IRREVERSIBLE: &str =
    "INSERT INTO irreversible_deploys (environment_id, position, service, target, version)
    VALUES ($1, $2, $3, $4, $5)";

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

/// Writes what a fact says of what cannot be brought back, if it does.
pub(crate) async fn write(
    connection: &mut PgConnection,
    fact: &Fact,
    environment_id: Option<i32>,
    at: Position,
) -> Result<(), Error> {
    let query = match fact {
        Fact::ArtifactRevoked(Revoked { artifact, deleted, .. }) => {
            sqlx::query(WRITE_REVOCATION).bind(bigint(at)).bind(artifact.as_str()).bind(*deleted)
        }
        Fact::DeploySucceeded(deploy) if !deploy.reversible => sqlx::query(WRITE_IRREVERSIBLE)
            .bind(environment_id)
            .bind(bigint(at))
            .bind(deploy.lane.service.as_str())
            .bind(deploy.lane.target.as_str())
            .bind(deploy.release.version.as_str()),
        _ => return Ok(()),
    };
    query.execute(connection).await?;
    Ok(())
}
