//! What keeps a process's views: which generation answers, who folds into each, what is built and what is dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::SharedJournal;
use metrics::gauge;
use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::Views;
use crate::build::{Builder, Failure, Origin, Then};
use crate::database::Error;
use crate::key::key;
use crate::pipeline::{Target, close};
use crate::projection::{Recognised, recognise};
use crate::projector::{Projector, Status, Stopped};
use crate::registry::{Generation, Member, State, next_number};

/// How often the registry is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often a process says that it is there, and owns what it owns.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether something can be dropped.
const CLEAN_AGAIN: Duration = Duration::from_secs(5);
/// How long a process leaves to others what is theirs by preference.
const DEFERENCE: Duration = Duration::from_secs(2);
/// How long the registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the journal may take to say where it ends.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);
/// How long a process leaves a tenant to others after it could not fold.
const UNFIT: Duration = Duration::from_secs(10);
/// How long to wait after a filling failed.
const BUILD_AGAIN: Duration = Duration::from_secs(2);

/// How views are kept.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// The process, by a name that no other has.
    pub member: Uuid,
    /// Whether it folds, or only asks.
    pub folds: bool,
    /// How long views that were replaced are kept for those who have not heard of it yet.
    pub grace: Duration,
    /// How long views of an older form are kept after the last program that knows it was seen.
    pub keep_older: Duration,
}

/// Keeps the views of a process's tenants.
///
/// Each generation of a tenant's views has one owner, the process that folds into it. Tenants are spread over
/// the processes that fold: each has one that it prefers, by a hash of both names, and that one takes it when
/// nobody has it, or the one that has it hands it over.
pub struct Keeper {
    keeping: Keeping,
    me: Member,
    ledgers: BTreeMap<String, Kept>,
    connection: Option<PgConnection>,
    /// What was last told of why the registry cannot be asked: it is looked at often, and told once.
    warned: Option<String>,
    said: Option<Instant>,
    cleaned: Instant,
    /// Told when something that this process folds or fills has ended.
    ended: Arc<Notify>,
}

/// One tenant's views.
struct Kept {
    views: Views,
    journal: SharedJournal,
    tasks: HashMap<i32, Task>,
    /// Generations that need a person, as far as this process is concerned.
    stopped: HashMap<i32, Stopped>,
    /// Since when a generation is free that others are to take first.
    free_since: HashMap<i32, Instant>,
    build_again: Instant,
    /// Others are to fold: something keeps this process from it, and it looks again then.
    unfit_until: Option<Instant>,
}

/// What is done with a generation that this process owns.
struct Task {
    handle: JoinHandle<Outcome>,
    cancel: CancellationToken,
}

enum Outcome {
    Stopped(Stopped),
    /// Something that may pass has kept it from folding for long, up to this moment.
    GaveUp(Instant),
    Built,
    NotBuilt(String),
}

impl Keeper {
    /// A keeper of some tenants' views, all in one database.
    #[must_use]
    pub fn new(keeping: Keeping, ledgers: Vec<(Views, SharedJournal)>) -> Self {
        let version = ledgers.first().map_or(0, |(views, _)| views.database().form.version);
        let kept = |(views, journal): (Views, SharedJournal)| {
            if keeping.folds {
                views.status.send_replace(Some(Status::Starting));
            }
            let (tasks, free_since) = (HashMap::new(), HashMap::new());
            let now = Instant::now();
            let stopped = HashMap::new();
            let tenant = views.tenant.to_string();
            let (build_again, unfit_until) = (now, None);
            (tenant, Kept { views, journal, tasks, stopped, free_since, build_again, unfit_until })
        };
        Self {
            keeping,
            me: Member { id: keeping.member, version },
            ledgers: ledgers.into_iter().map(kept).collect(),
            connection: None,
            warned: None,
            said: None,
            cleaned: Instant::now(),
            ended: Arc::new(Notify::new()),
        }
    }

    /// Looks until views that can answer do, or something has to be waited for.
    pub async fn look(&mut self) {
        let looked = tokio::time::timeout(PATIENCE, async {
            while self.turn().await? {}
            Ok::<_, Error>(())
        });
        let reason = match looked.await {
            Ok(Ok(())) => {
                if self.warned.take().is_some() {
                    info!("the registry of views can be asked again");
                }
                return;
            }
            Ok(Err(error)) => error.told(),
            Err(_) => format!("the database does not answer within {PATIENCE:?}"),
        };
        self.connection = None;
        if self.warned.as_ref() != Some(&reason) {
            warn!(reason, "the registry of views cannot be asked");
            self.warned = Some(reason.clone());
        }
        for kept in self.ledgers.values() {
            if !kept.views.is_ready() {
                kept.views.answer_not(&reason);
            }
        }
    }

    /// Lets those be fit again that could not fold for a while, if the journal can be read. All tenants share one
    /// connection to it: what one finds is true for all, and nobody waits for each of them.
    async fn fit_again(ledgers: &mut BTreeMap<String, Kept>) {
        let now = Instant::now();
        let due = |kept: &Kept| kept.unfit_until.is_some_and(|until| until <= now);
        let Some(one) = ledgers.values().find(|kept| due(kept)) else { return };
        let until = if one.head().await.is_some() { None } else { Some(now + UNFIT) };
        for kept in ledgers.values_mut().filter(|kept| due(kept)) {
            kept.unfit_until = until;
        }
    }

    /// Keeps the views until the token is cancelled; then what this process folds is folded to the end of its
    /// batch, and left to others.
    pub async fn run(mut self, cancelled: CancellationToken) {
        loop {
            self.look().await;
            tokio::select! {
                () = cancelled.cancelled() => break,
                () = self.ended.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
        for kept in self.ledgers.values_mut() {
            for task in kept.tasks.values() {
                task.cancel.cancel();
            }
        }
        for (tenant, kept) in &mut self.ledgers {
            for (number, task) in std::mem::take(&mut kept.tasks) {
                if let Err(error) = task.handle.await {
                    warn!(tenant, %error, "a projector did not end well");
                }
                if let Some(connection) = &mut self.connection {
                    // Unsaid, it is found out when the connection is gone.
                    let _ = self.me.release(connection, tenant, number).await;
                }
            }
        }
    }

    /// Does what is to be done now; says whether there is more already.
    async fn turn(&mut self) -> Result<bool, Error> {
        let tenants: Vec<String> = self.ledgers.keys().cloned().collect();
        let mut again = false;
        if self.connection.is_none() {
            let Some(kept) = self.ledgers.values().next() else { return Ok(false) };
            let database = kept.views.database();
            database.migrate_registry().await?;
            self.connection = Some(database.connect().await?);
            self.said = None;
        }
        let Some(connection) = &mut self.connection else { return Ok(false) };
        if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            Self::fit_again(&mut self.ledgers).await;
            let fit: Vec<String> = self
                .ledgers
                .iter()
                .filter(|(_, kept)| kept.is_fit())
                .map(|(tenant, _)| tenant.clone())
                .collect();
            self.me.see(connection, self.keeping.folds, &fit).await?;
            let owned = self.me.renew(connection).await?;
            for (tenant, kept) in &mut self.ledgers {
                kept.keep_only(|number| owned.iter().any(|(of, owned)| of == tenant && *owned == number));
            }
            self.said = Some(Instant::now());
        }
        let generations = self.me.look(connection, &tenants, self.keeping.grace).await?;
        let members = self.me.members(connection).await?;
        for (tenant, kept) in &mut self.ledgers {
            let own: Vec<&Generation> = generations.iter().filter(|it| it.tenant == *tenant).collect();
            let preferred = preferred(tenant, &members);
            kept.reap(connection, self.me).await?;
            if own.iter().all(|it| it.state == State::Retired) {
                let number = next_number(own.iter().copied());
                again |= self.me.begin(connection, &kept.views.tenant, number).await?;
                continue;
            }
            kept.answer(&own).await;
            let sharing = Sharing { me: self.me, folds: self.keeping.folds, preferred, ended: &self.ended };
            kept.share(connection, &sharing, &own).await?;
        }
        if self.cleaned.elapsed() >= CLEAN_AGAIN {
            self.cleaned = Instant::now();
            Member::forget_absent(connection, self.keeping.keep_older).await?;
            for kept in self.ledgers.values() {
                let tenant = &kept.views.tenant;
                let expired = generations.iter().filter(|it| it.expired && it.tenant == tenant.as_str());
                let expired = expired.map(|it| (self.me.version, it.number));
                let outdated = self.me.outdated(connection, tenant, self.keeping.keep_older).await?;
                for (version, number) in expired.chain(outdated) {
                    if let Some(task) = kept.tasks.get(&number).filter(|_| version == self.me.version) {
                        task.cancel.cancel();
                    }
                    match Member::drop(connection, tenant, version, number).await {
                        Ok(()) => info!(%tenant, version, number, "views that nobody needs are dropped"),
                        Err(error) => {
                            info!(%tenant, version, number, error = error.told(), "views are still in use");
                        }
                    }
                }
            }
        }
        Ok(again)
    }
}

/// How what is to be folded is shared.
struct Sharing<'k> {
    me: Member,
    folds: bool,
    /// The process that the tenant prefers.
    preferred: Option<Uuid>,
    ended: &'k Arc<Notify>,
}

impl Kept {
    /// Whether this process can fold, as far as it knows.
    fn is_fit(&self) -> bool {
        self.stopped.is_empty() && self.unfit_until.is_none()
    }

    /// Ends the tasks of generations that this process does not own any more.
    fn keep_only(&mut self, owned: impl Fn(i32) -> bool) {
        for (number, task) in &self.tasks {
            if !owned(*number) {
                task.cancel.cancel();
            }
        }
    }

    /// Takes note of tasks that have ended, and leaves their generations to others.
    async fn reap(&mut self, connection: &mut PgConnection, me: Member) -> Result<(), Error> {
        let ended: Vec<i32> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.handle.is_finished())
            .map(|(number, _)| *number)
            .collect();
        for number in ended {
            let Some(task) = self.tasks.remove(&number) else { continue };
            let tenant = self.views.tenant.to_string();
            match task.handle.await {
                Ok(Outcome::Built) => {}
                Ok(Outcome::Stopped(Stopped::Cancelled)) => {}
                Ok(Outcome::Stopped(stopped)) => {
                    if self.views.answers_from().is_none_or(|answers| answers == number) {
                        self.views.status.send_replace(Some(Status::Stopped(stopped.clone())));
                    }
                    self.stopped.insert(number, stopped);
                }
                // Where the database was away, this is learnt only now, and nobody could have folded meanwhile.
                Ok(Outcome::GaveUp(at)) => self.unfit_until = Some(at + UNFIT),
                Ok(Outcome::NotBuilt(reason)) => {
                    warn!(tenant, number, reason, "new views are not filled yet");
                    self.build_again = Instant::now() + BUILD_AGAIN;
                }
                Err(error) => error!(tenant, number, %error, "a projector did not end well"),
            }
            me.release(connection, &tenant, number).await?;
        }
        let stopped = f64::from(u32::from(!self.stopped.is_empty()));
        gauge!("ledger_projector_stopped", "tenant" => self.views.tenant.to_string()).set(stopped);
        Ok(())
    }

    /// Lets the live generation answer, and looks first whether the journal is still the one that it is of.
    async fn answer(&self, own: &[&Generation]) {
        let Some(live) = own.iter().find(|it| it.state == State::Live) else {
            if self.views.answers_from().is_none() {
                self.views.answer_not("they are being filled");
            }
            return;
        };
        if self.views.answers_from() == Some(live.number) {
            return;
        }
        self.views.answer_from(live.number);
        // What was wrong was wrong with the one before.
        self.views.divergence.send_replace(None);
        match self.views.standing().await {
            Ok(standing) => {
                self.views.local.send_replace(standing.position);
                if let Ok(Recognised::Other(reason)) = recognise(self.journal.as_ref(), &standing).await {
                    self.views.divergence.send_replace(Some(reason));
                }
            }
            Err(error) => warn!(error = error.told(), "where the views stand is not known yet"),
        }
    }

    /// Takes what is this process's to fold, and hands over what is another's.
    async fn share(
        &mut self,
        connection: &mut PgConnection,
        sharing: &Sharing<'_>,
        own: &[&Generation],
    ) -> Result<(), Error> {
        let Sharing { me, folds, preferred, ended } = *sharing;
        let has_live = own.iter().any(|it| it.state == State::Live);
        for it in own {
            let number = it.number;
            // New views beside live ones of the same form are filled by who asked for them.
            let wanted = match it.state {
                State::Live => folds,
                State::Retired => folds && !it.expired,
                State::Building => !has_live && (folds || self.head().await == Some(Position::START)),
            };
            if let Some(task) = self.tasks.get(&number) {
                if !wanted || (preferred.is_some_and(|it| it != me.id) && it.state == State::Live) {
                    // Handed over; it is released when the task has ended.
                    task.cancel.cancel();
                }
                continue;
            }
            if !wanted || self.stopped.contains_key(&number) || self.unfit_until.is_some() {
                continue;
            }
            if it.owned && !it.mine {
                self.free_since.remove(&number);
                if folds && it.state == State::Live {
                    self.views.status.send_replace(Some(Status::Standby));
                }
                continue;
            }
            let free_since = *self.free_since.entry(number).or_insert_with(Instant::now);
            let mine_first = preferred.is_none_or(|preferred| preferred == me.id);
            if !mine_first && free_since.elapsed() < DEFERENCE {
                continue;
            }
            if it.state == State::Building && Instant::now() < self.build_again {
                continue;
            }
            if self.head().await.is_none() {
                self.unfit_until = Some(Instant::now() + UNFIT);
                return Ok(());
            }
            if me.acquire(connection, &it.tenant, number).await? {
                self.free_since.remove(&number);
                self.begin(number, it.state, ended);
            }
        }
        Ok(())
    }

    /// Where the journal ends, if it can be read.
    async fn head(&self) -> Option<Position> {
        let head = tokio::time::timeout(HEAD_PATIENCE, self.journal.head()).await;
        head.ok().and_then(Result::ok).map(|head| head.position)
    }

    fn begin(&mut self, number: i32, state: State, ended: &Arc<Notify>) {
        let cancel = CancellationToken::new();
        let ended = Arc::clone(ended);
        let handle = if state == State::Building {
            let (views, journal) = (&self.views, self.journal.clone());
            let builder = Builder::new(views, number, journal, Origin::Stream, cancel.clone());
            tokio::spawn(async move {
                let built = builder.run(Then::Switch).await;
                ended.notify_one();
                match built {
                    Ok(_) => Outcome::Built,
                    Err(Failure::Stopped(stopped)) => Outcome::Stopped(stopped),
                    Err(failure) => Outcome::NotBuilt(failure.to_string()),
                }
            })
        } else {
            let projector = Projector::new(Target::new(&self.views, number), self.journal.clone());
            let cancel = cancel.clone();
            tokio::spawn(async move {
                let stopped = projector.run(cancel).await;
                ended.notify_one();
                stopped.map_or_else(|| Outcome::GaveUp(Instant::now()), Outcome::Stopped)
            })
        };
        self.tasks.insert(number, Task { handle, cancel });
    }
}

/// The process that a tenant prefers of those that fold for it: the one with the greatest hash of both names.
fn preferred(tenant: &str, members: &[(Uuid, Vec<String>)]) -> Option<Uuid> {
    let folding = members.iter().filter(|(_, tenants)| tenants.iter().any(|it| it == tenant));
    folding.map(|(member, _)| *member).max_by_key(|member| key("owner", &[tenant, &member.to_string()]))
}

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
    /// Looks once which generation answers, for those who ask without a [`Keeper`].
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
