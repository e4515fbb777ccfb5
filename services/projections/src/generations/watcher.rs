//! Which generation of the views answers, for those who only ask.

use std::time::Duration;

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Views;
use crate::generations::registry::{Member, State};
use crate::postgres::Error;
use crate::projector::pipeline::close;

/// How often the registry is looked at.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long the registry may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps views true that only answer, such as those of a streaming replica.
pub struct Watcher {
    views: Vec<Views>,
}

impl Watcher {
    /// A watcher of some tenants' views, all in one database.
    #[must_use]
    pub const fn new(views: Vec<Views>) -> Self {
        Self { views }
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
                for views in self.views.iter().filter(|views| !views.is_ready()) {
                    views.answer_not(&reason);
                }
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn turn(&self, connection: &mut Option<PgConnection>) -> Result<(), Error> {
        let Some(first) = self.views.first() else { return Ok(()) };
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(first.database().connect().await?),
        };
        find(connection, &self.views).await
    }
}

/// Lets the live generations of some tenants answer.
async fn find(connection: &mut PgConnection, all: &[Views]) -> Result<(), Error> {
    let Some(first) = all.first() else { return Ok(()) };
    let tenants: Vec<String> = all.iter().map(|views| views.tenant.to_string()).collect();
    let version = first.database().form.version;
    let nobody = Member { id: Uuid::nil(), version };
    let generations = nobody.look(connection, &tenants, Duration::ZERO).await?;
    for views in all {
        let live =
            generations.iter().find(|it| it.state == State::Live && it.tenant == views.tenant.as_str());
        match live {
            Some(live) => views.answer_from(live.number),
            None => views.answer_not("none of them are live"),
        }
    }
    Ok(())
}

impl Views {
    /// Looks once which generation answers, for those who ask without a [`Keeper`](crate::Keeper).
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
