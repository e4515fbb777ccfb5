//! The follower that folds the journal into a generation of the projections, for as long as it is wanted.

pub(crate) mod apply;
pub(crate) mod checkpoint;
pub(crate) mod pipeline;
pub(crate) mod tree;

use std::convert::Infallible;
use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::{SharedJournal, SubjectFilter, Until};
use metrics::counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::pipeline::{GenerationHandle, ProjectionError, Source, patiently};
use crate::projector::apply::Fold;
use crate::projector::checkpoint::{Continuity, created, recognise};

/// The journal is believed to have lost its end when it says so this often in a row, which takes more than ten
/// seconds: while another server becomes its leader, it may know less than before, and a leader that is cut
/// off from the others takes as long to notice.
const DOUBTS: u32 = 8;
/// How long a projector tries again, and gets nowhere, before it leaves the projections to another process.
const GIVE_UP: Duration = Duration::from_secs(20);
/// How long to wait after a failure: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the projector of a process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It has not begun.
    Starting,
    /// Another process folds.
    Standby,
    /// It fills projections that do not answer yet, and is at this position.
    Building(Position),
    /// It follows the journal.
    Following,
    /// Something that may pass keeps it from going on; it tries again.
    Waiting(String),
    /// It will not go on by itself.
    Stopped(Stopped),
}

/// Why a projector does not go on: each wants a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The service ends.
    #[error("the service ends")]
    Cancelled,
    /// The journal is not the one that the projections were folded from.
    #[error("the journal is not the one that the projections were folded from: {0}")]
    Diverged(String),
    /// An entry cannot be decoded by this version of the program.
    #[error("the entry at position {position} cannot be decoded: {reason}")]
    Poison {
        /// Where it is.
        position: Position,
        /// Why.
        reason: String,
    },
}

/// The projector of one generation of a tenant's projections.
pub(crate) struct Projector {
    target: GenerationHandle,
    journal: SharedJournal,
}

impl Projector {
    pub(crate) const fn new(target: GenerationHandle, journal: SharedJournal) -> Self {
        Self { target, journal }
    }

    /// Follows the journal until the token is cancelled, or a person is needed; `None` when something that may
    /// pass has kept it from that for long, so that another process may try.
    pub(crate) async fn run(self, cancelled: CancellationToken) -> Option<Stopped> {
        let tenant = self.target.projections.tenant.to_string();
        let mut back_off = BACK_OFF.0;
        let mut check_duplicates = false;
        let mut doubts = 0;
        loop {
            let began = Instant::now();
            let mut ended = match self.follow(&cancelled, check_duplicates).await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            let well = *self.target.well.borrow();
            if well > began {
                back_off = BACK_OFF.0;
            }
            doubts = if matches!(ended, ProjectionError::Doubtful(_)) { doubts + 1 } else { 0 };
            if let ProjectionError::Doubtful(reason) = ended {
                ended = if doubts < DOUBTS {
                    ProjectionError::Failed(reason)
                } else {
                    ProjectionError::Stopped(Stopped::Diverged(reason))
                };
            }
            check_duplicates = matches!(ended, ProjectionError::Repeated);
            match ended {
                ProjectionError::Stopped(stopped) => {
                    self.stopped(&stopped);
                    return Some(stopped);
                }
                ProjectionError::Fenced(position) => {
                    counter!("ledger_projector_fenced_total", "tenant" => tenant.clone()).increment(1);
                    info!(tenant, %position, "another projector was first");
                }
                ProjectionError::Repeated => continue,
                ProjectionError::Doubtful(reason) | ProjectionError::Failed(reason) => {
                    warn!(tenant, reason, "the projector waits and tries again");
                    self.target.tell(Status::Waiting(reason));
                }
            }
            if well.elapsed() > GIVE_UP {
                return None;
            }
            tokio::select! {
                () = cancelled.cancelled() => return Some(Stopped::Cancelled),
                () = tokio::time::sleep(back_off) => back_off = (back_off * 2).min(BACK_OFF.1),
            }
        }
    }

    fn stopped(&self, stopped: &Stopped) {
        if *stopped == Stopped::Cancelled {
            return;
        }
        let projections = &self.target.projections;
        error!(tenant = %projections.tenant, reason = %stopped, "the projector has stopped");
        if let Stopped::Diverged(reason) = stopped
            && projections.answers_from() == Some(self.target.number)
        {
            projections.divergence.send_replace(Some(reason.clone()));
        }
        self.target.tell(Status::Stopped(stopped.clone()));
    }

    async fn follow(
        &self,
        cancelled: &CancellationToken,
        check_duplicates: bool,
    ) -> Result<Infallible, ProjectionError> {
        let mut connection = self.target.connect().await?;
        let fold = patiently(async { Ok(Fold::load(&mut connection).await?) }).await?;
        match recognise(self.journal.as_ref(), &fold.checkpoint).await? {
            Continuity::Intact => {}
            Continuity::Unconfirmed(reason) => return Err(ProjectionError::Doubtful(reason)),
            Continuity::Diverged(reason) => return Err(ProjectionError::Stopped(Stopped::Diverged(reason))),
        }
        self.target.moved(fold.checkpoint.position);
        self.target.tell(Status::Following);
        let source = Source {
            stream_created: created(self.journal.as_ref(), &fold.checkpoint).await?,
            records: self.journal.read(SubjectFilter::All, fold.checkpoint.position, Until::Forever),
        };
        pipeline::run(&self.target, connection, fold, source, check_duplicates, cancelled).await?;
        Err(ProjectionError::Failed("the reader of the journal ended".into()))
    }
}
