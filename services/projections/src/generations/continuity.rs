//! Whether the journal is still the one that the projections which answer were folded from.
//!
//! The projector of a generation finds that out whenever it begins. Processes that take events in, and fold
//! nothing, must know it as well: what the projections know of identities is of no use in another history.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ledger_domain::Position;
use ledger_journal::{ReadError, SharedJournal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

use crate::Projections;
use crate::postgres::Error;
use crate::projector::checkpoint::{Continuity, made_again, recognise};

/// How often each journal is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often the projections are read again as well.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// How long a journal seems to lack its end before that is believed: while another server becomes its leader, it may
/// know less than before.
const BELIEVED: Duration = Duration::from_secs(12);
/// How long a journal and the projections may take to answer: those of other tenants wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the journals of some tenants again and again.
pub(crate) struct ContinuityMonitor {
    watched: Vec<Watched>,
    /// Told when other projections answer.
    others: Arc<Notify>,
}

struct Watched {
    projections: Projections,
    journal: SharedJournal,
    /// The generation that answers.
    number: Option<i32>,
    /// What was found of it last.
    found: Option<Found>,
    /// Since when the journal seems to lack its end.
    doubted: Option<Instant>,
}

/// What was found of a generation.
struct Found {
    /// When projections and journal were both read.
    at: Instant,
    /// When the stream was made, and how long it was at least; `None` if it is another one.
    stream: Option<(DateTime<Utc>, Position)>,
}

#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Projections(#[from] Error),
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl ContinuityMonitor {
    pub(crate) fn new(ledgers: Vec<(Projections, SharedJournal)>, others: Arc<Notify>) -> Self {
        let watched = |(projections, journal)| Watched {
            projections,
            journal,
            number: None,
            found: None,
            doubted: None,
        };
        Self { watched: ledgers.into_iter().map(watched).collect(), others }
    }

    /// Looks once.
    pub(crate) async fn look(&mut self) {
        let all = self.watched.iter_mut().map(|watched| async move {
            let tenant = watched.projections.tenant.to_string();
            let error = match tokio::time::timeout(PATIENCE, watched.look()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {PATIENCE:?}"),
            };
            // What was doubted has to be seen again, without a break.
            watched.doubted = None;
            // Whoever needs either of them finds that out as well, and tells.
            debug!(tenant, error, "the journal is not compared with the projections");
        });
        futures::future::join_all(all).await;
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
        let answers = self.projections.answers_from();
        if self.number != answers {
            (self.number, self.found, self.doubted) = (answers, None, None);
        }
        let Some(number) = answers else { return Ok(()) };
        let head = self.journal.head().await?;
        if let Some(found) = &self.found {
            let recent = found.at.elapsed() < READ_AGAIN;
            match found.stream {
                // The projections need not answer to tell that, unless nothing was folded into them.
                Some((made, length)) if made != head.created && length > Position::START => {
                    self.is_of(Err(made_again(&head, made)));
                    return Ok(());
                }
                Some((_, length)) if recent && head.position >= length => {
                    self.doubted = None;
                    return Ok(());
                }
                None if recent => return Ok(()),
                Some(_) | None => {}
            }
        }
        let checkpoint = self.projections.checkpoint().await?;
        let recognised = recognise(self.journal.as_ref(), &checkpoint).await?;
        if self.projections.answers_from() != Some(number) {
            // They changed meanwhile: the next look finds out.
            return Ok(());
        }
        match recognised {
            // Where nothing is folded yet, it is the one that is there.
            Continuity::Intact => {
                let made = checkpoint.stream_created.unwrap_or(head.created);
                self.is_of(Ok((made, checkpoint.position)));
            }
            Continuity::Diverged(reason) => self.is_of(Err(reason)),
            Continuity::Unconfirmed(reason) => {
                let since = *self.doubted.get_or_insert_with(Instant::now);
                if since.elapsed() >= BELIEVED {
                    self.projections.divergence.send_replace(Some(reason));
                    // It may pass: it is looked again, and all of it.
                    self.found = None;
                }
            }
        }
        Ok(())
    }

    /// Takes note of the stream that the projections are of, or why it is not the one that is there.
    fn is_of(&mut self, stream: Result<(DateTime<Utc>, Position), String>) {
        self.doubted = None;
        let (stream, reason) = match stream {
            Ok(stream) => (Some(stream), None),
            Err(reason) => (None, Some(reason)),
        };
        // Whoever finds the door open knows already which stream it leads to.
        self.projections.stream.send_replace(stream.map(|(made, _)| made));
        self.projections.divergence.send_replace(reason);
        self.found = Some(Found { at: Instant::now(), stream });
    }
}
