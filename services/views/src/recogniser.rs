//! Whether the journal is still the one that the views which answer were folded from.
//!
//! The projector of a generation finds that out whenever it begins. Processes that take events in, and fold
//! nothing, must know it as well: what the views know of identities is of no use in another history.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_journal::{ReadError, SharedJournal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

use crate::Views;
use crate::database::Error;
use crate::projection::{Recognised, recognise};

/// How often each journal is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often the views are read again as well.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// How long a journal seems to lack its end before that is believed: while another server becomes its leader, it may
/// know less than before.
const BELIEVED: Duration = Duration::from_secs(12);
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
    /// What was found last.
    found: Option<Found>,
    /// Since when the journal seems to lack its end.
    doubted: Option<Instant>,
}

/// What was found of a generation.
struct Found {
    number: i32,
    /// When, since the views and the journal were both read.
    at: Instant,
    /// When the stream was made, and how long it was at least; `None` if it is another one.
    stream: Option<(DateTime<Utc>, Position)>,
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
        let watched = |(views, journal)| Watched { views, journal, found: None, doubted: None };
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
        let Some(number) = self.views.answers_from() else {
            self.found = None;
            return Ok(());
        };
        let found = self.found.as_ref().filter(|found| found.number == number);
        if let Some(found) = found.filter(|found| found.at.elapsed() < READ_AGAIN) {
            let Some((made, length)) = found.stream else { return Ok(()) };
            let head = self.journal.head().await?;
            if head.created == made && head.position >= length {
                return Ok(());
            }
        }
        let standing = self.views.standing().await?;
        let recognised = recognise(self.journal.as_ref(), &standing).await?;
        if self.views.answers_from() != Some(number) {
            // They changed meanwhile: the next look finds out.
            return Ok(());
        }
        let doubted = match recognised {
            Recognised::Doubtful(_) => self.doubted.get_or_insert_with(Instant::now).elapsed(),
            Recognised::Same | Recognised::Other(_) => {
                self.doubted = None;
                Duration::ZERO
            }
        };
        let stream = match recognised {
            Recognised::Same => {
                // What was wrong was wrong with views before these, or has passed.
                self.views.divergence.send_replace(None);
                // Nothing is folded of a stream yet: any would do.
                let Some(made) = standing.stream_created else { return Ok(()) };
                Some((made, standing.position))
            }
            Recognised::Doubtful(_) if doubted < BELIEVED => return Ok(()),
            Recognised::Doubtful(reason) | Recognised::Other(reason) => {
                self.views.divergence.send_replace(Some(reason));
                None
            }
        };
        self.views.stream.send_replace(stream.map(|(made, _)| made));
        self.found = Some(Found { number, at: Instant::now(), stream });
        Ok(())
    }
}
