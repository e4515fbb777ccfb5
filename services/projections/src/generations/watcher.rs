//! Which generation of the projections answers, for those who only ask.

use std::time::Duration;

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Projections;
use crate::generations::registry::{Member, State};
use crate::postgres::Error;
use crate::projector::pipeline::close;

/// How often the registry is looked at.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long the registry may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps projections true that only answer, such as those of a streaming replica.
pub struct GenerationWatcher {
    projections: Vec<Projections>,
}

impl GenerationWatcher {
    /// A watcher of some tenants' projections, all in one database.
    #[must_use]
    pub const fn new(projections: Vec<Projections>) -> Self {
        Self { projections }
    }

    /// Lets the live generations answer until the token is cancelled.
    pub async fn run(self, cancelled: CancellationToken) {
        let mut connection = None;
        loop {
            let looked = tokio::time::timeout(PATIENCE, self.turn(&mut connection)).await;
            let reason = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.told()),
                Err(_) => Some(format!("the database does not answer within {PATIENCE:?}")),
            };
            if let Some(reason) = reason {
                connection = None;
                for projections in self.projections.iter().filter(|projections| !projections.is_ready()) {
                    projections.answer_not(&reason);
                }
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn turn(&self, connection: &mut Option<PgConnection>) -> Result<(), Error> {
        let Some(first) = self.projections.first() else { return Ok(()) };
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(first.database().connect().await?),
        };
        find(connection, &self.projections).await
    }
}

/// Lets the live generations of some tenants answer.
async fn find(connection: &mut PgConnection, all: &[Projections]) -> Result<(), Error> {
    let Some(first) = all.first() else { return Ok(()) };
    let tenants: Vec<String> = all.iter().map(|projections| projections.tenant.to_string()).collect();
    let version = first.database().schema_version.version;
    let nobody = Member { id: Uuid::nil(), version };
    let generations = nobody.look(connection, &tenants, Duration::ZERO).await?;
    for projections in all {
        let live =
            generations.iter().find(|it| it.state == State::Live && it.tenant == projections.tenant.as_str());
        match live {
            Some(live) => projections.activate(live.number),
            None => projections.answer_not("none of them are live"),
        }
    }
    Ok(())
}

impl Projections {
    /// Looks once which generation answers, for those who ask without a [`ProjectionSupervisor`](crate::Keeper).
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn find(&self) -> Result<(), Error> {
        self.database().migrate_registry().await?;
        let mut connection = self.database().connect().await?;
        find(&mut connection, std::slice::from_ref(self)).await?;
        close(connection).await;
        Ok(())
    }
}
