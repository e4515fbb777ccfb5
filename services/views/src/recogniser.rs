//! Whether the journal is still the one that the views which answer were folded from.
//!
//! The projector of a generation finds that out whenever it begins. Processes that take events in, and fold
//! nothing, must know it as well: what the views know of identities is of no use in another history.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_journal::{ReadError, SharedJournal};
use tokio::sync::Notify;
use tracing::debug;

use crate::Views;
use crate::database::Error;
use crate::projection::{Recognised, recognise};

/// How often each journal is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a journal and the views may take to answer: those of other tenants wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the journals of some tenants again and again.
pub(crate) struct Recogniser {
    watched: Vec<Watched>,
    /// Told when other views answer.
    others: Arc<Notify>,
}

struct Watched {
    views: Views,
    journal: SharedJournal,
    /// The generation that was recognised last, and when the stream was made that it is of.
    recognised: Option<(i32, DateTime<Utc>)>,
    /// The generation that was found to be of another journal.
    other: Option<i32>,
}

#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Views(#[from] Error),
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl Recogniser {
    pub(crate) fn new(ledgers: Vec<(Views, SharedJournal)>, others: Arc<Notify>) -> Self {
        let watched = |(views, journal)| Watched { views, journal, recognised: None, other: None };
        Self { watched: ledgers.into_iter().map(watched).collect(), others }
    }

    /// Looks once.
    pub(crate) async fn look(&mut self) {
        for watched in &mut self.watched {
            let tenant = watched.views.tenant.to_string();
            match tokio::time::timeout(PATIENCE, watched.look()).await {
                Ok(Ok(())) => {}
                // Whoever needs either of them finds that out as well, and tells.
                Ok(Err(error)) => debug!(tenant, %error, "the journal is not compared with the views"),
                Err(_) => debug!(tenant, "the journal is not compared with the views in time"),
            }
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.look().await;
            tokio::select! {
                () = self.others.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

impl Watched {
    async fn look(&mut self) -> Result<(), Unknown> {
        let Some(number) = self.views.answers_from() else { return Ok(()) };
        if self.other == Some(number) {
            return Ok(());
        }
        if let Some((of, made)) = self.recognised
            && of == number
            && self.journal.head().await?.created == made
        {
            return Ok(());
        }
        let standing = self.views.standing().await?;
        if self.views.answers_from() != Some(number) {
            // They changed meanwhile: the next look finds out.
            return Ok(());
        }
        match recognise(self.journal.as_ref(), &standing).await? {
            Recognised::Other(reason) => {
                self.other = Some(number);
                self.views.divergence.send_replace(Some(reason));
            }
            Recognised::Same => {
                if self.recognised.is_none_or(|(of, _)| of != number) {
                    // What was wrong was wrong with the views before.
                    self.views.divergence.send_replace(None);
                }
                self.recognised = standing.stream_created.map(|made| (number, made));
            }
            // The projector believes it when it has heard it often enough, and says so itself.
            Recognised::Doubtful(_) => {}
        }
        Ok(())
    }
}
